"""Stems by name: the sources, in the order of every S axis, and waveforms under these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds, and help texts need the names
    import numpy as np
    from torch import Tensor

SOURCES = ("accompaniment", "vocals")
"""The sources, in the order of every S axis; MIR-1K's left and right channel."""

MIXTURE = "mixture"
"""The name under which the unprocessed mixture is scored."""

ESTIMATE = "model"
"""The name under which the separator's own estimates are scored, beside baselines."""


class Stems(dict[str, Any]):
    """Waveforms by source, with their sample rate.

    Attributes:
        sample_rate_hz: of all of them.
    """

    def __init__(self, waveforms: Mapping[str, Tensor | np.ndarray], sample_rate_hz: int) -> None:
        super().__init__(waveforms)
        self.sample_rate_hz = sample_rate_hz
