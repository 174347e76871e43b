"""Masks: normalisation, application to spectra, and oracle masks as upper bounds."""

from __future__ import annotations

import torch
from torch import Tensor

MASK_RULES = ("raw", "sum_to_one")

_EPS = 1e-8


def share(masks: Tensor, rule: str, dim: int = -4) -> Tensor:
    """Normalise masks over the sources.

    Args:
        masks: (..., S, C, F, T), non-negative.
        rule: ``raw`` returns them unchanged (Park 2018); ``sum_to_one`` divides by their sum over the sources, so that
            the stems add up to the mixture; cells in which all masks are zero are divided equally.
        dim: axis of the sources S.

    Returns:
        Masks of the input's shape.
    """
    if rule == "raw":
        return masks
    total = masks.sum(dim, keepdim=True)
    # NaN must stay NaN: it marks a diverged network.
    return torch.where(total <= _EPS, 1 / masks.shape[dim], masks / total.clamp_min(_EPS))


def apply_masks(masks: Tensor, spectrum: Tensor) -> Tensor:
    """Multiply the mixture's spectrum by the mask of each source.

    Args:
        masks: (B, S, C, F, T), or (B, S, 1, F, T) for one mask for all channels.
        spectrum: (B, C, F, T) complex.

    Returns:
        (B, S, C, F, T) complex.
    """
    return masks * spectrum.unsqueeze(1)


def ideal_ratio_mask(spectra: Tensor) -> Tensor:
    """Oracle: magnitude of each source over the sum of magnitudes; (..., S, C, F, T) complex to real, sums to one."""
    return share(spectra.abs(), "sum_to_one")


def ideal_binary_mask(spectra: Tensor) -> Tensor:
    """Oracle: 1 for the loudest source of each cell, 0 for the others; (..., S, C, F, T) complex to real."""
    loudest = spectra.abs().argmax(dim=-4, keepdim=True)
    return torch.zeros(spectra.shape, device=spectra.device).scatter_(-4, loudest, 1.0)


def phase_sensitive_mask(spectra: Tensor) -> Tensor:
    """Oracle: projection of each source on the mixture, clipped to [0, 1] (Erdogan et al., ICASSP 2015).

    Args:
        spectra: (..., S, C, F, T) complex; the mixture is their sum.
    """
    mixture = spectra.sum(dim=-4, keepdim=True)
    ratio = (spectra * mixture.conj()).real / mixture.abs().square().clamp_min(_EPS**2)
    return ratio.clamp(0, 1)
