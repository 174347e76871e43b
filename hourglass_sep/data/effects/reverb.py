"""Reverberation with synthetic room impulse responses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep.data.effects.convolution import convolve
from hourglass_sep.data.effects.level import at_level_of
from hourglass_sep.data.effects.settings import check_flag, check_range, uniform

_REFLECTIONS = 8
_EARLY_SECONDS = 0.05


class Reverb:
    """Convolution with a random room: direct sound, a few early reflections, and exponentially decaying noise.

    The model of the late part is Moorer's ("About this reverberation business", Computer Music Journal, 1979). Early
    reflections have random delays and signs, follow the same decay and have half of the reverberation's energy. Each
    channel has reflections and noise of its own, so that a source in the centre gets a wide reverberation. A patch is
    reverberated by its own sound only, not by what precedes it in the song.

    Args:
        rt60_seconds: range of the time in which the reverberation decays by 60 dB, in s, up to 10.
        direct_to_reverberant_db: range of the ratio of the direct sound's energy to that of the reverberation in dB,
            within +-40.
        predelay_seconds: range of the time between direct sound and reverberation in s, up to 0.5.
        keep_level: scale the result to the RMS of the original.

    Raises:
        ValueError: invalid range.
    """

    def __init__(
        self,
        rt60_seconds: Sequence[float] = (0.2, 1.2),
        direct_to_reverberant_db: Sequence[float] = (0.0, 15.0),
        predelay_seconds: Sequence[float] = (0.002, 0.03),
        keep_level: bool = True,
    ) -> None:
        key = "effects.reverb"
        self.rt60_seconds = check_range(f"{key}.rt60_seconds", rt60_seconds, 0.01, 10)
        self.ratio_db = check_range(f"{key}.direct_to_reverberant_db", direct_to_reverberant_db, -40, 40)
        self.predelay_seconds = check_range(f"{key}.predelay_seconds", predelay_seconds, 0, 0.5)
        check_flag(f"{key}.keep_level", keep_level)
        self.keep_level = keep_level

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        wet = convolve(waveform, self.draw_response(waveform.shape[0], waveform.shape[1], sample_rate_hz, rng))
        return at_level_of(waveform, wet) if self.keep_level else wet

    def draw_response(self, channels: int, n_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """Draw an impulse response (C, L) with L up to ``n_samples``; its first sample, the direct sound, is 1."""
        rt60 = uniform(rng, self.rt60_seconds) * sample_rate_hz
        ratio_db = uniform(rng, self.ratio_db)
        first = max(1, round(uniform(rng, self.predelay_seconds) * sample_rate_hz))
        length = min(n_samples, first + math.ceil(rt60))
        if length <= first:
            return torch.ones(channels, 1)
        decay = torch.exp(torch.arange(length - first) * (-3 * math.log(10) / rt60))
        # Uniform noise is as white as Gaussian noise and drawn in a fifth of the time.
        tail = torch.from_numpy(rng.random((channels, length - first), dtype=np.float32) - np.float32(0.5)) * decay
        delays = torch.from_numpy(rng.random((channels, _REFLECTIONS))) * _EARLY_SECONDS * sample_rate_hz
        delays = delays.long().clamp_max(length - first - 1)
        signs = 2 * torch.from_numpy(rng.integers(2, size=(channels, _REFLECTIONS))) - 1
        early = torch.zeros_like(tail).scatter_(1, delays, signs * decay[delays])
        late = F.normalize(early) + F.normalize(tail)
        late = F.normalize(late) * 10 ** (-ratio_db / 20)
        return torch.cat([torch.ones(channels, 1), torch.zeros(channels, first - 1), late], 1)
