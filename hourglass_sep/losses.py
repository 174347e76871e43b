"""The training loss."""

from __future__ import annotations

from torch import Tensor


def masked_l1(masks: Tensor, mixture: Tensor, targets: Tensor) -> Tensor:
    """L1 between target magnitudes and masked mixture, for every stack and source (Park 2018, section 3.3).

    Args:
        masks: (K, B, S, F, T), as the network gives them, not clamped.
        mixture: (B, 1, F, T) magnitude.
        targets: (B, S, F, T) magnitudes.

    Returns:
        (K, S), float32: each the mean over batch, bins and frames. The training loss is their sum.
    """
    estimates = masks.float() * mixture.float()  # (K, B, S, F, T)
    return (estimates - targets.float()).abs().mean(dim=(1, 3, 4))
