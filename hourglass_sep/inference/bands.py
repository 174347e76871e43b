"""Two bands: below, the network's frequencies; above, the remaining frequencies of songs at higher sample rates.

Below, masks multiply spectra. Above, each source gets a time-varying share of the signal. Resampling is linear and the
shares sum to one, so that stems which add up to the song in the lower band also add up to it at full bandwidth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.dsp.masks import share
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.callables import check_result
from hourglass_sep.inference.reconstruct import Reconstruction
from hourglass_sep.support.errors import NotFiniteError

_HELD_BINS = 64
_BLOCK_SAMPLES = 1 << 16
_ROUNDING = 4e-6
"""Largest rounding error, relative to the loudest sample."""


class Bands:
    """A song at its own sample rate, and its spectrum at the network's.

    Args:
        waveform: the mixture (B, C, N).
        sample_rate_hz: sample rate of the waveform.
        stft: the network's STFT; its channels (mid and side, for instance) are those of `spectrum`.

    Attributes:
        spectrum: the STFT at the network's sample rate, (B, C, F, T) complex.
    """

    def __init__(self, waveform: Tensor, sample_rate_hz: int, stft: Spectrogram) -> None:
        self._waveform = stft.encode(waveform)
        self._sample_rate_hz = sample_rate_hz
        self._stft = stft
        self._low = resample(self._waveform, sample_rate_hz, stft.sample_rate_hz)
        self.spectrum = stft(self._low)

    def rebuild(self, masks: Tensor, reconstruct: Reconstruction, high_band: str) -> Tensor:
        """Sources (B, S, C, N) from masks.

        Args:
            masks: (B, S, 1|C, F, T), refined and shared out.
            reconstruct: reconstruction of waveforms from masks and spectrum.
            high_band: see `high_band_gains`.
        """
        masks = self._stft.fit(masks, self._low.shape[1])
        stems = reconstruct(self._stft.extend(masks), self.spectrum, self._stft, self._low.shape[-1])
        check_result("reconstruct", stems, (len(masks), masks.shape[1], *self._low.shape[1:]), masks)
        gains = high_band_gains(masks, high_band)
        stems = to_full_band(stems, self._low, self._waveform, gains, self._stft, self._sample_rate_hz)
        return self._stft.decode(stems)


def with_rounding_returned(stems: Tensor, waveform: Tensor) -> Tensor:
    """Stems (B, S, C, N) corrected by their rounding error: they add up to the song (B, C, N) to the 24th bit."""
    lacking = waveform - stems.sum(1)
    return stems + lacking[:, None] / stems.shape[1] if _is_rounding(lacking, waveform) else stems


def refuse_not_finite(stems: Tensor, weights: str = "") -> None:
    """Check that stems, or masks, are finite.

    Args:
        stems: any shape, at least one element.
        weights: file of the weights, for the error message.

    Raises:
        NotFiniteError: an element is NaN or infinite.
    """
    if not math.isfinite(stems.abs().amax()):
        whose = f"the weights of {weights}" if weights else "the weights"
        raise NotFiniteError(f"the stems hold NaN or infinite samples: {whose} overflow, give others")


def _is_rounding(difference: Tensor, signal: Tensor) -> bool:
    return bool(difference.abs().amax() <= _ROUNDING * signal.abs().amax())  # False for NaN


def high_band_gains(masks: Tensor, rule: str) -> Tensor | None:
    """Each source's share of the frequencies above the masks' highest.

    Args:
        masks: (B, S, 1|C, F, T) of the lower band.
        rule: ``average``, the mean of each frame's masks; ``hold``, the mean of their highest 64 bins; or ``zero``.

    Returns:
        Gains (B, S, 1|C, T) that sum to one over the sources; None for ``zero``, an empty upper band.
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
        stems: lower band (B, S, C, n), at the STFT's sample rate.
        low: the song (B, C, n), at the STFT's sample rate.
        waveform: the song (B, C, N), at its own sample rate.
        gains: shares of the upper band (B, S, 1|C, T), see `high_band_gains`.
        stft: the network's STFT.
        sample_rate_hz: sample rate of the song.

    Returns:
        (B, S, C, N).
    """
    rate, n_samples = stft.sample_rate_hz, waveform.shape[-1]
    if sample_rate_hz == rate:
        return stems
    lacking = low - stems.sum(1)
    stems = resample(stems, rate, sample_rate_hz, n_samples)
    if gains is not None:
        high = waveform - stems.sum(1)  # includes the resampled difference between song and stems
        if not _is_rounding(lacking, low):
            high -= resample(lacking, rate, sample_rate_hz, n_samples)
        _add_at_gains(stems, high, gains, stft.hop_length * sample_rate_hz / rate)
    return stems


def _add_at_gains(stems: Tensor, signal: Tensor, gains: Tensor, samples_per_frame: float) -> None:
    """Add a signal (B, C, N) to stems (B, S, C, N), multiplied by gains (B, S, 1|C, T).

    Gain k applies at sample k * samples_per_frame; gains are interpolated linearly.
    """
    n_samples, last = signal.shape[-1], gains.shape[-1] - 1
    for first in range(0, n_samples, _BLOCK_SAMPLES):
        block = slice(first, min(first + _BLOCK_SAMPLES, n_samples))
        position = torch.arange(block.start, block.stop, dtype=torch.float64) / samples_per_frame
        left = position.long().clamp_max(last)
        weight = (position - left).to(gains)
        left = left.to(gains.device)
        gain = torch.lerp(gains[..., left], gains[..., (left + 1).clamp_max(last)], weight)
        stems[..., block] += gain * signal[:, None, :, block]
