"""Refinement of estimated masks, at inference only."""

from __future__ import annotations

from torch import Tensor

from hourglass_sep.errors import UserError


class NoRefinement:
    """The masks as the network estimates them."""

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Return (B, S, F, T) masks for the mixture magnitude (B, 1, F, T)."""
        return masks


class NmfRefinement(NoRefinement):
    """Refinement by NMF and clustering (Zhang, Li, Zhu, ICASSP 2015): not built yet.

    Raises:
        UserError: always, so that nobody takes unrefined masks for refined ones.
    """

    def __init__(self, **settings: object) -> None:
        raise UserError("refine=nmf is not built yet: use refine=none")
