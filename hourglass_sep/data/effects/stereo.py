"""Effects of stereo sources: pan, width, and swapped channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.data.effects.settings import check_range, uniform


class Pan:
    """A random balance between left and right, of constant power: the squared gains of both channels add up to 2.

    Args:
        position: range of the position: -1 leaves the left channel only, 0 both as they are, 1 the right channel only.

    Raises:
        ValueError: invalid range.
    """

    needs_stereo = True

    def __init__(self, position: Sequence[float] = (-0.5, 0.5)) -> None:
        self.position = check_range("effects.pan.position", position, -1, 1)

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        angle = (uniform(rng, self.position) + 1) * math.pi / 4
        gains = [[math.sqrt(2) * math.cos(angle)], [math.sqrt(2) * math.sin(angle)]]
        return waveform * torch.tensor(gains, dtype=waveform.dtype)


class Width:
    """A random stereo width: the side signal (left - right) / 2 times a factor; the mid signal stays.

    Args:
        width: range of the factor: 0 makes the source mono, 1 leaves it unchanged; up to 4.

    Raises:
        ValueError: invalid range.
    """

    needs_stereo = True

    def __init__(self, width: Sequence[float] = (0.0, 1.5)) -> None:
        self.width = check_range("effects.width.width", width, 0, 4)

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        more = (waveform[0] - waveform[1]) * ((uniform(rng, self.width) - 1) / 2)
        return torch.stack([waveform[0] + more, waveform[1] - more])


class ChannelSwap:
    """Left and right swapped."""

    needs_stereo = True

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        return waveform.flip(0)
