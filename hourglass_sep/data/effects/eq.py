"""Equaliser: a low shelf, peaks and a high shelf."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.data.effects.convolution import convolve, fast_length
from hourglass_sep.data.effects.level import at_level_of
from hourglass_sep.data.effects.settings import check_flag, check_range, log_uniform, uniform
from hourglass_sep.support.checks import check_whole

_BUTTERWORTH = math.sqrt(0.5)
_HIGHEST = 0.45  # largest corner frequency as a share of the sample rate
_RINGING = 1e-6  # -120 dB, at which impulse responses are cut


class EQ:
    """Random equalisation by biquads: a low shelf, peaks and a high shelf, each with a gain of its own.

    The filters are those of Bristow-Johnson's "Cookbook formulae for audio equalizer biquad filter coefficients". They
    run as one FIR filter, their common impulse response until it has decayed by 120 dB, at the cost of one biquad of
    `torchaudio.functional`.

    Args:
        gain_db: range of each filter's gain in dB, within +-24.
        low_shelf_hz: range of the low shelf's corner frequency in Hz; frequencies are drawn on a logarithmic scale, up
            to 45 % of the sample rate.
        peak_hz: range of the peaks' centre frequencies in Hz.
        high_shelf_hz: range of the high shelf's corner frequency in Hz.
        q: range of the peaks' quality factors, drawn on a logarithmic scale.
        peaks: number of peaks, up to 16.
        keep_level: scale the result to the RMS of the original.

    Raises:
        ValueError: invalid range or number.
    """

    def __init__(
        self,
        gain_db: Sequence[float] = (-6.0, 6.0),
        low_shelf_hz: Sequence[float] = (60.0, 300.0),
        peak_hz: Sequence[float] = (200.0, 6000.0),
        high_shelf_hz: Sequence[float] = (2000.0, 12000.0),
        q: Sequence[float] = (0.5, 2.0),
        peaks: int = 2,
        keep_level: bool = True,
    ) -> None:
        self.gain_db = check_range("effects.eq.gain_db", gain_db, -24, 24)
        self.low_shelf_hz = check_range("effects.eq.low_shelf_hz", low_shelf_hz, 20, 20000)
        self.peak_hz = check_range("effects.eq.peak_hz", peak_hz, 20, 20000)
        self.high_shelf_hz = check_range("effects.eq.high_shelf_hz", high_shelf_hz, 20, 20000)
        self.q = check_range("effects.eq.q", q, 0.1, 10)
        check_whole("effects.eq.peaks", peaks, least=0, most=16)
        self.peaks = peaks
        check_flag("effects.eq.keep_level", keep_level)
        self.keep_level = keep_level

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        response = impulse_response(self.draw_filters(sample_rate_hz, rng), waveform.shape[-1])
        changed = convolve(waveform, torch.from_numpy(response.astype(np.float32))[None])
        return at_level_of(waveform, changed) if self.keep_level else changed

    def draw_filters(self, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the filters' coefficients (2 + peaks, 2, 3); see `biquad`."""
        bands = [("low", self.low_shelf_hz), *[("peak", self.peak_hz)] * self.peaks, ("high", self.high_shelf_hz)]
        most = _HIGHEST * sample_rate_hz
        filters = []
        for kind, (lowest, highest) in bands:
            frequency_hz = log_uniform(rng, (min(lowest, most), min(highest, most)))
            q = log_uniform(rng, self.q) if kind == "peak" else _BUTTERWORTH
            filters.append(biquad(kind, frequency_hz / sample_rate_hz, uniform(rng, self.gain_db), q))
        return np.stack(filters)


def biquad(kind: str, frequency: float, gain_db: float, q: float) -> np.ndarray:
    """Coefficients of a filter after Bristow-Johnson's cookbook.

    Args:
        kind: ``low`` or ``high`` for a shelf, or ``peak``.
        frequency: corner or centre frequency as a share of the sample rate, below 0.5.
        gain_db: gain in dB of the shelf or at the peak.
        q: quality factor.

    Returns:
        (2, 3), numerator and denominator by powers of 1/z.
    """
    a = 10 ** (gain_db / 40)
    cosine = math.cos(2 * math.pi * frequency)
    alpha = math.sin(2 * math.pi * frequency) / (2 * q)
    if kind == "peak":
        return np.array([[1 + alpha * a, -2 * cosine, 1 - alpha * a], [1 + alpha / a, -2 * cosine, 1 - alpha / a]])
    sign = 1 if kind == "low" else -1
    root = 2 * math.sqrt(a) * alpha
    above, below = a + 1, sign * (a - 1) * cosine
    cross = sign * 2 * (a - 1), 2 * (a + 1) * cosine
    return np.array(
        [
            [a * (above - below + root), a * (cross[0] - cross[1]), a * (above - below - root)],
            [above + below + root, -(cross[0] + cross[1]), above + below - root],
        ]
    )


def impulse_response(filters: np.ndarray, most: int) -> np.ndarray:
    """Impulse response of a chain of filters (filters, 2, 3), float64 (L,), until it has decayed, or ``most`` samples.

    It is sampled in frequency, on a grid so fine that what wraps around in time has decayed by 120 dB.
    """
    a0, a1, a2 = filters[:, 1].T.astype(complex)
    root = np.sqrt(a1**2 - 4 * a0 * a2)
    radius = max(np.abs((-a1 + root) / (2 * a0)).max(), np.abs((-a1 - root) / (2 * a0)).max())
    length = fast_length(2 + math.ceil(math.log(_RINGING) / math.log(radius)))
    powers = np.exp(-2j * np.pi / length * np.arange(3)[:, None] * np.arange(length // 2 + 1))
    numerators, denominators = np.moveaxis(filters @ powers, 1, 0)
    return np.fft.irfft((numerators / denominators).prod(0), length)[:most]
