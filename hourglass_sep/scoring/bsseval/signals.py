"""Signals that are read in blocks of float64, so that whole songs are not copied at that precision."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK_SAMPLES = 2**20
"""Samples per channel that are read at once; limits the memory."""


class Signals:
    """Signals in float64, each at its own level or at unit energy; the waveforms are held as they are.

    Args:
        waveforms: (K, N), or (K, C, N) with channels, any real type.
        levels: None, or divisors (D, K, 1, 1) that are applied one after the other; 0 makes a signal zero.
    """

    def __init__(self, waveforms: Tensor, levels: Tensor | None = None) -> None:
        self.waveforms = as_channels(waveforms.detach())
        self._levels = levels

    @property
    def n_samples(self) -> int:
        """Number of samples N."""
        return self.waveforms.shape[-1]

    @property
    def n_rows(self) -> int:
        """Number of rows K * C."""
        return self.waveforms.shape[0] * self.waveforms.shape[1]

    def __getitem__(self, number: int) -> Signals:
        """The signal of that number alone, at its level."""
        chosen = slice(number, number + 1)
        return Signals(self.waveforms[chosen], None if self._levels is None else self._levels[:, chosen])

    def block(self, start: int, stop: int) -> Tensor:
        """Samples start to stop (exclusive), (K * C, stop - start); zero before the first sample and after the last."""
        block = self.waveforms[..., max(start, 0) : max(stop, 0)].to(torch.float64)
        if self._levels is not None:
            block = block / self._levels[0].where(self._levels[0] > 0, 1.0)
            for level in self._levels[1:]:
                block /= level.where(level > 0, 1.0)
            block[self._levels[0].flatten() == 0] = 0.0  # also where a signal is not finite
        before = min(max(-start, 0), stop - start)
        after = stop - start - before - block.shape[-1]
        return (F.pad(block, (before, after)) if before or after else block).flatten(0, 1)

    def blocks(self) -> Iterator[Tensor]:
        """All samples in blocks (K, C * n)."""
        for start in range(0, self.n_samples, BLOCK_SAMPLES):
            block = self.block(start, min(start + BLOCK_SAMPLES, self.n_samples))
            yield block.reshape(len(self.waveforms), -1)


def at_unit_energy(waveforms: Tensor) -> tuple[Signals, Tensor]:
    """Normalise signals (K, N) or (K, C, N), the channels of a signal together, to unit energy.

    Returns:
        The signals, zero where they cannot be normalised, and a mask (K,), bool, which is False there: for signals that
        are silent or not finite.
    """
    peak = _norm(Signals(waveforms), math.inf)
    # Divide by the peak first, as squares of small samples (1e-200) underflow.
    levels = peak.where(peak.isfinite(), 0.0)[None, :, None, None]
    norm = _norm(Signals(waveforms, levels), 2)[None, :, None, None]
    return Signals(waveforms, torch.cat([levels, norm])), levels.flatten() > 0


def _norm(signals: Signals, order: float) -> Tensor:
    """Norms (K,) of signals."""
    norms = [torch.linalg.vector_norm(block, order, dim=-1) for block in signals.blocks()]
    if len(norms) < 2:
        return norms[0] if norms else signals.waveforms.new_zeros(len(signals.waveforms), dtype=torch.float64)
    return torch.linalg.vector_norm(torch.stack(norms), order, dim=0)


def as_channels(signals: Tensor) -> Tensor:
    """Reshape (S, N) to (S, 1, N); (S, C, N) remains unchanged."""
    return signals if signals.ndim == 3 else signals.unsqueeze(1)
