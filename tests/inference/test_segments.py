"""Segments: that nobody can hear, see or measure where they begin, and that memory holds one at a time."""

from __future__ import annotations

import gc
import itertools
import math
import random
import weakref
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hourglass_sep.audio import resample
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.progress import Progress
from hourglass_sep.inference.refinement.refine import NmfRefinement
from hourglass_sep.inference.segments import Layout, process_in_segments, spoilt_frames
from hourglass_sep.inference.separator import Separator
from hourglass_sep.inference.windows import Windows
from hourglass_sep.networks.hourglass import StackedHourglass


def song(n_samples: int, seed: int = 0, channels: int = 2) -> Tensor:
    return 0.1 * torch.randn(channels, n_samples, generator=torch.Generator().manual_seed(seed))


def separator(**settings: object) -> Separator:
    """One whose masks depend on much of their window, and differ much between sources."""
    torch.manual_seed(1)
    network = StackedHourglass(stacks=1, channels=8, depth=2, fold=2)
    for weight in network.parameters():
        weight.data *= 1.6
    for head in network.heads:
        assert isinstance(head, torch.nn.Conv2d)
        assert head.bias is not None
        head.bias.data += 1.0  # masks far from zero, where shares jump
    settings = {"context_frames": 8, "fade_frames": 8, "segment_seconds": 3.0} | settings
    return Separator(network, Spectrogram(), **settings).eval()  # type: ignore[arg-type]


def in_blocks(waveform: Tensor, seed: int) -> Iterator[Tensor]:
    """Blocks of random lengths, none and one sample among them."""
    random_ = random.Random(seed)
    start = 0
    while start < waveform.shape[-1]:
        length = random_.choice([0, 1, 7, 1000, 4096, 44100, 100_000])
        yield waveform[..., start : start + length]
        start += length


def difference_db(one: Tensor, other: Tensor) -> float:
    """The largest difference relative to the largest value."""
    return 20 * math.log10(float((one - other).abs().max()) / float(other.abs().max()) + 1e-12)


@pytest.mark.slow
def test_a_song_separated_in_segments_is_the_song_separated_at_once() -> None:
    """Also at rates where frames do not fall on samples, and with windows of any kind."""
    for rate, (window, context, fade) in itertools.product(
        (8000, 16000, 44100, 44101), ((64, 8, 8), (64, 16, 0), (32, 12, 4), (20, 2, 1), (32, 15, 0))
    ):
        settings: dict[str, object] = {"window_frames": window, "context_frames": context, "fade_frames": fade}
        mixture = song(15 * rate, channels=1)
        whole = separator(segment_seconds=1000.0, **settings).separate(mixture, rate)
        cut = separator(**settings).separate(mixture, rate)
        for name in SOURCES:
            assert difference_db(cut[name], whole[name]) < -60, (rate, window, context, fade)
        assert difference_db(whole["vocals"], whole["accompaniment"]) > -20


FORMATS = {
    (44100, 4096, 1024): (44100, 48000, 22050, 32000),
    (16000, 2048, 512): (16000, 44100, 8000),
    (8000, 1024, 64): (8000, 44100),
    (16000, 2048, 128): (16000, 48000),
}
"""Rate, window and hop of networks, in samples, to rates of songs."""


@pytest.mark.parametrize(("stft", "rate"), [(stft, rate) for stft, rates in FORMATS.items() for rate in rates])
@pytest.mark.parametrize("channels", [1, 2])
def test_segments_are_exact_for_networks_of_any_rate_window_and_hop(
    stft: tuple[int, int, int], rate: int, channels: int
) -> None:
    """Masks are not shared out here: shares magnify rounding errors where all masks are near zero."""
    torch.manual_seed(1)
    network = StackedHourglass(stacks=1, channels=4, depth=2, fold=4, audio_channels=channels)
    for weight in network.parameters():
        weight.data *= 1.6
    nn.init.constant_(network.heads[0].bias, 1.0)  # type: ignore[arg-type]
    windows: dict[str, Any] = {"window_frames": 32, "context_frames": 6, "fade_frames": 4, "masks": "raw"}
    mixture = song(8 * rate, channels=channels)
    stems, numbers = [], []
    for seconds in (2.0, 1000.0):
        separator = Separator(
            network, Spectrogram(*stft, n_freq=stft[1] // 2, channels=channels), segment_seconds=seconds, **windows
        )
        parts = list(separator.stream([mixture], rate))
        numbers.append(len(parts))
        stems.append({name: torch.cat([part[name] for part in parts], -1) for name in SOURCES})
    assert numbers[0] > 2
    assert numbers[1] == 1
    for name in SOURCES:
        assert difference_db(stems[0][name], stems[1][name]) < -120, name
    assert difference_db(stems[1]["vocals"], stems[1]["accompaniment"]) > -30


def test_a_cut_spoils_half_a_window_and_the_resamplers_reach() -> None:
    assert spoilt_frames(Spectrogram(), 8000) == spoilt_frames(Spectrogram(), 44100) == 4  # Park 2018
    assert spoilt_frames(Spectrogram(8000, 1024, 64, 512), 8000) == 8 + 6
    assert spoilt_frames(Spectrogram(44100, 4096, 1024, 2048), 44100) == 2 + 1
    assert spoilt_frames(Spectrogram(44100, 4096, 1024, 2048), 8000) == 2 + 3  # its reach is longer at a lower rate
    assert spoilt_frames(Spectrogram(8000, 1000, 300, 500), 8000) == 2 + 2  # half a window is 1.67 hops


@pytest.mark.parametrize("sizes", [(8000, 1024, 64, 512), (44100, 4096, 1024, 2048), (8000, 1024, 256, 512)])
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_the_frames_that_a_cut_spoils_are_as_many_as_is_said(sizes: tuple[int, int, int, int], rate: int) -> None:
    stft = Spectrogram(*sizes)
    layout = Windows().layout(stft, rate, 1, 45.0)
    start = layout.start(1)
    first = layout.first_frame(1)
    waveform = song(start + 3 * rate, channels=1)
    whole, cut = (stft(resample(part, rate, stft.sample_rate_hz)).abs() for part in (waveform, waveform[:, start:]))
    off = (whole[..., first:] - cut[..., : whole.shape[-1] - first]).abs().amax((0, 1)) / whole.max()
    spoilt = spoilt_frames(stft, rate)
    assert float(off[0]) > 1e-3
    assert float(off[spoilt:-spoilt].max()) < 2e-6


def test_the_weights_that_ship_give_the_same_in_segments_and_at_once() -> None:
    mixture = synthesize_song(3, 20.0, 44100).sum(0)
    stems = [Separator.from_pretrained(segment_seconds=seconds).separate(mixture, 44100) for seconds in (4.0, 1000.0)]
    for name in SOURCES:
        assert difference_db(stems[0][name], stems[1][name]) < -90


def test_where_blocks_end_makes_no_difference_at_all() -> None:
    mixture = song(12 * 44100)
    whole = separator().separate(mixture, 44100)
    for seed in range(3):
        parts = list(separator().stream(in_blocks(mixture, seed), 44100))
        assert len(parts) > 3
        for name in SOURCES:
            assert torch.equal(torch.cat([part[name] for part in parts], -1), whole[name])


@pytest.mark.parametrize("length_seconds", [0.001, 2.9, 3.0, 4.6, 4.7, 6.1, 9.21])
def test_nothing_is_lost_or_doubled_whatever_the_length(length_seconds: float) -> None:
    mixture = song(round(length_seconds * 11025))
    stems = separator().separate(mixture, 11025)
    torch.testing.assert_close(stems["vocals"] + stems["accompaniment"], mixture, atol=1e-6, rtol=0)


def test_arrays_and_waveforms_without_channels_are_streamed_as_they_are() -> None:
    mixture = song(5 * 8000, channels=1)[0].numpy()
    parts = list(separator().stream(np.array_split(mixture, 3), 8000))
    assert all(part["vocals"].dim() == 1 for part in parts)
    assert list(separator().stream([], 8000)) == []


@pytest.mark.parametrize(("context", "fade"), [(8, 0), (8, 8), (16, 0), (20, 4), (24, 0), (28, 3)])
def test_segments_hold_all_that_their_part_depends_on(context: int, fade: int) -> None:
    """Windows that touch a frame of the part have all of their input, but for four frames next to a cut."""
    hop = 64 - 2 * context
    layout = Layout.of_windows(Fraction(256), hop, context, 300, fade)
    assert layout.segment % hop == 0
    for i in (1, 2, 5):
        first, end = layout.first_frame(i), layout.end(i) // 256
        part = layout.seam(i) // 256, layout.seam(i + 1) // 256 + layout.fade_samples // 256
        low, high = part[0] - 2, part[1] + 2  # an inverse STFT takes two frames on each side
        windows = [k * hop for k in range(10_000 // hop) if k * hop - fade < high and (k + 1) * hop + fade > low]
        assert windows[0] - context >= first + 4
        assert windows[-1] + hop + context <= end - 4
        assert layout.seam(i) % 256 == 0


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (torch.zeros(2, 100), "no series of blocks"),
        ("song.wav", "no series of blocks"),
        (["song.wav"], "is a str"),
        ([torch.zeros(2, 10), torch.zeros(1, 10)], "those before had"),
    ],
)
def test_what_is_no_stream_of_blocks_is_refused(blocks: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(separator().stream(blocks, 8000))  # type: ignore[arg-type]


def test_arrays_of_any_layout_are_taken(recwarn: pytest.WarningsRecorder) -> None:
    array = song(9000).numpy()
    expected = separator().separate(array, 8000)["vocals"]
    frozen = np.frombuffer(array.tobytes(), np.float32).reshape(array.shape)
    for same in (frozen, array[:, ::-1].copy()[:, ::-1], array.astype(">f4"), np.asfortranarray(array)):
        np.testing.assert_array_equal(separator().separate(same, 8000)["vocals"], expected)
    assert not recwarn.list


def test_a_long_waveform_is_not_copied_with_every_segment() -> None:
    layout = Layout.of_windows(Fraction(10), hop=16, context=4, target=64)
    longest = 0

    def process(segment: Tensor, first_frame: int) -> Tensor:
        nonlocal longest
        longest = max(longest, segment.untyped_storage().nbytes() // 4)
        return segment

    parts = process_in_segments(process, [torch.zeros(1, 1_000_000)], layout)
    assert sum(part.shape[-1] for part, _ in parts) == 1_000_000
    assert longest < 100_000


def test_turning_up_a_second_changes_nothing_outside_of_its_windows() -> None:
    rate = 16000
    mixture = song(30 * rate, channels=1)
    louder = mixture.clone()
    louder[:, 15 * rate : 16 * rate] *= 10
    window_seconds = (64 + 2) * 256 / 8000 + 0.1  # with half a window of the STFT, and the resampler's
    calm, loud = (separator().separate(sound, rate) for sound in (mixture, louder))
    for name in SOURCES:
        before = slice(0, int((15 - window_seconds) * rate))
        after = slice(int((16 + window_seconds) * rate), None)
        for part in (before, after):
            assert difference_db(loud[name][:, part], calm[name][:, part]) < -60
        assert difference_db(loud[name], calm[name]) > -20


def test_segments_that_disagree_are_cross_faded() -> None:
    layout = Layout.of_windows(Fraction(10), hop=16, context=4, target=64)
    numbers = itertools.count()
    parts = process_in_segments(lambda x, _: torch.full_like(x, next(numbers)), [torch.zeros(1, 2000)], layout)
    joined = torch.cat([part for _, part in parts], -1)[0]
    steps = joined.diff()
    assert joined.shape == (2000,)
    assert float(joined[0]) == 0
    assert float(joined[-1]) >= 2
    assert float(steps.min()) >= 0
    assert float(steps.max()) <= 1 / layout.fade_samples + 1e-6
    assert layout.fade_samples >= 40


def test_the_mixture_comes_with_its_processed_self() -> None:
    layout = Layout.of_windows(Fraction(10), hop=16, context=4, target=64)
    signal = torch.arange(3000.0)[None]
    for mixture, processed in process_in_segments(lambda x, _: 2 * x, in_blocks(signal, 3), layout):
        torch.testing.assert_close(processed, 2 * mixture)


@pytest.mark.slow
def test_only_one_segment_is_held_at_a_time() -> None:
    alive: list[weakref.ref[np.ndarray]] = []  # of the memory itself: parts are views, which keep all of it
    layout = Layout.of_windows(Fraction(10), hop=16, context=4, target=64)

    def process(segment: Tensor, first_frame: int) -> Tensor:
        gc.collect()
        assert not any(ref() is not None for ref in alive)
        memory = segment.numpy().copy()
        alive.append(weakref.ref(memory))
        return torch.from_numpy(memory)

    longest = 0
    for mixture, processed in process_in_segments(process, (torch.zeros(1, 50) for _ in range(400)), layout):
        longest = max(longest, mixture.untyped_storage().nbytes() // 4)
        del mixture, processed
    assert len(alive) > 20
    assert longest < 2 * (layout.end(0) + 50)


def test_progress_rises_to_one_and_tells_the_speed() -> None:
    seen: list[Progress] = []
    separator(batch_windows=1).separate(song(10 * 16000), 16000, progress=seen.append)
    fractions = [progress.fraction or 0.0 for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(fractions) > 5
    assert all(progress.real_time_factor > 0 for progress in seen)
    assert seen[-1].eta_seconds == 0
    middle = seen[len(seen) // 2]
    assert middle.eta_seconds == pytest.approx(middle.real_time_factor * 10 * (1 - (middle.fraction or 0)), rel=0.01)


@pytest.mark.parametrize("settings", [{"scale": "clip"}, {"refine": NmfRefinement(rank=8)}])
def test_what_looks_at_a_whole_segment_still_has_no_seams(settings: dict[str, object]) -> None:
    """A click would be a step between two samples much larger than any within the song."""
    rate = 8000
    time = torch.arange(20 * rate) / rate
    mixture = (0.3 * torch.sin(2 * torch.pi * 200 * time) * (1 + 0.5 * torch.sin(2 * torch.pi * 3 * time)))[None]
    for stem in separator(**settings).separate(mixture, rate).values():
        step = stem.diff().abs()
        assert float(step.max()) < 3 * float(mixture.diff().abs().max())


def test_windows_tell_how_far_it_is() -> None:
    network = separator().network
    fractions: list[float] = []
    Windows(20, 2).masks(network, torch.rand(1, 1, 512, 100), 2, 2, fractions.append)
    assert fractions == pytest.approx([2 / 7, 4 / 7, 6 / 7, 1.0])


def test_segments_of_many_channels_are_shorter_and_cannot_be_found_either(
    tiny_separator: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = 0.1 * torch.randn(12, 8000 * 20, generator=torch.Generator().manual_seed(0))
    lengths: list[int] = []
    separate_segment = tiny_separator._separate_segment

    def measured(segment: torch.Tensor, *more: Any) -> torch.Tensor:
        lengths.append(segment.shape[-1])
        return separate_segment(segment, *more)

    monkeypatch.setattr(tiny_separator, "_separate_segment", measured)
    whole = tiny_separator.separate(song, 8000)
    assert max(lengths) == song.shape[-1]
    lengths.clear()
    monkeypatch.setattr("hourglass_sep.inference.windows.CHANNEL_SECONDS", 12 * 4)
    cut = tiny_separator.separate(song, 8000)
    assert max(lengths) < 10 * 8000
    for name, stem in whole.items():
        torch.testing.assert_close(cut[name], stem, atol=1e-5, rtol=0)
