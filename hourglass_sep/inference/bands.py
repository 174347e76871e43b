"""Two bands: what the network sees, at its own sample rate, and what lies above in a song of a higher one.

Below, masks multiply spectra; above, each source gets a share of the signal that changes with time only. Resampling is
linear and the shares add up to one, so that stems which add up to the song below do so altogether.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.inference.reconstruct import Reconstruction
from hourglass_sep.signal.masks import share
from hourglass_sep.signal.stft import Spectrogram
from hourglass_sep.support.errors import NotFiniteError

_HELD_BINS = 64
_BLOCK_SAMPLES = 1 << 16
_ROUNDING = 4e-6
"""Of the loudest sample: signals that differ by no more differ by what rounding lost."""


class Bands:
    """A song at its own sample rate and, as a spectrum, at the network's.

    Args:
        waveform: (B, C, N).
        sample_rate_hz: its rate.
        stft: the network's.

    Attributes:
        spectrum: (B, C, F, T) complex.
    """

    def __init__(self, waveform: Tensor, sample_rate_hz: int, stft: Spectrogram) -> None:
        self._waveform = waveform
        self._sample_rate_hz = sample_rate_hz
        self._stft = stft
        self._low = resample(waveform, sample_rate_hz, stft.sample_rate_hz)
        self.spectrum = stft(self._low)

    def rebuild(self, masks: Tensor, reconstruct: Reconstruction, high_band: str) -> Tensor:
        """Sources (B, S, C, N) from masks.

        Args:
            masks: (B, S, F, T), as they are applied.
            reconstruct: masks and spectrum to waveforms.
            high_band: see `high_band_gains`.
        """
        stems = reconstruct(self._stft.extend(masks), self.spectrum, self._stft, self._low.shape[-1])
        gains = high_band_gains(masks, high_band)
        return to_full_band(stems, self._low, self._waveform, gains, self._stft, self._sample_rate_hz)


def with_rounding_returned(stems: Tensor, waveform: Tensor) -> Tensor:
    """Stems (B, S, C, N) that add up to the song (B, C, N) but for rounding, with what that lost: to the 24th bit."""
    lacking = waveform - stems.sum(1)
    return stems + lacking[:, None] / stems.shape[1] if _is_rounding(lacking, waveform) else stems


def refuse_not_finite(stems: Tensor, weights: str = "") -> None:
    """Look at stems, or masks, of any shape.

    Args:
        stems: at least one sample.
        weights: the file of the weights that made them, for the error.

    Raises:
        NotFiniteError: they are no sound.
    """
    if not math.isfinite(stems.abs().amax()):
        whose = f"the weights of {weights}" if weights else "the weights"
        raise NotFiniteError(f"the stems hold NaN or infinite samples: {whose} overflow, give others")


def _is_rounding(difference: Tensor, signal: Tensor) -> bool:
    return bool(difference.abs().amax() <= _ROUNDING * signal.abs().amax())  # NaN is none


def high_band_gains(masks: Tensor, rule: str) -> Tensor | None:
    """Each source's share of the frequencies above the masks' highest.

    Args:
        masks: (B, S, F, T), as they are applied below.
        rule: ``average`` takes the mean of every frame's masks, ``hold`` that of their highest 64 bins.

    Returns:
        Gains (B, S, T) that sum to one over the sources; None for ``zero``, no share for any.
    """
    if rule == "zero":
        return None
    gains = (masks if rule == "average" else masks[..., -_HELD_BINS:, :]).mean(-2, keepdim=True)
    return share(gains, "sum_to_one")[..., 0, :]


def to_full_band(
    stems: Tensor, low: Tensor, waveform: Tensor, gains: Tensor | None, stft: Spectrogram, sample_rate_hz: int
) -> Tensor:
    """Stems at a song's own sample rate.

    Args:
        stems: (B, S, C, n) at the spectrogram's rate.
        low: the song (B, C, n) at that rate.
        waveform: the song (B, C, N) at its own.
        gains: see `high_band_gains`.
        stft: whose rate and frames these are.
        sample_rate_hz: the song's.

    Returns:
        (B, S, C, N).
    """
    rate, n_samples = stft.sample_rate_hz, waveform.shape[-1]
    if sample_rate_hz == rate:
        return stems
    lacking = low - stems.sum(1)
    stems = resample(stems, rate, sample_rate_hz, n_samples)
    if gains is not None:
        high = waveform - stems.sum(1)  # with what is lacking, the song's low band: resampling is linear
        if not _is_rounding(lacking, low):
            high -= resample(lacking, rate, sample_rate_hz, n_samples)
        _add_at_gains(stems, high, gains, stft.hop_length * sample_rate_hz / rate)
    return stems


def _add_at_gains(stems: Tensor, signal: Tensor, gains: Tensor, samples_per_frame: float) -> None:
    """Add a signal (B, C, N) to stems (B, S, C, N) at gains (B, S, T).

    Gain k is that of sample k * samples_per_frame; between these they change linearly.
    """
    n_samples, last = signal.shape[-1], gains.shape[-1] - 1
    for first in range(0, n_samples, _BLOCK_SAMPLES):
        block = slice(first, min(first + _BLOCK_SAMPLES, n_samples))
        position = torch.arange(block.start, block.stop, dtype=torch.float64) / samples_per_frame
        left = position.long().clamp_max(last)
        weight = (position - left).to(gains)
        left = left.to(gains.device)
        gain = torch.lerp(gains[..., left], gains[..., (left + 1).clamp_max(last)], weight)
        stems[..., block] += gain[:, :, None] * signal[:, None, :, block]
