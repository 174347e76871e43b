"""Projections of signals on filtered references: the linear algebra of BSS Eval.

Axes: S sources, C channels, N samples, E estimates; R = S * C reference signals, L filter taps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hourglass_sep.scoring.bsseval.signals import Signals, as_channels, at_unit_energy
from hourglass_sep.scoring.bsseval.toeplitz import ToeplitzSystem, cross_correlate

MEANINGLESS_DB = 100.0
"""Scores above this measure rounding and input precision (e.g. the mixture's SAR) and are left out of averages."""

MIN_SAMPLES = 1024
"""Shorter signals score NaN: filters of 512 free taps per source can fit nearly any signal of that length."""

COPY = 1e-10
"""A reference is a copy if the others, filtered, leave less than this share unexplained; equals `MEANINGLESS_DB`."""

_RIDGES = (0.0, 1e-14, 1e-13, 1e-12, 1e-11)
"""Values added to the diagonal of the Gram matrix, relative to a reference's energy; tried in this order."""


class Span:
    """The references that are not silent, at unit energy, and the least-squares systems of their filtered versions.

    If the rules of `BssEval` allow no score, ``rows`` is empty and the attributes after it may be unset.

    Args:
        references: (S, N) or (S, C, N).
        filter_length: taps L of the filters.

    Attributes:
        shape: the references' shape.
        device: the references' device.
        taps: L.
        rows: numbers of the sources that can be scored.
        n_channels: C.
        signals: the R channels of the sources in ``rows``, each at unit energy.
        joint: the system of all references, one batch element.
        own: the systems of each source's own channels, one batch element per source.

    Raises:
        ValueError: invalid shape, or filter_length is less than 1.
    """

    def __init__(self, references: Tensor, filter_length: int) -> None:
        if references.ndim not in (2, 3) or 0 in references.shape[:-1]:
            raise ValueError(f"references are {tuple(references.shape)}, allowed: (S, N) or (S, C, N), no axis empty")
        if filter_length < 1:
            raise ValueError(f"filter_length is {filter_length}, allowed: at least 1")
        self.shape, self.device, self.taps = references.shape, references.device, filter_length
        self.rows: list[int] = []
        n_samples = references.shape[-1]
        if n_samples < MIN_SAMPLES or not bool(references.isfinite().all()):
            return
        signals = as_channels(references)  # (S, C, N)
        rows = signals.flatten(1).any(-1).nonzero().flatten().tolist()
        if not rows or len(rows) * filter_length > n_samples + filter_length - 1:
            return  # more unknowns than equations: singular, even if rounding errors make all pivots positive
        self.n_channels = signals.shape[1]
        chosen = signals if len(rows) == len(signals) else signals[rows]
        self.signals, _ = at_unit_energy(chosen.flatten(0, 1))
        self._correlation = cross_correlate(self.signals, self.signals, filter_length)  # (R, R, L)
        blocks = self._correlation.unflatten(0, (len(rows), -1)).unflatten(2, (len(rows), -1))
        self._own_correlation = torch.stack([blocks[j, :, j] for j in range(len(rows))])  # (S, C, C, L)
        # With an empty frequency band or equal channels, many filters are optimal and explain equal energy; the
        # smallest sufficient ridge selects one. References that are copies of each other are not distinguishable.
        for ridge in (None, *_RIDGES):
            self.joint, self.own = self._systems(ridge)
            if bool(self.joint.definite & self.own.definite.all()):
                break
        else:
            return
        if ridge is not None and any(self._is_copy(j) for j in range(len(rows))):
            return
        self.rows = rows

    def _systems(self, ridge: float | None) -> tuple[ToeplitzSystem, ToeplitzSystem]:
        return ToeplitzSystem(self._correlation[None], ridge), ToeplitzSystem(self._own_correlation, ridge)

    def _is_copy(self, j: int) -> bool:
        """Whether the other references, filtered, reproduce the j-th one up to the share `COPY`."""
        own = torch.zeros(self.signals.n_rows, dtype=torch.bool)
        own[self.channels(j)] = True
        if own.all():
            return False
        others = ToeplitzSystem(self._correlation[~own][:, ~own][None], _RIDGES[-1])
        explained, _ = others.explain(self._correlation[own][:, ~own].movedim(0, -1)[None])
        return bool(((1 - explained) < COPY).all())

    def channels(self, j: int) -> slice:
        """Indices of the j-th reference's channels among the R signals."""
        return slice(j * self.n_channels, (j + 1) * self.n_channels)

    def check(self, estimates: Tensor, one_each: bool = False) -> None:
        """Raise ValueError unless estimates are (E, N) or (E, C, N) as the references, with E = S if ``one_each``."""
        if estimates.shape[not one_each :] != self.shape[not one_each :]:
            allowed = tuple(self.shape) if one_each else ("E", *self.shape[1:])
            raise ValueError(f"estimates are {tuple(estimates.shape)}, allowed: {allowed}")

    def correlate(self, signals: Signals) -> Tensor:
        """Correlations (R, L, E) of E rows with the references at the lags of the L taps."""
        return cross_correlate(signals, self.signals, self.taps).movedim(0, -1)

    def by_source(self, correlation: Tensor) -> Tensor:
        """Reshape correlations (R, L, E) to (S, C, L, E), as `own` requires."""
        return correlation.unflatten(0, (-1, self.n_channels))


def filtered(signals: Tensor, taps: Tensor) -> Tensor:
    """Convolve and sum over R: signals (..., R, N) with filters (R, L, K) to (..., K, N + L - 1)."""
    length = signals.shape[-1] + taps.shape[1] - 1
    n_fft = fast_fft_length(length)
    spectra = torch.fft.rfft(signals, n_fft).unsqueeze(-2) * torch.fft.rfft(taps, n_fft, dim=1).permute(0, 2, 1)
    return torch.fft.irfft(spectra.sum(-3), n_fft)[..., :length]


def fast_fft_length(at_least: int) -> int:
    """The smallest even number 2^a 3^b 5^c that is not below ``at_least``."""
    best = 2 ** max(1, math.ceil(math.log2(at_least)))
    odd_factors = (3**b * 5**c for b in range(40) for c in range(30) if 3**b * 5**c < best)
    for odd in odd_factors:
        best = min(best, odd * 2 ** max(1, math.ceil(math.log2(at_least / odd))))
    return best
