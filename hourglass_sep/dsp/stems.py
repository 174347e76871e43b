"""Stems by name: the sources, in the order of every S axis, and waveforms under these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importable without torch, for help texts
    import numpy as np
    from torch import Tensor

SOURCES = ("accompaniment", "vocals")
"""Names of the sources in the order of every S axis; MIR-1K's left and right channel."""

MIXTURE = "mixture"
"""Name of the unprocessed mixture among scored systems."""

ESTIMATE = "model"
"""Name of the separator's estimates among scored systems."""


class Stems(dict[str, Any]):
    """Waveforms by source name, with their sample rate.

    Attributes:
        sample_rate_hz: sample rate of all waveforms.
    """

    def __init__(self, waveforms: Mapping[str, Tensor | np.ndarray], sample_rate_hz: int) -> None:
        super().__init__(waveforms)
        self.sample_rate_hz = sample_rate_hz
