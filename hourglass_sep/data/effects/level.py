"""Level and polarity of a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.data.effects.settings import check_range, uniform


class Level:
    """A random gain.

    Args:
        gain_db: range of the gain in dB, within +-60.

    Raises:
        ValueError: invalid range.
    """

    def __init__(self, gain_db: Sequence[float] = (-6.0, 6.0)) -> None:
        self.gain_db = check_range("effects.level.gain_db", gain_db, -60, 60)

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        return waveform * 10 ** (uniform(rng, self.gain_db) / 20)


class Polarity:
    """Inverted polarity: the waveform times -1."""

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        return -waveform


def at_level_of(original: Tensor, changed: Tensor) -> Tensor:
    """Scale ``changed``, in place, to the RMS of ``original``, both (C, N), over all channels; not if one is silent."""
    ratio = float(torch.linalg.vector_norm(original) / torch.linalg.vector_norm(changed))
    return changed.mul_(ratio) if 0 < ratio < float("inf") else changed
