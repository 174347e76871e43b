"""How far a separation is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

_ROUNDING = 1e-9


class Progress(NamedTuple):
    """What a progress callback receives."""

    fraction: float | None
    """Of the song, 0 to 1; None where its length is not known."""
    eta_seconds: float | None
    """How long the rest will take, as fast as until now."""
    real_time_factor: float
    """Seconds of work per second of sound, until now."""


class Ticker:
    """Counts seconds of sound that are done, and tells a callback.

    Args:
        progress: the callback; by default there is none.
        total_seconds: the song's length, as far as it is known.
    """

    def __init__(
        self, progress: Callable[[Progress], object] | None = None, total_seconds: float | None = None
    ) -> None:
        self._progress = progress
        self._total = total_seconds
        self._done = 0.0
        self._heard = 0.0
        self._began = time.perf_counter()

    def add(self, seconds: float) -> None:
        """So much is separated."""
        self._done += seconds
        self.within(0.0)

    def within(self, seconds: float) -> None:
        """So much of the segment that is being separated has been through the network."""
        self._heard = heard = max(self._heard, self._done + seconds)  # a segment repeats some of the one before
        if self._progress is None or not heard:
            return
        worked = time.perf_counter() - self._began
        fraction = min(heard / self._total + _ROUNDING, 1.0) if self._total else None
        eta = worked * (1 / fraction - 1) if fraction else None
        self._progress(Progress(fraction, eta, worked / heard))
