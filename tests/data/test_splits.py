from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourglass_sep.data.clips import Clip, Part, Split
from hourglass_sep.data.splits import Division, artist, authors_split, group_rule
from hourglass_sep.support.errors import DataError, SettingError

SIZES = st.lists(st.integers(1, 4), min_size=3, max_size=12)
SHARES = st.floats(0, 0.3)


def clips_of(sizes: list[int]) -> list[Clip]:
    """Clips in groups g0, g1, ... of these sizes."""
    return [
        Clip(f"g{g} - t{t}", f"g{g}", {"vocals": (Part(Path(f"{g}_{t}.wav")),)})
        for g, size in enumerate(sizes)
        for t in range(size)
    ]


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def groups(clips: list[Clip]) -> set[str]:
    return {clip.group for clip in clips}


def parts(split: Split) -> list[list[Clip]]:
    return [split.train, split.validation, split.test]


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, validation=SHARES, test=SHARES, seed=st.integers(0, 99), shuffle=st.randoms())
def test_no_group_is_on_two_sides_and_each_clip_in_one_part_in_any_order(
    sizes, validation, test, seed, shuffle
) -> None:
    clips = clips_of(sizes)
    split = Division(validation, test, seed=seed)(clips)
    train, held_out, tested = (groups(part) for part in parts(split))
    assert len(train) + len(held_out) + len(tested) == len(train | held_out | tested) == len(sizes)
    assert sorted(name for part in parts(split) for name in names(part)) == sorted(names(clips))
    assert train
    assert (bool(held_out), bool(tested)) == (validation > 0, test > 0)
    shuffle.shuffle(clips)
    assert Division(validation, test, seed=seed)(clips) == split


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, folds=st.integers(2, 8), test=st.sampled_from([0, 0.1, 0.3, ["g1"]]), seed=st.integers(0, 9))
def test_each_group_that_is_not_tested_validates_in_exactly_one_fold(sizes, folds, test, seed) -> None:
    clips = clips_of(sizes)
    if len(sizes) - len(groups(Division(0, test, seed=seed)(clips).test)) < folds:
        with pytest.raises(DataError, match=f"data.folds={folds}: lower it"):
            Division(test=test, fold=1, folds=folds, seed=seed)(clips)
        return
    splits = [Division(test=test, fold=fold + 1, folds=folds, seed=seed)(clips) for fold in range(folds)]
    assert len({tuple(names(split.test)) for split in splits}) == 1
    found = [name for split in splits for name in names(split.validation)]
    assert sorted(found) == sorted(set(names(clips)) - set(names(splits[0].test)))
    counts = [len(groups(split.validation)) for split in splits]
    assert max(counts) - min(counts) <= 1
    for split in splits:
        assert not groups(split.train) & groups(split.validation)


@pytest.mark.parametrize(("n_groups", "share", "count"), [(10, 0.2, 2), (100, 0.13, 13), (4, 0.01, 1), (15, 0.1, 2)])
def test_a_share_is_one_of_groups_rounded_and_at_least_one(n_groups: int, share: float, count: int) -> None:
    split = Division(share, 0)(clips_of([1, 5] * (n_groups // 2) + [2] * (n_groups % 2)))
    assert len(groups(split.validation)) == count


def test_shares_that_are_not_set_are_a_tenth() -> None:
    split = Division()(clips_of([1] * 40))
    assert [len(part) for part in parts(split)] == [32, 4, 4]


def test_a_new_track_of_an_old_artist_moves_no_other_track() -> None:
    before = Division(0.2, 0.2)(clips_of([1, 2, 1, 3, 1, 1, 1, 2]))
    after = Division(0.2, 0.2)(clips_of([1, 2, 1, 3, 1, 4, 1, 2]))
    assert [groups(part) for part in parts(before)] == [groups(part) for part in parts(after)]


def test_divisions_are_the_same_on_every_machine() -> None:
    split = Division(0.2, 0.2, seed=7)(clips_of([1] * 8))
    assert [sorted(groups(part)) for part in parts(split)[1:]] == [["g2", "g6"], ["g0", "g1"]]  # by SHA-256


def test_seeds_give_different_divisions() -> None:
    assert len({tuple(names(Division(0.2, 0.2, seed=seed)(clips_of([1] * 12)).test)) for seed in range(5)}) > 1


def test_lists_name_groups_or_tracks() -> None:
    split = Division(["g1"], ["g2 - t0", "g0"])(clips_of([2, 2, 1, 1]))
    assert names(split.validation) == ["g1 - t0", "g1 - t1"]
    assert names(split.test) == ["g0 - t0", "g0 - t1", "g2 - t0"]
    assert names(split.train) == ["g3 - t0"]


def test_a_drawn_test_part_leaves_the_listed_validation_groups_alone() -> None:
    for seed in range(20):
        split = Division(["g0", "g1 - t0"], 0.4, seed=seed)(clips_of([1, 1, 1, 1, 1]))
        assert groups(split.validation) == {"g0", "g1"}
        assert len(split.test) == 2


def test_listing_one_of_an_artists_tracks_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"g1 is on both sides, with g1 - t1 in train and g1 - t0 in validation: .*group="
    ):
        Division(["g1 - t0"], 0)(clips_of([1, 2, 1]))


def test_a_listed_name_that_does_not_exist_is_refused_with_the_closest() -> None:
    with pytest.raises(SettingError, match=r"data.test lists Zeno - Sings, .* from \(Zeno - Signs\?\)"):
        Division(0, ["Zeno - Sings"])([Clip(name, name, {}) for name in ("Zeno - Signs", "Mu - Too Bright")])


def test_parts_of_the_set_itself_are_kept_and_a_missing_validation_part_is_drawn_from_training() -> None:
    clips = clips_of([2, 1, 1, 1])
    own = {clip.name: {"g0": "train", "g1": "validation", "g2": "train", "g3": "test"}[clip.group] for clip in clips}
    assert [groups(part) for part in parts(Division()(clips, own))] == [{"g0", "g2"}, {"g1"}, {"g3"}]
    assert [groups(part) for part in parts(Division(0)(clips, own))] == [{"g0", "g1", "g2"}, set(), {"g3"}]
    assert [groups(part) for part in parts(Division(["g2"])(clips, own))] == [{"g0", "g1"}, {"g2"}, {"g3"}]
    folds = [Division(fold=fold, folds=3)(clips, own) for fold in (1, 2, 3)]
    assert {group for split in folds for group in groups(split.validation)} == {"g0", "g1", "g2"}
    drawn = Division()(clips, own | {"g1 - t0": "train"})
    assert (len(groups(drawn.validation)), groups(drawn.test)) == (1, {"g3"})


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_a_group_in_any_two_parts_of_the_set_itself_is_refused(one: str, other: str) -> None:
    clips = clips_of([2, 1, 1])
    own = {"g0 - t0": one, "g0 - t1": other, "g1 - t0": "train", "g2 - t0": "validation"}
    with pytest.raises(DataError, match=f"g0 is on both sides, with g0 - t0 in {one} and g0 - t1 in {other}"):
        Division()(clips, own)


def test_the_sets_own_test_part_cannot_be_replaced() -> None:
    with pytest.raises(
        SettingError, match=r"data.test=0.5 is not allowed, as the set has parts of its own: leave it out"
    ):
        Division(test=0.5)(clips_of([1, 1]), {"g0 - t0": "train", "g1 - t0": "test"})


def test_a_set_of_one_track_is_refused_unless_it_is_for_testing() -> None:
    clips = clips_of([1])
    for own in (None, {"g0 - t0": "train"}):
        with pytest.raises(DataError, match="g0 - t0 is the only track of its set: add others"):
            Division(0, None if own else 0)(clips, own)
    assert Division()(clips, {"g0 - t0": "test"}) == Split([], [], clips)


def test_too_few_groups_for_a_share_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"a share of 0.1 of 2 group\(s\) .* is none: set data.validation to 0 or"):
        Division(0.1, 0)(clips_of([3, 3]))
    with pytest.raises(DataError, match="no track is left to train on"):
        Division(["g0", "g1"], 0)(clips_of([3, 3]))
    assert len(Division(0.5, 0)(clips_of([3, 3])).validation) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 1.0}, "data.validation=1.0 is not allowed: give a share of the groups from 0 to below 1, or"),
        ({"validation": float("nan")}, "data.validation=nan"),
        ({"test": "Zeno"}, "data.test='Zeno' is not allowed"),
        ({"test": [1]}, r"data.test=\[1\] is not allowed"),
        ({"validation": True}, "data.validation=True"),
        ({"fold": 1}, "data.fold=1 needs data.folds=None"),
        ({"fold": 0, "folds": 5}, "data.fold=0 is not allowed: give a whole number from 1 on"),
        ({"fold": 6, "folds": 5}, "data.fold=6 is not allowed"),
        ({"fold": 1, "folds": 1}, "data.folds=1 is not allowed"),
        ({"fold": 1, "folds": 5, "validation": 0.1}, "data.validation=0.1 excludes data.fold"),
        ({"seed": -1}, "data.split_seed=-1"),
    ],
)
def test_invalid_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Division(**arguments)


def test_artists_are_read_from_musdbs_and_dsd100s_names() -> None:
    assert artist("Clara Berry And Wooldog - Air Traffic") == "Clara Berry And Wooldog"
    assert artist("055 - Angels In Amplifiers - I'm Alright") == "Angels In Amplifiers"
    assert artist("A - B - C") == "A"
    assert artist("Caesium") == "Caesium"


def test_groups_by_regular_expression() -> None:
    assert group_rule("track")("A - B") == "A - B"
    assert group_rule("^[a-z]+")("amy_1_01") == "amy"
    assert group_rule("singer=([^,]+)")("singer=amy,song=3") == "amy"
    with pytest.raises(DataError, match=r"data.group='artits' matches nothing in the name of track A - B: change it"):
        group_rule("artits")("A - B")
    with pytest.raises(SettingError, match="give artist, track or a regular expression"):
        group_rule("(")


def test_artists_that_the_authors_have_in_several_parts_are_divided_into_tracks() -> None:
    a, b, c, d, e = clips_of([2, 2, 1])
    split = authors_split([c, a], [], [b, e])
    assert [(clip.name, clip.group) for clip in split.train] == [("g0 - t0", "g0 - t0"), ("g1 - t0", "g1")]
    assert [(clip.name, clip.group) for clip in split.test] == [("g0 - t1", "g0 - t1"), ("g2 - t0", "g2")]
    assert authors_split([a], [d], []).validation[0].group == "g1"
