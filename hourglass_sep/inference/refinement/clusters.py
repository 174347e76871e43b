"""Clusters of a factorisation, and masks averaged over them (Zhang, Li and Zhu, ICASSP 2015)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hourglass_sep.support.errors import SettingError

RULES = ("max", "mean")

Combine = str | float
"""Combination of a mask and its cluster means: ``max``, ``mean``, or the weight of the mean, 0 to 1."""


def label_map(W: Tensor, H: Tensor) -> Tensor:  # noqa: N803 - the paper's names
    """The strongest component of each cell, F[c, m] = argmax_r W[c, r] H[r, m]; the lowest of equals.

    Args:
        W: templates (F, R), non-negative.
        H: activations (R, T), non-negative.

    Returns:
        Labels 0 to R - 1, int64 (F, T). Memory does not grow with R; products are float32.

    Raises:
        ValueError: shapes that do not fit.
    """
    if W.dim() != 2 or H.dim() != 2 or W.shape[1] != H.shape[0] or not len(H):
        raise ValueError(f"W has shape {tuple(W.shape)} and H {tuple(H.shape)}, expected (F, R) and (R, T)")
    w, h = W.float().T.contiguous(), H.float()
    highest = w[0, :, None] * h[0]
    product, larger, labels = torch.empty_like(highest), torch.empty_like(highest), torch.zeros_like(highest)
    for r in range(1, len(w)):
        torch.mul(w[r, :, None], h[r], out=product)
        torch.gt(product, highest, out=larger)  # as a number: three times as fast as with booleans
        torch.maximum(labels, larger.mul_(r), out=labels)
        torch.maximum(highest, product, out=highest)
    return labels.long()


def clusters(labels: Tensor) -> Tensor:
    """Number the 4-connected regions of equal label: (F, T) integers to int64 (F, T) from 1 on, on the CPU."""
    import cc3d

    labels = labels.long().cpu()
    numbers = cc3d.connected_components((labels - labels.min() + 1).numpy(), connectivity=4)  # 0 would be background
    return torch.from_numpy(numbers.astype("int64"))


def refine_mask(mask: Tensor, labels: Tensor, combine: Combine = "max") -> Tensor:
    """Combine a mask with its means over the clusters of a label map.

    Args:
        mask: (..., F, T).
        labels: label map (F, T) for all masks, see `label_map`.
        combine: ``max``, the maximum of mask and mean (the course report's rule); ``mean``; or a weight w from 0 to 1
            for (1 - w) mask + w mean.

    Returns:
        The refined mask, of the mask's shape, type and device; averages are computed in float64 on the CPU.

    Raises:
        ValueError: shapes that do not match, or an unknown rule.
    """
    check_combine(combine)
    whole = not (labels.is_floating_point() or labels.is_complex())
    if labels.dim() != 2 or not whole or mask.shape[-2:] != labels.shape or not mask.numel():
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} and labels {tuple(labels.shape)} of {labels.dtype}: "
            "expected (..., F, T) and (F, T) of whole numbers"
        )
    numbers = clusters(labels).flatten()
    sizes = torch.bincount(numbers)
    flat = mask.reshape(-1, numbers.numel()).double().cpu()
    means = torch.stack([(torch.bincount(numbers, one) / sizes)[numbers] for one in flat])
    means = means.reshape(mask.shape).to(mask)
    if combine == "max":
        return torch.maximum(mask, means)
    return means if combine == "mean" else torch.lerp(mask, means, float(combine))


def is_number(value: object) -> bool:
    """Whether a setting is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_combine(combine: object) -> None:
    """Accept the names of `RULES` and weights from 0 to 1.

    Raises:
        SettingError: another value.
    """
    if combine in RULES or (is_number(combine) and 0 <= float(combine) <= 1):  # type: ignore[arg-type]
        return
    rules = ", ".join(RULES)
    raise SettingError(f"refine.combine={combine!r} is not allowed: choose from {rules}, or give a weight from 0 to 1")
