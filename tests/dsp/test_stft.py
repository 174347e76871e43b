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


# --- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stereo", ["mid_side", "left_right"])
@pytest.mark.parametrize("shape", [(2, 50), (3, 2, 50), (2, 3, 2, 50), (1, 50), (1, 6, 50)])
@pytest.mark.parametrize("channels", [1, 2])
def test_channels_that_are_encoded_and_decoded_are_those_of_the_waveform(
    channels: int, shape: tuple[int, ...], stereo: str
) -> None:
    stft, waveform = Spectrogram(channels=channels, stereo=stereo), noise(*shape)
    encoded = stft.encode(waveform)
    assert encoded.shape == waveform.shape
    torch.testing.assert_close(stft.decode(encoded), waveform, atol=1e-6, rtol=0)
    turned = channels == 2 and stereo == "mid_side" and shape[-2] == 2
    assert torch.equal(encoded, waveform) != turned


def test_mid_and_side_are_half_the_sum_and_half_the_difference() -> None:
    left, right = noise(2, 50)
    encoded = Spectrogram(channels=2).encode(torch.stack([left, right]))
    torch.testing.assert_close(encoded, torch.stack([(left + right) / 2, (left - right) / 2]))


@pytest.mark.parametrize("stereo", ["mid_side", "left_right"])
def test_a_stereo_network_sees_both_channels_of_a_stereo_song(stereo: str) -> None:
    stft = Spectrogram(channels=2, stereo=stereo)
    spectrum = stft(stft.encode(noise(3, 2, 4000)))
    assert torch.equal(stft.view(spectrum), spectrum[:, :, :512].abs())


@pytest.mark.parametrize("n_channels", [1, 3, 6])
@pytest.mark.parametrize("stereo", ["mid_side", "left_right"])
def test_a_stereo_network_sees_other_songs_as_their_mono_view_in_two_equal_channels(
    stereo: str, n_channels: int
) -> None:
    """As it would see that view as a stereo song: left and right alike, nothing at the side."""
    stft = Spectrogram(channels=2, stereo=stereo)
    waveform = noise(2, n_channels, 4000)
    seen = stft.view(stft(stft.encode(waveform)))
    mono = waveform.mean(1, keepdim=True).expand(-1, 2, -1)
    torch.testing.assert_close(seen, stft.view(stft(stft.encode(mono))), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen[:, :1], Spectrogram().view(stft(waveform)))


def test_a_mono_network_sees_the_mono_view() -> None:
    stft = Spectrogram()
    for n_channels in (1, 2, 6):
        spectrum = stft(noise(2, n_channels, 4000))
        assert torch.equal(stft.view(spectrum), stft.mono_magnitude(spectrum))


def test_masks_fit_songs_of_any_number_of_channels() -> None:
    masks = torch.rand(2, 3, 2, 5, 7)
    both, apart = Spectrogram(channels=2), Spectrogram(channels=2, stereo="left_right")
    for stft in (both, apart):
        assert stft.fit(masks, 2) is masks
        assert torch.equal(stft.fit(masks[:, :, :1], 6), masks[:, :, :1])
    for n_channels in (1, 6):
        assert torch.equal(both.fit(masks, n_channels), masks[:, :, :1])
        torch.testing.assert_close(apart.fit(masks, n_channels), masks.mean(2, keepdim=True))
