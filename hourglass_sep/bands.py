"""Two bands: what the network sees, at its own sample rate, and what lies above in a song of a higher one.

Below, masks multiply spectra; above, each source gets a share of the signal that changes with time only. Resampling is
linear and the shares add up to one, so that stems which add up to the song below do so altogether.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.masking import share
from hourglass_sep.spectrogram import Spectrogram

_HELD_BINS = 64
_BLOCK_SAMPLES = 1 << 16
_ROUNDING = 1e-6


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
        if not lacking.abs().amax() <= _ROUNDING * low.abs().amax():
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
