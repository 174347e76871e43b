from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.errors import SettingError
from tests.helpers.sounds import noise


@pytest.mark.parametrize("n_samples", [1, 255, 256, 1024, 8000, 12345])
def test_inverse_gives_back_the_waveform_at_any_length(n_samples: int) -> None:
    stft = Spectrogram()
    waveform = noise(2, 3, n_samples)
    spectrum = stft(waveform)
    assert spectrum.shape == (2, 3, 513, 1 + n_samples // 256)
    torch.testing.assert_close(stft.inverse(spectrum, n_samples), waveform, atol=1e-5, rtol=1e-5)


def test_frames_are_those_of_scipys_short_time_fft() -> None:
    waveform = noise(5000)
    window = signal.windows.hann(1024, sym=False)
    theirs = signal.ShortTimeFFT(window, 256, 8000, phase_shift=None).stft(waveform.numpy(), p0=0)
    ours = Spectrogram()(waveform).numpy()
    centred = np.fft.rfft(window * waveform.numpy()[:1024])  # frame 2 is centred on sample 512
    np.testing.assert_allclose(ours[:, 2], centred, atol=1e-3)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs[:, : ours.shape[1]]), atol=1e-3)


def test_frames_that_are_not_centred_are_those_of_the_signal_padded_before() -> None:
    stft, waveform = Spectrogram(), noise(5000)
    padded = torch.nn.functional.pad(waveform, (512, 512))
    torch.testing.assert_close(stft(padded, centred=False), stft(waveform))


def test_magnitude_drops_the_last_bin_and_extend_gives_masks_for_it() -> None:
    stft = Spectrogram()
    spectrum = stft(noise(4000))
    magnitude = stft.magnitude(spectrum)
    torch.testing.assert_close(magnitude, spectrum.abs()[:512])
    masks = torch.rand(2, 512, 5)
    extended = stft.extend(masks)
    assert extended.shape == (2, 513, 5)
    assert torch.equal(extended[:, :512], masks)
    assert torch.equal(extended[:, 512], masks[:, 511])


def test_the_network_at_half_precision_does_not_lower_the_stfts() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Spectrogram()(noise(4000).bfloat16()).dtype == torch.complex64


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_freq": 514},
        {"hop_length": 513},
        {"n_fft": 0},
        {"sample_rate_hz": 8000.5},
        {"channels": 3},
        {"channels": 0},
        {"stereo": "wide"},
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"audio.{next(iter(sizes))}="):
        Spectrogram(**sizes)
