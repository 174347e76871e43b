"""Training losses: pure functions of masks, mixture and targets, a value for every stack and source."""

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
    return _difference(masks, mixture, targets).abs().mean(dim=(1, 3, 4))


def masked_l2(masks: Tensor, mixture: Tensor, targets: Tensor) -> Tensor:
    """Squared error between targets and masked mixture, for every stack and source.

    With ``data.target=phase_sensitive`` this is, up to a constant, the squared error of the complex spectrum that the
    mask and the mixture's phase give: what SDR measures (Erdogan et al., ICASSP 2015).

    Args and returns: as `masked_l1`.
    """
    return _difference(masks, mixture, targets).square().mean(dim=(1, 3, 4))


def _difference(masks: Tensor, mixture: Tensor, targets: Tensor) -> Tensor:
    return masks.float() * mixture.float() - targets.float()  # (K, B, S, F, T)
