import logging
import math
from itertools import count, pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.refinement import nmf, refine
from hourglass_sep.inference.refinement.clusters import clusters, label_map, refine_mask
from hourglass_sep.inference.refinement.refine import NmfRefinement, by_channel
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.plotting.separation import picture
from hourglass_sep.support.errors import SettingError
from tests.helpers import literal_refinement as literal

VOCALS = 1


def magnitude(n_freq: int, n_frames: int, seed: int = 0) -> Tensor:
    """Something of low rank and a little noise, (F, T)."""
    generator = torch.Generator().manual_seed(seed)
    w, h = (torch.rand(shape, generator=generator) ** 4 for shape in ((n_freq, 5), (5, n_frames)))
    return 10 * w @ h + 0.01 * torch.rand(n_freq, n_frames, generator=generator)


def random_masks(like: Tensor, seed: int = 0) -> Tensor:
    """(1, 2, F, T) for a magnitude (F, T)."""
    return torch.rand(1, 2, *like.shape, generator=torch.Generator().manual_seed(seed))


def refined(refinement: NmfRefinement, masks: Tensor, one: Tensor) -> Tensor:
    return refinement(masks, one[None, None])


# --- the definition: labels, clusters, means -------------------------------------------------------------------------


def test_a_cell_gets_the_component_that_adds_most_to_it() -> None:
    w = torch.tensor([[3.0, 1.0], [1.0, 3.0]])
    h = torch.tensor([[1.0, 1.0, 2.0], [1.0, 4.0, 1.0]])
    assert label_map(w, h).tolist() == [[0, 1, 0], [1, 1, 1]]


def test_the_lowest_of_equal_components_wins() -> None:
    w, h = torch.tensor([[1.0, 2.0, 2.0, 1.0]]), torch.tensor([[2.0], [1.0], [1.0], [2.0]])
    assert label_map(w, h).tolist() == [[0]]
    assert label_map(w[:, 1:], torch.tensor([[2.0], [2.0], [1.0]])).tolist() == [[0]]
    assert label_map(torch.zeros(2, 3), torch.zeros(3, 2)).tolist() == [[0, 0], [0, 0]]


def test_products_are_float32() -> None:
    """Two components that only float64 could tell apart are equal."""
    w, h = torch.tensor([[1.0, 1.0 + 1e-9]], dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    assert label_map(w, h).tolist() == [[0]]


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int64, torch.bool])
def test_labels_may_be_any_whole_numbers(kind: torch.dtype) -> None:
    ends = (0, 1) if kind == torch.bool else (torch.iinfo(kind).min // 2, torch.iinfo(kind).max // 2)
    labels = torch.tensor([[ends[0], ends[1], ends[0], ends[0]]]).to(kind)
    assert clusters(labels).tolist() == [[1, 2, 3, 3]]
    assert clusters(torch.tensor([[-1, -1, 3, 2**32, 0, -1]])).tolist() == [[1, 1, 2, 3, 4, 5]]


def test_two_blobs_of_one_component_are_two_clusters() -> None:
    labels = torch.tensor([[1, 0, 1], [1, 0, 1]])
    mask = torch.tensor([[0.2, 0.5, 1.0], [0.4, 0.5, 0.6]])
    expected = torch.tensor([[0.3, 0.5, 0.8], [0.3, 0.5, 0.8]])
    torch.testing.assert_close(refine_mask(mask, labels, "mean"), expected)


def test_a_component_that_another_splits_has_two_means() -> None:
    labels = torch.tensor([[2], [2], [0], [2]])
    mask = torch.tensor([[0.0], [1.0], [0.7], [0.1]])
    torch.testing.assert_close(refine_mask(mask, labels, "mean"), torch.tensor([[0.5], [0.5], [0.7], [0.1]]))


def test_cells_that_touch_by_a_corner_are_clusters_of_their_own() -> None:
    labels, mask = torch.eye(5, dtype=torch.int64), torch.rand(5, 5)
    diagonal = torch.eye(5, dtype=torch.bool)
    assert len(set(clusters(labels)[diagonal].tolist())) == 5
    torch.testing.assert_close(refine_mask(mask, labels, "mean")[diagonal], mask[diagonal])


def test_clusters_of_one_cell_keep_their_mask() -> None:
    labels, mask = torch.arange(600_00).reshape(200, 300) - 70, torch.rand(200, 300)
    torch.testing.assert_close(refine_mask(mask, labels, "mean"), mask)


def test_rules_combine_mask_and_mean() -> None:
    labels, mask = torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[0.2, 0.6]])
    expected: dict[str | float, list[float]] = {"max": [0.4, 0.6], "mean": [0.4, 0.4]}
    expected |= {0: [0.2, 0.6], 1.0: [0.4, 0.4], 0.25: [0.25, 0.55]}
    for combine, values in expected.items():
        torch.testing.assert_close(refine_mask(mask, labels, combine), torch.tensor([values]))
    assert torch.equal(refine_mask(mask, labels), refine_mask(mask, labels, "max"))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_labels_and_masks_are_those_of_the_literal_loops(n_freq: int, n_frames: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, h = (rng.integers(0, 4, shape).astype(np.float32) for shape in ((n_freq, rank), (rank, n_frames)))  # many ties
    mask = rng.random((n_freq, n_frames), dtype=np.float32)
    labels = label_map(torch.from_numpy(w), torch.from_numpy(h))
    np.testing.assert_array_equal(labels, literal.label_map(w, h))
    means = literal.region_means(mask, labels.numpy())
    np.testing.assert_allclose(refine_mask(torch.from_numpy(mask), labels, "mean"), means, atol=1e-6)
    np.testing.assert_allclose(
        refine_mask(torch.from_numpy(mask), labels), literal.refine_mask(mask, labels.numpy()), atol=1e-6
    )


def test_a_whole_clip_is_refined_as_the_literal_loops_do_it() -> None:
    stft = Spectrogram()
    song = resample(synthesize_song(3, 4.0, 16000), 16000, 8000)
    mixture = stft.magnitude(stft(song.sum(0)))
    masks = random_masks(mixture)
    w, h = nmf.factorise(mixture, 40)
    labels = literal.label_map(w.numpy(), h.numpy())
    expected = literal.refine_mask(masks[0, VOCALS].numpy(), labels)
    found = refined(NmfRefinement(rank=40), masks, mixture)
    np.testing.assert_allclose(found[0, VOCALS], expected, atol=1e-5)
    assert torch.equal(found[0, 0], masks[0, 0])


def test_a_real_clip_is_refined_as_the_literal_loops_do_it(mir1k_root: Any) -> None:
    stft = Spectrogram()
    mixture = stft.magnitude(
        stft(resample(find_clips(mir1k_root)[40].load().stacked(SOURCES)[:, 0].sum(0), 16000, 8000))
    )
    w, h = nmf.factorise(mixture, 160)
    labels = label_map(w, h)
    np.testing.assert_array_equal(labels, literal.label_map(w.numpy(), h.numpy()))
    mask = random_masks(mixture)[0, VOCALS]
    np.testing.assert_allclose(refine_mask(mask, labels), literal.refine_mask(mask.numpy(), labels.numpy()), atol=1e-5)


# --- NmfRefinement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [["vocals"], ["accompaniment"], ["vocals", "accompaniment"], "vocals"])
def test_the_chosen_sources_masks_change_and_no_others(sources: Any) -> None:
    one = magnitude(64, 50)
    masks = random_masks(one)
    before = masks.clone()
    after = refined(NmfRefinement(rank=5, sources=sources), masks, one)
    assert torch.equal(masks, before)
    changed = [name for s, name in enumerate(refine.SOURCES) if not torch.equal(after[0, s], masks[0, s])]
    assert changed == sorted([sources] if isinstance(sources, str) else sources)


def test_songs_of_a_batch_are_refined_each_for_itself() -> None:
    mixtures = torch.stack([magnitude(64, 50, seed) for seed in (1, 2)])
    masks = torch.cat([random_masks(mixtures[0], seed) for seed in (3, 4)])
    together = NmfRefinement(rank=5)(masks, mixtures[:, None])
    for b in range(2):
        alone = NmfRefinement(rank=5)(masks[b : b + 1], mixtures[b : b + 1, None])
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-6, rtol=0)


def test_the_same_song_is_refined_the_same_to_the_bit_whatever_the_random_state() -> None:
    one = magnitude(64, 300)
    results = []
    for state in (0, 1):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        results.append(refined(NmfRefinement(rank=5, window_frames=100, overlap_frames=20), random_masks(one), one))
        assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*results)


def test_another_number_of_threads_changes_next_to_nothing() -> None:
    stft = Spectrogram()
    one = stft.magnitude(stft(resample(synthesize_song(3, 6.0, 16000).sum(0), 16000, 8000)))
    maps = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        maps += [labels for _, labels in NmfRefinement().label_maps(one)]
    assert maps[0] is not None
    assert maps[1] is not None
    assert float((maps[0] == maps[1]).float().mean()) > 0.99


def test_the_seed_draws_the_frames_that_templates_are_learned_from() -> None:
    draws = [NmfRefinement(sample_frames=100, seed=seed)._sample(5000) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    for drawn in draws:
        assert torch.equal(drawn // 50, torch.arange(100))  # one out of each hundredth of the song


@given(st.integers(1, 700), st.integers(1, 60), st.data())
@settings(max_examples=200, deadline=None)
def test_windows_cover_a_song_and_share_what_they_should(n_frames: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window // 2))
    windows = refine._windows(n_frames, window, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == n_frames
    assert {part.stop - part.start for part in windows} == {min(window, n_frames)}
    shared = [first.stop - second.start for first, second in pairwise(windows)]
    assert all(overlap <= frames < window for frames in shared)
    assert len(windows) <= 2 + n_frames // max(window - overlap, 1)
    total = torch.zeros(n_frames)
    for part in windows:
        fade = refine._fade(part, n_frames, overlap)
        assert fade.min() > 0
        assert fade.max() <= 1
        total[part] += fade
    assert total.min() > 0


def test_a_long_song_never_has_more_than_a_window_or_the_sample_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {"factorise": [], "activations": []}
    for name, frames in seen.items():
        real = getattr(nmf, name)

        def spy(one: Tensor, *rest: Any, real: Any = real, frames: list[int] = frames) -> Any:
            frames.append(one.shape[1])
            assert rest[-2:] == (3, 1.5)  # max_iter and beta
            return real(one, *rest)

        monkeypatch.setattr(nmf, name, spy)
    refinement = NmfRefinement(5, 3, 1.5, window_frames=100, overlap_frames=20, sample_frames=150)
    for n_frames, windows in ((100, 0), (1000, 13), (2000, 25)):
        seen["factorise"].clear()
        seen["activations"].clear()
        one = magnitude(16, n_frames)
        refined(refinement, random_masks(one), one)
        assert seen["factorise"] == [min(n_frames, 150)]
        assert seen["activations"] == [100] * windows


def test_labels_mean_the_same_in_all_windows_of_a_song() -> None:
    one = magnitude(64, 1000)
    maps = [*NmfRefinement(rank=5, window_frames=200, overlap_frames=100).label_maps(one)]
    assert len(maps) == 9
    for (first, labels), (second, others) in pairwise(maps):
        assert labels is not None
        assert others is not None
        shared = first.stop - second.start
        assert float((labels[:, -shared:] == others[:, :shared]).float().mean()) > 0.98


def test_windows_are_cross_faded_without_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    one = magnitude(32, 500)
    refinement = NmfRefinement(rank=5, combine="mean", window_frames=120, overlap_frames=50)
    flat = torch.full((1, 2, 32, 500), 0.3)
    torch.testing.assert_close(refined(refinement, flat, one), flat)

    numbers = count()
    monkeypatch.setattr(refine, "refine_mask", lambda mask, *_: torch.full_like(mask, float(next(numbers))))
    found = refined(refinement, flat, one)[0, VOCALS, 0]
    last = len([*refinement.label_maps(one)]) - 1
    assert (found[0], found[-1]) == (0, last)
    steps = found.diff()
    assert steps.min() >= 0  # from one window to the next, a little with every frame
    assert steps.max() < 1.5 / 50
    assert (steps > 0).sum() >= 50 * last


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({"rank": 160}, (64, 40), "rank=160"),
        ({"rank": 70}, (64, 100), "rank=70"),
        ({"rank": 20, "window_frames": 10, "overlap_frames": 5}, (64, 100), "rank=20"),
    ],
)
def test_a_rank_above_frames_or_bins_is_lowered_and_said_once(
    settings: dict[str, Any], shape: tuple[int, int], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    refinement = NmfRefinement(**settings)
    for seed in (0, 1):
        one = magnitude(*shape, seed)
        assert torch.isfinite(refined(refinement, random_masks(one), one)).all()
    assert [words in record.message for record in caplog.records] == [True]
    assert caplog.records[0].levelno == logging.WARNING


def test_silence_is_left_unrefined_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    refinement = NmfRefinement(rank=5, window_frames=100, overlap_frames=20)
    for n_frames, loudest in product((50, 300), (0.0, 0.9e-4)):  # not only digital silence
        hush = magnitude(64, n_frames)
        hush *= loudest / hush.max()
        masks = random_masks(hush)
        torch.testing.assert_close(refined(refinement, masks, hush), masks)
    half = magnitude(64, 300)
    half[:, 150:] = 0
    masks = random_masks(half)
    after = refined(refinement, masks, half)
    assert not torch.allclose(after[0, VOCALS, :, :100], masks[0, VOCALS, :, :100], atol=1e-2)
    torch.testing.assert_close(after[..., 233:], masks[..., 233:])  # where all that the windows hear is silence
    assert ["silence" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("n_frames", [50, 300])
@pytest.mark.parametrize(("w", "h"), [(math.nan, 1.0), (1.0, math.inf), (1.0, 0.0)])
def test_factors_that_mean_nothing_leave_the_mask_unrefined_and_it_is_said_once(
    w: float, h: float, n_frames: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nmf, "factorise", lambda *_: (torch.full((64, 5), w), torch.full((5, n_frames), h)))
    refinement, one = NmfRefinement(rank=5, window_frames=100, overlap_frames=10), magnitude(64, n_frames)
    for _ in range(2):
        masks = random_masks(one)
        torch.testing.assert_close(refined(refinement, masks, one), masks)
    assert ["diverged" in record.message for record in caplog.records] == [True]


def test_a_separator_with_refinement_gives_other_stems_that_still_add_up() -> None:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=1, channels=4, depth=1)
    song = synthesize_song(5, 3.0, 44100).sum(0)
    plain = Separator(network, Spectrogram()).separate(song, 44100)
    stems = Separator(network, Spectrogram(), refine=NmfRefinement(rank=30)).separate(song, 44100)
    torch.testing.assert_close(stems["vocals"] + stems["accompaniment"], song, atol=2e-6, rtol=0)
    assert float((stems["vocals"] - plain["vocals"]).norm() / plain["vocals"].norm()) > 0.01


def test_the_picture_shows_the_label_map_and_the_mask_before_and_after() -> None:
    torch.manual_seed(0)
    network, song = StackedHourglass(stacks=2, channels=4, depth=1), synthesize_song(5, 3.0, 16000).sum(0)
    titles = {}
    for name, refinement in {"none": None, "nmf": NmfRefinement(rank=30)}.items():
        figure = picture(Separator(network, Spectrogram(), refine=refinement), song, 16000)
        titles[name] = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert set(titles["nmf"]) - set(titles["none"]) == {"label map", "mask of vocals, before", "mask of vocals, after"}
    before, after, last = (
        np.asarray(titles["nmf"][title].images[0].get_array())
        for title in ("mask of vocals, before", "mask of vocals, after", "mask of vocals, stack 2")
    )
    np.testing.assert_array_equal(before, last)
    assert (after >= before).all()
    assert (after > before).any()
    assert len(np.unique(np.asarray(titles["nmf"]["label map"].images[0].get_array()))) > 10


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, "refine.rank=0"),
        ({"rank": -3}, "refine.rank=-3"),
        ({"rank": 2.5}, "refine.rank=2.5"),
        ({"max_iter": -1}, "refine.max_iter=-1"),
        ({"beta": -1.0}, "refine.beta=-1.0"),
        ({"beta": 2.5}, "refine.beta=2.5"),
        ({"seed": 2**64}, "refine.seed=18446744073709551616"),
        ({"beta": "kl"}, "refine.beta='kl'"),
        ({"beta": math.nan}, "refine.beta=nan"),
        ({"combine": "min"}, "refine.combine='min'"),
        ({"combine": 1.5}, "refine.combine=1.5"),
        ({"combine": True}, "refine.combine=True"),
        ({"window_frames": 0}, "refine.window_frames=0"),
        ({"overlap_frames": 600}, "refine.overlap_frames=600"),
        ({"sample_frames": 0}, "refine.sample_frames=0"),
        ({"seed": -1}, "refine.seed=-1"),
    ],
)
def test_a_setting_out_of_range_is_a_value_error_with_the_value(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words} is not allowed"):
        NmfRefinement(**settings)
    assert issubclass(SettingError, ValueError)
    for nothing in ((), ""):
        with pytest.raises(ValueError, match=r"sources is not allowed to be empty|sources=''"):
            NmfRefinement(sources=nothing)
    with pytest.raises(ValueError, match="sources is not allowed to be empty"):
        NmfRefinement(sources=None)  # type: ignore[arg-type]


def test_a_source_that_the_separator_does_not_have_is_named_when_it_gets_the_refinement() -> None:
    network = StackedHourglass(stacks=1, channels=4, depth=1)
    words = r"^refine\.sources='voice' is not allowed: choose from accompaniment, vocals$"
    with pytest.raises(SettingError, match=words):
        Separator(network, Spectrogram(), refine=NmfRefinement(sources=["vocals", "voice"]))
    with pytest.raises(SettingError, match=r"refine\.sources='vocals' is not allowed: choose from lead, backing"):
        Separator(network, Spectrogram(), refine=NmfRefinement(), sources=["lead", "backing"])


def test_a_refinement_refines_the_masks_that_have_its_sources_names_in_each_separator() -> None:
    """One refinement object in two separators with other orders: neither changes the other, nor the object."""
    network, one = StackedHourglass(stacks=1, channels=4, depth=1, sources=3), magnitude(512, 50)
    refinement = NmfRefinement(rank=5, sources=["drums", "vocals"])
    orders = [("vocals", "bass", "drums"), ("bass", "drums", "vocals")]
    separators = [Separator(network, Spectrogram(), refine=refinement, sources=order) for order in orders]
    masks = torch.rand(1, 3, 1, *one.shape, generator=torch.Generator().manual_seed(0))
    for separator, order in zip(separators, orders, strict=True):
        after = by_channel(separator.refine, masks, one[None, None])
        changed = {name for s, name in enumerate(order) if not torch.equal(after[0, s], masks[0, s])}
        assert changed == {"drums", "vocals"}
    unbound = refined(refinement.for_sources(["drums", "vocals"]), masks[:, :2, 0], one)
    assert not torch.equal(unbound[0, VOCALS], masks[0, VOCALS, 0])
    with pytest.raises(ValueError, match=r"expected \(B, 3, F, T\)"):
        separators[0].refine(masks[:, :2, 0], one[None, None])


@pytest.mark.parametrize(
    ("masks", "mixture", "words"),
    [
        (torch.ones(1, 2, 4, 6), torch.ones(1, 1, 4, 5), r"\(1, 2, 4, 6\).*\(1, 1, 4, 5\)"),
        (torch.ones(2, 2, 4, 5), torch.ones(1, 1, 4, 5), r"\(2, 2, 4, 5\)"),
        (torch.ones(1, 3, 4, 5), torch.ones(1, 1, 4, 5), r"\(1, 3, 4, 5\)"),
        (torch.ones(2, 4, 5), torch.ones(1, 4, 5), r"\(2, 4, 5\)"),
        (torch.ones(1, 2, 4, 5), torch.tensor([1.0, -0.5]).repeat(10).reshape(1, 1, 4, 5), "-0.5 to 1"),
        (torch.ones(1, 2, 1, 2), torch.tensor([[[[1.0, math.nan]]]]), "1 NaN"),
        (torch.ones(1, 2, 1, 2), torch.tensor([[[[1.0, math.inf]]]]), "1 to inf"),
    ],
)
def test_shapes_that_do_not_fit_and_impossible_magnitudes_are_refused_with_what_was_found(
    masks: Tensor, mixture: Tensor, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        NmfRefinement(rank=1)(masks, mixture)


def test_factors_and_labels_that_do_not_fit_are_refused() -> None:
    for w, h in (((4, 3), (2, 5)), ((4, 0), (0, 5)), ((4,), (4, 5))):
        with pytest.raises(ValueError, match="expected"):
            label_map(torch.ones(w), torch.ones(h))
    for labels in (torch.zeros(4, 6, dtype=torch.int64), torch.zeros(4, 5), torch.zeros(4, 5, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=r"\(4, 5\)"):
            refine_mask(torch.ones(4, 5), labels)
    with pytest.raises(ValueError, match=r"\(4, 0\)"):
        refine_mask(torch.ones(4, 0), torch.zeros(4, 0, dtype=torch.int64))
    with pytest.raises(SettingError, match="combine='median'"):
        refine_mask(torch.ones(4, 5), torch.zeros(4, 5, dtype=torch.int64), "median")
