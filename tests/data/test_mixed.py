from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from hourglass_sep.data.clips import Catalogue, Clip, Part, Split
from hourglass_sep.data.mixed import Mixed
from hourglass_sep.support.errors import DataError, SettingError


class Named:
    """A set of clips by part, all of whose sources have a file; counts how often it was prepared and split."""

    def __init__(
        self, sources: Sequence[str], train: Sequence[str] = (), validation: Sequence[str] = (), **more
    ) -> None:
        self.sources = tuple(sources)
        self.licence = more.get("licence", "")
        self.prepared = self.splits = 0
        self._parts = [list(train), list(validation), list(more.get("test", ()))]

    def prepare(self) -> None:
        self.prepared += 1

    def split(self) -> Split:
        self.splits += 1
        return Split(*([self._clip(name) for name in names] for names in self._parts))

    def _clip(self, name: str) -> Clip:
        stems = {source: (Part(Path(f"{name}/{source}.wav")),) for source in self.sources}
        return Clip(name, f"of {name}", stems, Part(Path(f"{name}/mixture.wav")))


PAIR = ("vocals", "accompaniment")


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def mixed(**arguments) -> Mixed:
    sets: dict[str, Catalogue] = {
        "songs": Named(PAIR, ["a", "b", "c"], ["d"], test=["e"], licence="CC BY"),
        "solo": Named(["vocals"], ["a"], ["f"], test=["g"]),
        "karaoke": Named(["accompaniment"], ["h", "i"], ["j"], licence="CC0"),
    }
    return Mixed(**({"sets": sets} | arguments))


def test_clips_of_all_sets_train_under_their_sets_name() -> None:
    catalogue: Catalogue = mixed()
    assert catalogue.sources == PAIR
    train = catalogue.split().train
    assert names(train) == ["songs/a", "songs/b", "songs/c", "solo/a", "karaoke/h", "karaoke/i"]
    assert [train[0].group, train[3].group] == ["songs/of a", "solo/of a"]


def test_a_source_that_a_set_lacks_is_unknown_and_so_is_its_mixture() -> None:
    train = mixed().split().train
    assert [list(clip.stems) for clip in (train[0], train[3], train[4])] == [list(PAIR), ["vocals"], ["accompaniment"]]
    assert [clip.mixture is None for clip in (train[0], train[3], train[4])] == [False, True, True]


def test_a_silent_source_is_silent_and_the_mixture_stays() -> None:
    split = mixed(silent={"karaoke": ["vocals"]}).split()
    clip = split.train[4]
    assert (clip.stems["vocals"], clip.mixture) == ((), Part(Path("h/mixture.wav")))
    assert list(clip.stems) == list(PAIR)
    assert names(split.validation) == ["songs/d", "karaoke/j"]


def test_only_clips_with_all_sources_validate_and_test() -> None:
    split = mixed().split()
    assert (names(split.validation), names(split.test)) == (["songs/d"], ["songs/e"])


def test_sets_to_validate_and_test_on_can_be_chosen() -> None:
    silent = {"karaoke": ["vocals"], "solo": ["accompaniment"]}
    split = mixed(silent=silent, validation_sets=["karaoke"], test_sets=[]).split()
    assert (names(split.validation), split.test) == (["karaoke/j"], [])
    with pytest.raises(
        DataError, match=r"data.validation_sets has solo, which has no validation clips with all sources"
    ):
        mixed(validation_sets=["solo"]).split()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.01, 100)), min_size=1, max_size=5))
def test_each_set_is_drawn_with_its_weight_and_its_clips_equally(sets: list[tuple[int, float]]) -> None:
    catalogue = Mixed(
        {f"s{s}": Named(PAIR, [f"c{c}" for c in range(count)]) for s, (count, _) in enumerate(sets)},
        {f"s{s}": weight for s, (_, weight) in enumerate(sets)},
    )
    found = catalogue.clip_weights()
    assert list(found) == names(catalogue.split().train)
    total = sum(weight for _, weight in sets)
    for s, (count, weight) in enumerate(sets):
        of = [value for name, value in found.items() if name.startswith(f"s{s}/")]
        assert of == pytest.approx([weight / total / count] * count)


def test_without_weights_every_clip_is_drawn_equally() -> None:
    assert set(mixed().clip_weights().values()) == {1 / 6}


def test_a_set_of_weight_zero_does_not_train() -> None:
    assert mixed(weights={"songs": 0, "solo": 1, "karaoke": 1}).clip_weights()["songs/a"] == 0


def test_sets_are_prepared_and_split_once() -> None:
    one = Named(PAIR, ["a"])
    catalogue = Mixed({"one": one})
    catalogue.prepare()
    assert (one.prepared, one.splits) == (1, 0)
    catalogue.split()
    catalogue.clip_weights()
    catalogue.split()
    assert one.splits == 1


def test_licences_are_joined_by_set() -> None:
    assert mixed().licence == "songs: CC BY; solo: not known; karaoke: CC0"
    assert Mixed({"one": Named(PAIR, ["a"])}).licence == ""


def test_mixed_sets_can_be_mixed_again() -> None:
    clip = Mixed({"all": mixed()}).split().train[0]
    assert (clip.name, clip.group) == ("all/songs/a", "all/songs/of a")


def test_a_song_that_one_set_trains_on_and_another_tests_on_is_refused() -> None:
    sets = {
        "dsd100": Named(PAIR, ["055 - Angels In Amplifiers - I'm Alright", "x"]),
        "musdb": Named(PAIR, ["y"], test=["Angels in Amplifiers - I'm Alright", "x"]),
    }
    with pytest.raises(
        DataError, match=r"dsd100/055 - .* is in train and musdb/Angels .*, in test: leave one of the sets"
    ):
        Mixed(sets).split()
    assert len(Mixed(sets, test_sets=[]).split().train) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sets": {}}, "data.sets is empty"),
        (
            {"weights": {"song": 1}},
            r"data.weights has song, which is none of data.sets \(songs\?\): choose from songs, ",
        ),
        ({"weights": {"songs": 1}}, "data.weights.solo=None is not allowed: give a number from 0 on"),
        ({"weights": {"songs": -1, "solo": 1, "karaoke": 1}}, "data.weights.songs=-1 is not allowed"),
        ({"weights": {"songs": float("nan"), "solo": 1, "karaoke": 1}}, "data.weights.songs=nan is not allowed"),
        ({"weights": {"songs": 0, "solo": 0, "karaoke": 0}}, "data.weights are all 0"),
        ({"silent": {"karaokee": ["vocals"]}}, r"data.silent has karaokee, .* \(karaoke\?\)"),
        ({"validation_sets": ["x"]}, "data.validation_sets has x"),
        ({"test_sets": ["x"]}, "data.test_sets has x"),
        ({"sources": ["vocals", "rest=bass+drums"]}, "sources has a sum: give sums as the sources of the sets"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        mixed(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sources": ["vocals"]},
            "data.sets.songs has the source accompaniment, which is none of sources: add it there",
        ),
        ({"sources": [*PAIR, "bass"]}, "sources has bass, which no set of data.sets has: leave it out"),
        ({"silent": {"songs": ["vocals"]}}, "data.silent.songs has vocals, but the set has it: leave it out"),
        ({"silent": {"solo": ["bass"]}}, "data.silent.solo has bass, but sources are vocals, accompaniment"),
    ],
)
def test_sources_that_do_not_fit_the_sets_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        mixed(**arguments).split()


def test_a_set_with_a_weight_but_without_training_clips_is_refused() -> None:
    catalogue = Mixed({"one": Named(PAIR, ["a"]), "two": Named(PAIR, [], ["b"])}, {"one": 1, "two": 1})
    with pytest.raises(DataError, match=r"the set two has no training clips: set data.weights.two=0"):
        catalogue.clip_weights()


def test_hydra_builds_it_with_its_sets(tmp_path: Path) -> None:
    for track in ("A", "B", "C"):
        for stem in ("vocals", "piano"):
            (tmp_path / stem / track).mkdir(parents=True)
            (tmp_path / stem / track / f"{stem}.wav").touch()
    target = "hourglass_sep.data.stem_sets.StemFolders"
    catalogue = instantiate(
        {
            "_target_": "hourglass_sep.data.mixed.Mixed",
            "sets": {
                "voices": {"_target_": target, "root": str(tmp_path / "vocals"), "validation": 0, "test": 0},
                "pianos": {"_target_": target, "root": str(tmp_path / "piano"), "validation": 0, "test": 0},
            },
            "weights": {"voices": 2, "pianos": 1},
            "silent": {"pianos": ["vocals"]},
        }
    )
    assert catalogue.sources == ("vocals", "piano")
    assert catalogue.clip_weights()["voices/A"] == pytest.approx(2 / 9)
    assert catalogue.split().train[3].stems["vocals"] == ()
