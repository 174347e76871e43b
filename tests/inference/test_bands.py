"""What lies above the network's frequencies: shared out by masks, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hourglass_sep.audio import resample
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.bands import high_band_gains, to_full_band

STFT = Spectrogram()


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_average_looks_at_all_bins_and_hold_at_the_highest_64() -> None:
    masks = torch.full((1, 2, 1, 512, 5), 0.5)
    masks[:, 1, 0, -64:] = 1.0
    masks[:, 0, 0, -64:] = 0.0
    masks[:, 1, 0, -65] = 0.0
    average, hold = (high_band_gains(masks, rule) for rule in ("average", "hold"))
    assert average is not None
    assert hold is not None
    assert torch.equal(hold[0, :, 0, 0], torch.tensor([0.0, 1.0]))
    expected = masks[0, :, 0, :, 0].mean(-1)
    torch.testing.assert_close(average[0, :, 0, 0], expected / expected.sum())
    assert high_band_gains(masks, "zero") is None


def test_gains_of_masks_that_do_not_add_up_do() -> None:
    for masks in (torch.rand(2, 2, 2, 512, 7), torch.zeros(2, 2, 2, 512, 7)):
        gains = high_band_gains(masks, "average")
        assert gains is not None
        torch.testing.assert_close(gains.sum(1), torch.ones(2, 2, 7))


@pytest.mark.parametrize("gain_channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 44100, 44101])
def test_the_high_band_is_the_song_less_its_low_band_at_gains_interpolated_between_frames(
    rate: int, gain_channels: int
) -> None:
    song = noise(1, 2, 2 * rate)
    low = resample(song, rate, 8000)
    gains = torch.rand(1, 2, gain_channels, 1 + low.shape[-1] // 256)
    stems = torch.stack([0.25 * low, 0.5 * low], 1)  # a quarter of the low band is in neither
    full = to_full_band(stems, low, song, gains, STFT, rate)
    back = resample(low, rate, rate) if rate == 8000 else resample(low, 8000, rate, song.shape[-1])
    times = np.arange(song.shape[-1]) / (256 * rate / 8000)
    for s, share in enumerate((0.25, 0.5)):
        for c in range(2):
            gain = np.interp(times, np.arange(gains.shape[-1]), gains[0, s, c % gain_channels].numpy())
            expected = share * back + torch.from_numpy(gain).float() * (song - back)
            torch.testing.assert_close(full[:, s, c], expected[:, c], atol=2e-6, rtol=0)


def test_without_gains_the_high_band_is_in_no_stem() -> None:
    song = noise(1, 1, 44100)
    low = resample(song, 44100, 8000)
    stems = to_full_band(low[:, None].expand(-1, 2, -1, -1) / 2, low, song, None, STFT, 44100)
    torch.testing.assert_close(stems.sum(1), resample(low, 8000, 44100, 44100), atol=1e-6, rtol=0)
