from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hourglass_sep.audio import resample
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.dsp.masks import ideal_ratio_mask
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.progress import Progress
from hourglass_sep.inference.reconstruct import MixturePhase
from hourglass_sep.inference.refinement.refine import NmfRefinement
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.metrics import si_sdr
from hourglass_sep.support.errors import SettingError

STFT = Spectrogram()


class Recorder(nn.Module):
    """Gives masks (K, B, S, C, F, T) that tell where their window was: the accompaniment's is the input itself, the
    voice's its rest."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.inputs: list[Tensor] = []

    def forward(self, magnitude: Tensor) -> Tensor:
        self.inputs.append(magnitude)
        mask = magnitude * self.weight
        masks = torch.stack([mask, 1 - mask], 1)
        return torch.stack([torch.zeros_like(masks), masks])


class Constant(nn.Module):
    """Two stacks without a channel axis: the first one's masks are useless, the second's are one number a source."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, magnitude: Tensor) -> Tensor:
        masks = self.values[None, :, None, None].expand(len(magnitude), -1, *magnitude.shape[-2:])
        return torch.stack([masks.flip(1), masks])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(9000,), (1, 9000), (2, 9000), (3, 2, 9000), (1, 1, 1), (1,), (2, 17)])
@pytest.mark.parametrize("sample_rate_hz", [8000, 16000, 44100, 44101])
def test_stems_have_the_shape_of_the_song_and_add_up_to_it(
    shape: tuple[int, ...], sample_rate_hz: int, tiny_separator: Separator
) -> None:
    song = noise(*shape)
    stems = tiny_separator.separate(song, sample_rate_hz)
    assert tuple(stems) == SOURCES
    assert {stem.shape for stem in stems.values()} == {song.shape}
    total = stems["vocals"] + stems["accompaniment"]
    torch.testing.assert_close(total, song, atol=2e-6, rtol=0)
    assert not torch.allclose(stems["vocals"], stems["accompaniment"], atol=1e-3) or song.shape[-1] < 100


def test_silence_in_is_silence_out(tiny_separator: Separator) -> None:
    for stem in tiny_separator.separate(torch.zeros(2, 30000), 44100).values():
        assert not stem.any()


def test_nothing_is_tracked_for_gradients(tiny_separator: Separator) -> None:
    assert tiny_separator.separate(noise(9000), 8000)["vocals"].requires_grad is False


def test_each_channel_keeps_its_own_sound_and_songs_of_a_batch_do_not_mix(tiny_separator: Separator) -> None:
    batch = torch.stack([noise(2, 30000, seed=1), noise(2, 30000, seed=2)])
    together = tiny_separator.separate(batch, 16000)["vocals"]
    for b in range(2):
        torch.testing.assert_close(together[b], tiny_separator.separate(batch[b], 16000)["vocals"], atol=1e-6, rtol=0)
    swapped = tiny_separator.separate(batch[0].flip(0), 16000)["vocals"]
    torch.testing.assert_close(swapped.flip(0), together[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_samples", [256, 8191, 8192, 30000])
@pytest.mark.parametrize(("window", "context"), [(64, 16), (32, 0), (7, 3)])
def test_windows_are_laid_so_that_each_frame_is_seen_once_with_its_context_mirrored_at_the_ends(
    n_samples: int, window: int, context: int
) -> None:
    network = Recorder()
    separator = Separator(network, STFT, window_frames=window, context_frames=context, scale="clip", batch_windows=3)
    magnitude = STFT.magnitude(STFT(noise(1, 1, n_samples)))
    masks = separator.stack_masks(magnitude)
    assert masks.shape == (2, 1, 2, 1, 512, magnitude.shape[-1])
    torch.testing.assert_close(masks[1, 0, 0, 0], magnitude[0, 0] / magnitude.max())
    assert all(x.shape[1:] == (1, 512, window) and len(x) <= 3 for x in network.inputs)
    windows = torch.cat(network.inputs)
    song = (magnitude[0, 0] / magnitude.max()).numpy()
    padded = torch.from_numpy(np.pad(song, ((0, 0), (context, len(windows) * window)), mode="reflect"))
    for k, seen in enumerate(windows[:, 0]):
        start = k * (window - 2 * context)
        torch.testing.assert_close(seen, padded[:, start : start + window])


@pytest.mark.parametrize(("window", "context", "fade"), [(64, 8, 8), (64, 16, 4), (20, 5, 5)])
def test_masks_of_windows_that_overlap_are_cross_faded(window: int, context: int, fade: int) -> None:
    """Windows with masks 0, 1, 0, 1, ...: in the middle of each its own, in between a straight line."""

    class Alternating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.count = -1

        def forward(self, magnitude: Tensor) -> Tensor:
            numbers = torch.arange(len(magnitude)) + self.count + 1
            self.count += len(magnitude)
            return (numbers % 2.0).reshape(1, -1, 1, 1, 1).expand(1, -1, 2, *magnitude.shape[-2:])

    settings = {"window_frames": window, "context_frames": context, "fade_frames": fade}
    masks = Separator(Alternating(), STFT, **settings).stack_masks(torch.rand(1, 1, 512, 300))[0, 0, :, 0]  # type: ignore[arg-type]
    assert masks.shape == (2, 512, 300)
    assert torch.equal(masks, masks[:1, :1].expand_as(masks))
    line, hop = masks[0, 0], window - 2 * context
    for k in range(1, 300 // hop):
        assert torch.all(line[k * hop + fade : min((k + 1) * hop, 300) - fade] == k % 2)
        expected = (torch.arange(2 * fade) + 0.5) / (2 * fade)
        found = line[k * hop - fade : k * hop + fade]
        torch.testing.assert_close(found if k % 2 else 1 - found, expected)
    assert line[0] == 0


def test_the_whole_spectrogram_may_be_one_window() -> None:
    network = Recorder()
    separator = Separator(network, STFT, window_frames=None)
    separator.separate(noise(30000), 8000)
    assert [x.shape[-1] for x in network.inputs] == [1 + 30000 // 256]


def test_window_scale_is_each_windows_own_maximum_and_clip_scale_the_clips() -> None:
    song = noise(40000) * torch.linspace(0.01, 1, 40000)
    for scale in ("window", "clip"):
        network = Recorder()
        Separator(network, STFT, scale=scale).separate(song, 8000)
        peaks = torch.cat(network.inputs).amax((1, 2, 3))
        assert float(peaks.max()) == pytest.approx(1)
        assert (float(peaks.min()) == pytest.approx(1)) == (scale == "window")


def test_a_song_that_is_louder_is_separated_alike(tiny_separator: Separator) -> None:
    song = noise(30000)
    quiet, loud = (tiny_separator.separate(gain * song, 16000)["vocals"] for gain in (0.05, 1.0))
    torch.testing.assert_close(20 * quiet, loud, atol=1e-5, rtol=0)


def test_the_last_stacks_masks_are_applied_clamped_at_zero() -> None:
    song = noise(9000)
    raw = Separator(Constant(-0.5, 0.25), STFT, masks="raw").separate(song, 8000)
    assert not raw["accompaniment"].any()
    torch.testing.assert_close(raw["vocals"], 0.25 * song, atol=1e-6, rtol=0)
    shared = Separator(Constant(0.5, 1.5), STFT).separate(song, 8000)
    torch.testing.assert_close(shared["vocals"], 0.75 * song, atol=1e-6, rtol=0)


def test_a_mask_of_one_source_alone_gives_it_the_song_and_its_high_band() -> None:
    song = noise(2, 44100)
    for high_band in ("average", "zero"):
        stems = Separator(Constant(0.0, 1.0), STFT, high_band=high_band).separate(song, 44100)
        assert not stems["accompaniment"].abs().max() > 1e-6
        kept = torch.allclose(stems["vocals"], song, atol=1e-5)
        assert kept == (high_band == "average")


def test_the_high_band_follows_the_masks_in_time() -> None:
    """Voice in the first half, band in the second; a tone at 15 kHz goes where the masks go."""
    time = torch.arange(2 * 44100) / 44100
    high = 0.1 * torch.sin(2 * torch.pi * 15000 * time)
    song = high + noise(88200) * 0.1
    separator = Separator(Constant(0.5, 0.5), STFT)
    n_frames = 1 + resample(song, 44100, 8000).shape[-1] // 256
    masks = torch.zeros(1, 2, 1, 512, n_frames)
    masks[:, 1, ..., : n_frames // 2] = 1
    masks[:, 0, ..., n_frames // 2 :] = 1
    accompaniment, vocals = separator.render(song[None, None], 44100, masks)[0, :, 0]
    torch.testing.assert_close(vocals[:40000], song[:40000], atol=1e-4, rtol=0)
    torch.testing.assert_close(accompaniment[-40000:], song[-40000:], atol=1e-4, rtol=0)
    assert float(vocals[-40000:].abs().max()) < 1e-3


def test_a_phase_inverted_channel_does_not_hide_the_song_from_the_network() -> None:
    mono = noise(30000)
    views = []
    for right in (mono, -mono):
        network = Recorder()
        Separator(network, STFT).separate(torch.stack([mono, right]), 8000)
        views.append(torch.cat(network.inputs))
    torch.testing.assert_close(views[0], views[1], atol=1e-4, rtol=1e-3)


def test_ideal_masks_separate_real_clips_well(mir1k_root: Path, tiny_separator: Separator) -> None:
    sources = find_clips(mir1k_root)[3].load().stacked(SOURCES)[:, 0]
    masks = ideal_ratio_mask(STFT(resample(sources, 16000, 8000))[:, None, :512])
    estimates = tiny_separator.render(sources.sum(0)[None, None], 16000, masks[None])[0, :, 0]
    assert float(si_sdr(sources, estimates).min()) > 9
    assert float(si_sdr(sources, sources.sum(0).expand(2, -1)).max()) < 1


class Halve:
    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        assert masks.shape == (1, 2, 512, magnitude.shape[-1])
        return masks * torch.tensor([0.5, 1.0])[:, None, None]


def test_refinement_comes_before_the_mask_rule() -> None:
    stems = Separator(Constant(1.0, 0.5), STFT, refine=Halve()).separate(noise(9000), 8000)
    torch.testing.assert_close(stems["vocals"], stems["accompaniment"])


def test_functions_of_a_users_own_refine_and_rebuild() -> None:
    def all_vocals(masks: Tensor, magnitude: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(masks[:, 0]), torch.ones_like(masks[:, 0])], 1)

    def upside_down(masks: Tensor, spectrum: Tensor, spectrogram: Spectrogram, n_samples: int) -> Tensor:
        return -MixturePhase()(masks, spectrum, spectrogram, n_samples)

    song = noise(9000)
    stems = Separator(Constant(1.0, 0.5), STFT, refine=all_vocals, reconstruct=upside_down).separate(song, 8000)
    torch.testing.assert_close(stems["vocals"], -song, atol=1e-5, rtol=0)
    assert float(stems["accompaniment"].abs().max()) < 1e-5


@pytest.mark.parametrize("part", ["nmf", NmfRefinement, 3])
def test_what_cannot_be_called_is_named(part: Any) -> None:
    with pytest.raises(SettingError, match=r"refine=.* is not allowed: give a function, or an object"):
        Separator(Constant(1.0, 0.5), STFT, refine=part)
    with pytest.raises(SettingError, match=r"reconstruct=.* is not allowed"):
        Separator(Constant(1.0, 0.5), STFT, reconstruct=part)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"refine": lambda masks, magnitude: masks[..., 1:]}, r"refine returned shape \(1, 2, 512, \d+\): return \("),
    ({"refine": lambda masks, magnitude: None}, r"refine returned a NoneType: return a tensor of shape \(1, 2"),
    ({"refine": lambda masks, magnitude: masks.numpy()}, r"refine returned a ndarray"),
    ({"refine": lambda masks, magnitude: masks * torch.nan}, r"refine returned NaN or infinite values"),
    ({"reconstruct": lambda masks, *rest: MixturePhase()(masks[:, [0, 1, 1]], *rest)}, r"returned shape \(1, 3, 2"),
    ({"reconstruct": lambda *parts: MixturePhase()(*parts)[:, :, :1]}, r"returned shape \(1, 2, 1, .*return \(1, 2, 2"),
    ({"reconstruct": lambda *parts: MixturePhase()(*parts)[..., 3:]}, r"reconstruct returned shape"),
    ({"reconstruct": lambda *parts: None}, r"reconstruct returned a NoneType"),
]


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_what_a_users_callable_gets_wrong_is_named(settings: dict[str, Any], words: str, rate: int) -> None:
    with pytest.raises(SettingError, match=words):
        Separator(Constant(1.0, 0.5), STFT, **settings).separate(noise(2, 30000), rate)


class Swap:
    def __call__(self, masks: Tensor, spectrum: Tensor, spectrogram: Spectrogram, n_samples: int) -> Tensor:
        assert masks.shape[-2:] == spectrum.shape[-2:] == (513, 1 + n_samples // 256)
        return MixturePhase()(masks.flip(1), spectrum, spectrogram, n_samples)


@pytest.mark.parametrize("sample_rate_hz", [8000, 16000])
def test_the_separator_rebuilds_sounds_by_the_rule_it_is_given(sample_rate_hz: int) -> None:
    song = noise(2, 9000)
    plain, swapped = (
        Separator(Constant(0.9, 0.1), STFT, reconstruct=rule, high_band="zero").separate(song, sample_rate_hz)
        for rule in (None, Swap())
    )
    torch.testing.assert_close(swapped["vocals"], plain["accompaniment"])


@pytest.mark.parametrize(
    ("waveform", "rate", "words"),
    [
        (torch.zeros(1, 1, 2, 100), 8000, "shape"),
        (torch.zeros(2, 0), 8000, "shape"),
        (torch.tensor([0.0, torch.nan]), 8000, "NaN"),
        (torch.zeros(100), 0, "sample_rate_hz=0"),
        (torch.zeros(100), 1, "1000 to 768000 Hz"),
        (torch.zeros(5000, 2), 8000, r"give \(C, N\)"),
        (torch.zeros(100, dtype=torch.int16), 8000, "int16"),
        ("song.wav", 8000, "has its own"),
    ],
)
def test_a_waveform_that_cannot_be_separated_is_refused(
    waveform: Tensor | str, rate: int, words: str, tiny_separator: Separator
) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_separator.separate(waveform, rate)


def test_windows_whose_fades_would_meet_are_refused() -> None:
    with pytest.raises(SettingError, match="fade_frames=3"):
        Separator(Constant(1.0, 1.0), STFT, window_frames=20, context_frames=8, fade_frames=3)


def test_separating_leaves_a_network_in_the_mode_it_was_in(tiny_separator: Separator) -> None:
    for training in (True, False):
        tiny_separator.network.train(training)
        tiny_separator.separate(noise(3000), 8000)
        assert tiny_separator.network.training == training
    tiny_separator.network.train()
    with pytest.raises(ValueError, match="NaN"):
        tiny_separator.separate(torch.tensor([torch.nan]), 8000)
    assert tiny_separator.network.training


def test_progress_ends_with_all_of_the_song(tiny_separator: Separator) -> None:
    for n_samples in (1, 1000, 7777, 44101):
        seen: list[Progress] = []
        tiny_separator.separate(noise(n_samples), 44101, progress=seen.append)
        assert seen[-1].fraction == 1.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("refine", "nmf"),
        ("reconstruct", "misi"),
        ("scale", "song"),
        ("masks", "softmax"),
        ("high_band", "copy"),
        ("window_frames", 32),
        ("context_frames", -1),
        ("fade_frames", 17),
    ],
)
def test_settings_that_do_not_exist_are_named(setting: str, value: object) -> None:
    with pytest.raises(SettingError, match=str(value)):
        Separator(Constant(1.0, 1.0), STFT, **{"context_frames": 16, setting: value})  # type: ignore[arg-type]
