"""Networks of two channels, mid and side or left and right: songs of any number of channels, and all uses of masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hourglass_sep.dsp.stft import STEREO, Spectrogram
from hourglass_sep.inference.reconstruct import Misi, MixturePhase, Reconstruction, Wiener
from hourglass_sep.inference.refinement.refine import NmfRefinement, by_channel
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from tests.helpers.sounds import noise

SOURCES = ("vocals", "drums", "bass")
SIZES = {"n_fft": 256, "hop_length": 64, "n_freq": 120}


def network(channels: int = 2) -> nn.Module:
    """A random network with masks that differ between sources, channels and cells."""
    torch.manual_seed(3)
    made = StackedHourglass(stacks=1, channels=8, depth=2, sources=len(SOURCES), audio_channels=channels)
    for weight in made.parameters():
        weight.data *= 1.8
    nn.init.constant_(made.heads[0].bias, 1.0)  # type: ignore[arg-type]
    return made


def separator(made: nn.Module, stereo: str = "mid_side", channels: int = 2, **settings: Any) -> Separator:
    stft = Spectrogram(**SIZES, channels=channels, stereo=stereo)
    return Separator(made, stft, sources=SOURCES, **settings).eval()


def song(*shape: int, seed: int = 0) -> Tensor:
    """Noise whose last channels are quieter, as sides are."""
    channels = shape[-2]
    gains = torch.linspace(1.0, 0.4, channels)[:, None] if channels > 1 else torch.ones(1, 1)
    return 0.1 * gains * noise(*shape, seed=seed)


def stacked(made: Separator, waveform: Tensor, rate: int = 8000) -> Tensor:
    return made.separate(waveform, rate).stacked(SOURCES)


class Wrapped(nn.Module):
    """A mono network: what a stereo network makes of a mono view, one mask a source."""

    def __init__(self, inner: nn.Module, stereo: str) -> None:
        super().__init__()
        self.inner, self.stereo = inner, stereo

    def forward(self, magnitude: Tensor) -> Tensor:
        second = torch.zeros_like(magnitude) if self.stereo == "mid_side" else magnitude
        masks = self.inner(torch.cat([magnitude, second], 1)).clamp_min(0)
        return masks[:, :, :, :1] if self.stereo == "mid_side" else masks.mean(3, keepdim=True)


class First(nn.Module):
    """A stereo network that looks at its first channel only, and gives one mask for both."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.inner(magnitude[:, :1])


class Apart(nn.Module):
    """A network that makes each channel's masks from that channel, in the same way."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, magnitude: Tensor) -> Tensor:
        masks = self.inner(magnitude.flatten(0, 1)[:, None])  # (K, B * C, S, 1, F, T)
        return masks[:, :, :, 0].unflatten(1, magnitude.shape[:2]).transpose(2, 3)


@pytest.mark.parametrize("stereo", STEREO)
@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("shape", [(9000,), (1, 9000), (2, 9000), (6, 9000), (3, 2, 9000), (1, 2, 1)])
def test_stems_of_songs_of_any_number_of_channels_add_up(shape: tuple[int, ...], rate: int, stereo: str) -> None:
    waveform = song(*shape) if len(shape) > 1 else song(1, *shape)[0]
    stems = stacked(separator(network(), stereo), waveform, rate)
    assert stems.shape == (3, *shape)
    torch.testing.assert_close(stems.sum(0), waveform, atol=2e-6, rtol=0)
    if shape[-1] > 1:
        assert float((stems[0] - stems[1]).abs().max()) > 0.01


@pytest.mark.parametrize("stereo", STEREO)
def test_songs_of_a_batch_do_not_mix(stereo: str) -> None:
    made, batch = separator(network(), stereo), torch.stack([song(2, 9000, seed=1), song(2, 9000, seed=2)])
    together = stacked(made, batch, 16000)
    for b in range(2):
        torch.testing.assert_close(together[:, b], stacked(made, batch[b], 16000), atol=1e-6, rtol=0)


@pytest.mark.parametrize("stereo", STEREO)
def test_each_channel_has_its_own_masks(stereo: str) -> None:
    """Raw masks of 0 and 1 keep one of the two channels in a stem."""

    class Switch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]]))

        def forward(self, magnitude: Tensor) -> Tensor:
            return self.values[None, None, :, :, None, None].expand(1, len(magnitude), -1, -1, *magnitude.shape[-2:])

    waveform = song(2, 9000)
    left, right = waveform
    stems = stacked(separator(Switch(), stereo, masks="raw"), waveform)
    if stereo == "left_right":
        first, second = torch.stack([left, 0 * left]), torch.stack([0 * right, right])
    else:
        first, second = ((left + right) / 2).expand(2, -1), torch.stack([left - right, right - left]) / 2
    for stem, expected in zip(stems, (first, second, first / 2), strict=True):
        torch.testing.assert_close(stem, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("masks", ["raw", "sum_to_one"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_swapping_left_and_right_swaps_the_stems_of_mid_and_side(rate: int, masks: str) -> None:
    """Magnitudes do not have the side's sign, so that no network can tell."""
    made, waveform = separator(network(), masks=masks), song(2, 9000)
    swapped = stacked(made, waveform.flip(0), rate).flip(1)
    torch.testing.assert_close(swapped, stacked(made, waveform, rate), atol=1e-6, rtol=0)
    other = separator(network(), "left_right", masks=masks)
    assert float((stacked(other, waveform.flip(0), rate).flip(1) - stacked(other, waveform, rate)).abs().max()) > 0.01


def test_swapping_left_and_right_swaps_the_stems_of_a_network_that_treats_them_alike() -> None:
    made, waveform = separator(Apart(network(1)), "left_right"), song(2, 9000)
    torch.testing.assert_close(stacked(made, waveform.flip(0)).flip(1), stacked(made, waveform), atol=1e-6, rtol=0)


@pytest.mark.parametrize("stereo", STEREO)
@pytest.mark.parametrize("n_channels", [1, 3, 6])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_song_that_has_not_two_channels_is_separated_by_its_mono_view(
    stereo: str, n_channels: int, rate: int
) -> None:
    waveform = song(n_channels, 9000)
    found = stacked(separator(network(), stereo, masks="raw"), waveform, rate)
    expected = stacked(separator(Wrapped(network(), stereo), channels=1, masks="raw"), waveform, rate)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stereo", STEREO)
@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_mono_song_is_separated_as_a_stereo_song_of_two_equal_channels(stereo: str, rate: int) -> None:
    """Of left and right, whose masks may differ, as the mean of that song's stems."""
    made, waveform = separator(network(), stereo), song(1, 9000)
    mono, both = stacked(made, waveform, rate), stacked(made, waveform.expand(2, -1), rate)
    torch.testing.assert_close(mono, both.mean(1, keepdim=True), atol=1e-5, rtol=0)
    if stereo == "mid_side":
        torch.testing.assert_close(both[:, :1], both[:, 1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_network_that_looks_at_the_mid_only_separates_as_a_mono_network(rate: int) -> None:
    """Turning to mid and side is linear: one mask for both is one mask for left and right."""
    waveform = song(1, 9000).expand(2, -1) + 0.1 * song(2, 9000, seed=1)
    inner = network(1)
    mono, stereo = (stacked(separator(made, channels=c), waveform, rate) for made, c in ((inner, 1), (First(inner), 2)))
    torch.testing.assert_close(stereo, mono, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_stereo_masks_are_refined_channel_by_channel(n_channels: int) -> None:
    refinement = NmfRefinement(rank=5, sources=["drums"])
    made = separator(network(), refine=refinement)
    masks = torch.rand(2, 3, n_channels, 120, 40, generator=torch.Generator().manual_seed(0))
    magnitude = 10 * torch.rand(2, 2, 120, 40, generator=torch.Generator().manual_seed(1)) ** 4
    found = by_channel(made.refine, masks, magnitude)
    assert torch.equal(found[:, [0, 2]], masks[:, [0, 2]])
    seen = magnitude if n_channels == 2 else magnitude.mean(1, keepdim=True)
    alone = refinement.for_sources(SOURCES)
    for b in range(2):
        for c in range(n_channels):
            expected = alone(masks[b : b + 1, :, c], seen[b : b + 1, c : c + 1])
            torch.testing.assert_close(found[b : b + 1, :, c], expected)
            assert not torch.equal(expected[0, 1], masks[b, 1, c])


def test_a_refinement_gets_the_magnitude_that_belongs_to_each_mask() -> None:
    """One that returns it as the mask of each source: the stems are those of masks equal to the magnitude."""

    def echo(masks: Tensor, magnitude: Tensor) -> Tensor:
        assert masks.shape[1] == 3
        assert magnitude.shape == (len(masks), 1, *masks.shape[2:])
        return magnitude.expand_as(masks)

    made = separator(network(), refine=echo, masks="raw")
    magnitude = torch.rand(3, 2, 120, 40)
    masks = made.estimate_masks(magnitude)
    assert torch.equal(masks, magnitude[:, None].expand(-1, 3, -1, -1, -1))


RULES = [Wiener(), Wiener(3), Misi(), Misi(1)]


@pytest.mark.parametrize("stereo", STEREO)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}")
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_stems_of_stereo_masks_add_up_by_any_rule(rule: Reconstruction, n_channels: int, stereo: str) -> None:
    waveform = song(n_channels, 9000)
    stems = stacked(separator(network(), stereo, reconstruct=rule), waveform, 16000)
    torch.testing.assert_close(stems.sum(0), waveform, atol=2e-6, rtol=0)
    plain = stacked(separator(network(), stereo), waveform, 16000)
    assert float((stems - plain).abs().max()) > 2e-4


def test_misi_of_stereo_masks_is_that_of_each_channel_alone() -> None:
    stft = Spectrogram(**SIZES, channels=2)  # type: ignore[arg-type]
    spectrum = stft(noise(1, 2, 4000))
    masks = torch.rand(1, 3, 2, *spectrum.shape[-2:], generator=torch.Generator().manual_seed(0))
    both = Misi(3)(masks, spectrum, stft, 4000)
    for c in range(2):
        alone = Misi(3)(masks[:, :, c : c + 1], spectrum[:, c : c + 1], stft, 4000)
        torch.testing.assert_close(both[:, :, c : c + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", [MixturePhase(), *RULES], ids=lambda rule: f"{type(rule).__name__}")
def test_equal_masks_of_both_channels_are_one_for_all(rule: Reconstruction) -> None:
    stft = Spectrogram(**SIZES, channels=2)  # type: ignore[arg-type]
    spectrum = stft(noise(1, 2, 4000))
    masks = torch.rand(1, 3, 1, *spectrum.shape[-2:], generator=torch.Generator().manual_seed(0))
    twice = rule(masks.expand(-1, -1, 2, -1, -1), spectrum, stft, 4000)
    torch.testing.assert_close(twice, rule(masks, spectrum, stft, 4000), atol=1e-6, rtol=0)


def test_the_high_band_of_each_channel_follows_its_own_masks() -> None:
    """A tone at 15 kHz at the side goes to the source that has the side, one in the middle to that of the mid."""
    time = torch.arange(44100) / 44100
    mid, side = 0.1 * torch.sin(2 * torch.pi * 15000 * time), 0.1 * torch.sin(2 * torch.pi * 12000 * time)
    waveform = torch.stack([mid + side, mid - side])
    made = separator(network())
    masks = torch.zeros(1, 3, 2, 120, 126)
    masks[:, 0, 0] = 1
    masks[:, 2, 1] = 1
    vocals, drums, bass = made.render(waveform[None], 44100, masks)[0]
    torch.testing.assert_close(vocals, mid.expand(2, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(bass, torch.stack([side, -side]), atol=1e-4, rtol=0)
    assert float(drums.abs().max()) < 1e-4


@pytest.mark.parametrize("stereo", STEREO)
def test_a_stereo_separator_is_what_its_weights_rebuild(stereo: str, tmp_path: Path) -> None:
    made, waveform = separator(network(), stereo), song(2, 9000)
    made.save_weights(tmp_path / "a.safetensors", {})
    again = Separator.from_checkpoint(tmp_path / "a.safetensors")
    assert again.description == made.description
    assert (again.spectrogram.channels, again.spectrogram.stereo) == (2, stereo)
    torch.testing.assert_close(stacked(again, waveform), stacked(made, waveform), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("scale", "stereo"), [("window", "mid_side"), ("clip", "left_right")])
def test_both_channels_have_one_scale(scale: str, stereo: str) -> None:
    """The louder one's: their ratio says where a source is."""
    inputs: list[Tensor] = []

    class Recorder(First):
        def forward(self, magnitude: Tensor) -> Tensor:
            inputs.append(magnitude)
            return super().forward(magnitude)

    mono = song(1, 9000)
    waveform = torch.cat([mono, 0.5 * mono]) if stereo == "left_right" else torch.cat([1.5 * mono, 0.5 * mono])
    stacked(separator(Recorder(network(1)), stereo, scale=scale), waveform)
    for windows in inputs:
        torch.testing.assert_close(windows[:, 1], 0.5 * windows[:, 0], atol=1e-6, rtol=1e-3)
    assert float(torch.cat(inputs).max()) == pytest.approx(1)
