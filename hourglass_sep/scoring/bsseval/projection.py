"""What filters make of some references, and how much of a signal that explains: the algebra behind BSS Eval.

Axes: S sources, C channels, N samples, E estimates; R = S * C reference signals, L filter taps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hourglass_sep.scoring.bsseval.toeplitz import ToeplitzSystem, cross_correlate

MEANINGLESS_DB = 100.0
"""Above this a score measures rounding and input precision (the mixture's SAR, say): leave it out of averages."""

MIN_SAMPLES = 1024
"""Shorter signals get NaN: 512 free taps a source can explain nearly anything that short."""

COPY = 1e-10
"""Share of a reference that the others may leave unexplained and still be called copies of it: `MEANINGLESS_DB`."""

_RIDGES = (0.0, 1e-14, 1e-13, 1e-12, 1e-11)
"""Shares of a reference's energy, tried in this order."""


class Span:
    """References that sound, at unit energy, and the least-squares systems of what filters make of them.

    ``rows`` are the sources that can be scored; none where the rules of `BssEval` forbid it, and nothing else is set.
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
            return  # more unknowns than equations: singular, whatever rounding makes of the pivots
        self.n_channels = signals.shape[1]
        self.signals, _ = unit_energy(signals[rows].flatten(0, 1))  # (R, N)
        self._correlation = cross_correlate(self.signals, self.signals, filter_length)  # (R, R, L)
        blocks = self._correlation.unflatten(0, (len(rows), -1)).unflatten(2, (len(rows), -1))
        self._own_correlation = torch.stack([blocks[j, :, j] for j in range(len(rows))])  # (S, C, C, L)
        # A band without sound, or equal channels: the smallest ridge that is needed picks one of many best filters,
        # which all explain as much. Sources that copy each other are another matter: nothing tells them apart.
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
        """Whether the other references, filtered, reproduce the j-th."""
        own = torch.zeros(len(self.signals), dtype=torch.bool)
        own[self.channels(j)] = True
        if own.all():
            return False
        others = ToeplitzSystem(self._correlation[~own][:, ~own][None], _RIDGES[-1])
        explained, _ = others.explain(self._correlation[own][:, ~own].movedim(0, -1)[None])
        return bool(((1 - explained) < COPY).all())

    def channels(self, j: int) -> slice:
        """The j-th reference's channels among the R signals."""
        return slice(j * self.n_channels, (j + 1) * self.n_channels)

    def check(self, estimates: Tensor, one_each: bool = False) -> None:
        """Raise ValueError for estimates of another shape."""
        if estimates.shape[not one_each :] != self.shape[not one_each :]:
            allowed = tuple(self.shape) if one_each else ("E", *self.shape[1:])
            raise ValueError(f"estimates are {tuple(estimates.shape)}, allowed: {allowed}")

    def correlate(self, signals: Tensor) -> Tensor:
        """(E, N) to (R, L, E)."""
        return cross_correlate(signals, self.signals, self.taps).movedim(0, -1)

    def by_source(self, correlation: Tensor) -> Tensor:
        """(R, L, E) to (S, C, L, E), what `own` takes."""
        return correlation.unflatten(0, (-1, self.n_channels))


def as_channels(signals: Tensor) -> Tensor:
    """(S, N) or (S, C, N) to (S, C, N)."""
    return signals if signals.ndim == 3 else signals.unsqueeze(1)


def unit_energy(signals: Tensor) -> tuple[Tensor, Tensor]:
    """(K, N) in float64 with unit energy, zero where that is impossible, and (K,): where it is possible."""
    signals = signals.detach().to(torch.float64)
    if not signals.shape[-1]:
        return signals, torch.zeros(len(signals), dtype=torch.bool, device=signals.device)
    peak = torch.linalg.vector_norm(signals, torch.inf, dim=-1, keepdim=True)
    valid = peak.isfinite() & (peak > 0)
    unit = signals / peak.where(valid, 1.0)  # by the peak first: squares of 1e-200 are zero
    unit[~valid.squeeze(-1)] = 0.0
    unit /= torch.linalg.vector_norm(unit, dim=-1, keepdim=True).where(valid, 1.0)
    return unit, valid.squeeze(-1)


def filtered(signals: Tensor, taps: Tensor) -> Tensor:
    """The sum of some signals, each through a filter: (..., R, N) and (R, L, K) to (..., K, N + L - 1)."""
    length = signals.shape[-1] + taps.shape[1] - 1
    n_fft = fast_fft_length(length)
    spectra = torch.fft.rfft(signals, n_fft).unsqueeze(-2) * torch.fft.rfft(taps, n_fft, dim=1).permute(0, 2, 1)
    return torch.fft.irfft(spectra.sum(-3), n_fft)[..., :length]


def fast_fft_length(at_least: int) -> int:
    """The smallest even 2^a 3^b 5^c that is not below `at_least`."""
    best = 2 ** max(1, math.ceil(math.log2(at_least)))
    odd_factors = (3**b * 5**c for b in range(40) for c in range(30) if 3**b * 5**c < best)
    for odd in odd_factors:
        best = min(best, odd * 2 ** max(1, math.ceil(math.log2(at_least / odd))))
    return best
