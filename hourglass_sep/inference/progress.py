"""Progress of a separation: fraction done, time left, speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

_ROUNDING = 1e-9


class Progress(NamedTuple):
    """Argument of progress callbacks."""

    fraction: float | None
    """Fraction of the song that is done, 0 to 1; None if its length is unknown."""
    eta_seconds: float | None
    """Estimated time for the rest, at the speed so far; None if the length is unknown."""
    real_time_factor: float
    """Seconds of computation per second of audio so far."""


class Ticker:
    """Counts separated seconds and calls a progress callback.

    Args:
        progress: callback; None for none.
        total_seconds: length of the song; None if unknown.
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
        """Count seconds that are separated completely."""
        self._done += seconds
        self.within(0.0)

    def within(self, seconds: float) -> None:
        """Report the seconds of the current segment that have passed the network."""
        self._heard = heard = max(self._heard, self._done + seconds)  # segments overlap
        if self._progress is None or not heard:
            return
        worked = time.perf_counter() - self._began
        fraction = min(heard / self._total + _ROUNDING, 1.0) if self._total else None
        eta = worked * (1 / fraction - 1) if fraction else None
        self._progress(Progress(fraction, eta, worked / heard))
