"""Short-time Fourier transform and its inverse; the only place that drops and restores the highest bin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchaudio import functional

from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError

STEREO = ("mid_side", "left_right")
"""The two channels of a stereo network: ``mid_side``, half the sum and half the difference of left and right;
``left_right``, as they are."""

MOST_CHANNELS = 2
_CANCELLED = 0.01
"""Ratio of mono to channel energy below which the mean of the channels counts as cancelled in a frame (-20 dB)."""


class Spectrogram(nn.Module):
    """STFT with a Hann window, in float32 whatever the network's precision.

    Args:
        sample_rate_hz: sample rate of the waveforms; the separator resamples to it.
        n_fft: window length in samples.
        hop_length: hop between frames in samples.
        n_freq: number of bins of the network's input, from 0 Hz on (Park 2018: 512 of n_fft // 2 + 1 = 513).
        channels: channels C of the network's input: 1, the mean of a song's channels, or 2, see ``stereo``.
        stereo: the two channels of a stereo network, a name from `STEREO`.

    Raises:
        ValueError: sizes that do not match, or an unknown name.
    """

    def __init__(
        self,
        sample_rate_hz: int = 8000,
        n_fft: int = 1024,
        hop_length: int = 256,
        n_freq: int = 512,
        channels: int = 1,
        stereo: str = STEREO[0],
    ) -> None:
        super().__init__()
        sizes = {
            "sample_rate_hz": sample_rate_hz,
            "n_fft": n_fft,
            "hop_length": hop_length,
            "n_freq": n_freq,
        }
        for name, value in sizes.items():
            check_whole(f"audio.{name}", value)
        check_whole("audio.channels", channels, most=MOST_CHANNELS)
        check_choice("audio.stereo", stereo, STEREO)
        if n_freq > n_fft // 2 + 1:
            raise SettingError(f"audio.n_freq={n_freq} is not allowed: n_fft={n_fft} has {n_fft // 2 + 1} bins")
        if hop_length > n_fft // 2:
            raise SettingError(
                f"audio.hop_length={hop_length} is not allowed: at most n_fft / 2 = {n_fft // 2}, or the inverse fails"
            )
        self.config: dict[str, Any] = sizes | {"channels": channels, "stereo": stereo}
        self.sample_rate_hz = sample_rate_hz
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_freq = n_freq
        self.channels = channels
        self.stereo = stereo

    def encode(self, waveform: Tensor) -> Tensor:
        """The channels that masks are applied to: (..., C, N) to (..., C, N), mid and side of two if so set."""
        if not self._rotates(waveform):
            return waveform
        left, right = waveform.unbind(-2)
        return torch.stack([(left + right) / 2, (left - right) / 2], -2)

    def decode(self, waveform: Tensor) -> Tensor:
        """The inverse of `encode`."""
        if not self._rotates(waveform):
            return waveform
        mid, side = waveform.unbind(-2)
        return torch.stack([mid + side, mid - side], -2)

    def _rotates(self, waveform: Tensor) -> bool:
        return self.channels == 2 and waveform.shape[-2] == 2 and self.stereo == "mid_side"

    def forward(self, waveform: Tensor, centred: bool = True) -> Tensor:
        """(..., N) to the complex spectrum (..., n_fft // 2 + 1, T), T = 1 + N // hop_length.

        Frame k is centred on sample k * hop_length, zeros beyond the ends. With ``centred=False`` frame k starts
        there instead and nothing is padded (for crops out of a signal padded before).
        """
        return functional.spectrogram(
            waveform.float(),
            pad=0,
            window=self._window(waveform.device),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.n_fft,
            power=None,
            normalized=False,
            center=centred,
            pad_mode="constant",
        )

    def magnitude(self, spectrum: Tensor) -> Tensor:
        """Magnitude of the network's bins: (..., n_fft // 2 + 1, T) complex to (..., n_freq, T)."""
        return spectrum[..., : self.n_freq, :].abs()

    def view(self, spectrum: Tensor) -> Tensor:
        """The network's input: (B, C, F, T) complex, all bins of encoded channels, to (B, `channels`, n_freq, T).

        A stereo network sees a song that has not two channels as one whose channels are equal to its mono view.
        """
        if self.channels == 1:
            return self.mono_magnitude(spectrum)
        if spectrum.shape[1] == 2:
            return self.magnitude(spectrum)
        mono = self.mono_magnitude(spectrum)
        return torch.cat([mono, torch.zeros_like(mono) if self.stereo == "mid_side" else mono], 1)

    def fit(self, masks: Tensor, channels: int) -> Tensor:
        """Masks for a song with this number of channels: (B, S, C, F, T) to (B, S, 1|channels, F, T)."""
        if masks.shape[-3] == 1 or channels == 2:
            return masks
        return masks[..., :1, :, :] if self.stereo == "mid_side" else masks.mean(-3, keepdim=True)

    def mono_magnitude(self, spectrum: Tensor) -> Tensor:
        """The mono view of all channels: (B, C, F, T) complex, all bins, to a magnitude (B, 1, n_freq, T).

        Magnitude of the mean of the channels; in frames where it cancels (L = -R), root mean square of their
        magnitudes.
        """
        mean = self.magnitude(spectrum.mean(1, keepdim=True))
        if spectrum.shape[1] == 1:
            return mean
        power = torch.view_as_real(spectrum[..., : self.n_freq, :]).square().sum(-1).mean(1, keepdim=True)
        cancelled = mean.square().sum(-2, keepdim=True) < _CANCELLED * power.sum(-2, keepdim=True)
        return torch.where(cancelled, power.sqrt(), mean)

    def extend(self, masks: Tensor) -> Tensor:
        """Masks for all bins: (..., n_freq, T) to (..., n_fft // 2 + 1, T); dropped bins get the highest bin's mask."""
        missing = self.n_fft // 2 + 1 - masks.shape[-2]
        return torch.cat([masks, masks[..., -1:, :].expand(*masks.shape[:-2], missing, -1)], dim=-2)

    def inverse(self, spectrum: Tensor, n_samples: int) -> Tensor:
        """The waveform (..., n_samples) of a complex spectrum (..., n_fft // 2 + 1, T)."""
        return functional.inverse_spectrogram(
            spectrum,
            length=n_samples,
            pad=0,
            window=self._window(spectrum.device),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.n_fft,
            normalized=False,
        )

    def _window(self, device: torch.device) -> Tensor:
        # Not a buffer: DDP would broadcast it before every forward pass, also in validation, where ranks are not
        # synchronised.
        return torch.hann_window(self.n_fft, device=device)
