"""Separation scores as pure functions: BSS Eval, SI-SDR, NSDR."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hourglass_sep.scoring.bsseval.bss_eval import BssEval, BssEvalImages, BssScores, ImageScores, best_permutation
from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB
from hourglass_sep.scoring.bsseval.signals import at_unit_energy


def bss_eval_sources(
    references: Tensor, estimates: Tensor, filter_length: int = 512, permute: bool = False
) -> BssScores:
    """Compute BSS Eval v3 "sources" of one set of estimates.

    `BssEval` has the definitions, and is faster for several sets of estimates of equal references.

    Args:
        references: (S, N), or (S, C, N) with channels.
        estimates: the references' shape; in the references' order unless ``permute``.
        filter_length: taps of the allowed distortion filters.
        permute: whether to put the estimates in the order of highest mean SIR first, as mir_eval does by default.

    Returns:
        Scores (S,), in the references' order.

    Raises:
        ValueError: invalid shape, or filter_length is less than 1.
    """
    evaluate = BssEval(references, filter_length)
    return permuted(evaluate.pairs(estimates)) if permute else evaluate(estimates)


def in_order(pairs: BssScores) -> BssScores:
    """Select from the scores (S, S) of all pairs those (S,) of estimate j and reference j."""
    return BssScores(*(values.diagonal() for values in pairs))


def permuted(pairs: BssScores) -> BssScores:
    """Select from the scores (S, S) of all pairs those (S,) of the best order, see `best_permutation`."""
    order = best_permutation(pairs.sir)
    return BssScores(*(values[range(len(order)), order] for values in pairs))


def bss_eval_images(
    references: Tensor,
    estimates: Tensor,
    filter_length: int = 512,
    window: int | None = None,
    hop: int | None = None,
) -> ImageScores:
    """Compute BSS Eval v4 "images" by window; see `BssEvalImages` for the definitions.

    With the default, one window over the whole signal, it is v3's "images".

    Args:
        references: (S, N), or (S, C, N) with channels.
        estimates: the references' shape and order.
        filter_length: taps of the allowed distortion filters.
        window: window length in samples; the whole signal by default.
        hop: distance between window starts in samples; ``window`` by default.

    Returns:
        Scores (S, windows).

    Raises:
        ValueError: invalid shape, or a length less than 1.
    """
    return BssEvalImages(references, filter_length, window, hop)(estimates)


def si_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    """Compute the scale-invariant SDR (Le Roux et al., ICASSP 2019).

    The allowed distortion is one gain, not a filter. Means are not subtracted.

    Args:
        references: (S, N), or (S, C, N) with one gain for all channels.
        estimates: the references' shape and order.

    Returns:
        SI-SDR (S,) in dB, float64; NaN where the reference or the estimate is silent or not finite.

    Raises:
        ValueError: invalid shape.
    """
    if references.ndim not in (2, 3) or 0 in references.shape[:-1]:
        raise ValueError(f"references are {tuple(references.shape)}, allowed: (S, N) or (S, C, N), no axis empty")
    if estimates.shape != references.shape:
        raise ValueError(f"estimates are {tuple(estimates.shape)}, allowed: {tuple(references.shape)}")
    reference, reference_valid = at_unit_energy(references)
    estimate, estimate_valid = at_unit_energy(estimates.to(references.device))
    gain = torch.zeros(len(references), 1, dtype=torch.float64, device=references.device)
    for heard, true in zip(estimate.blocks(), reference.blocks(), strict=True):
        gain += (heard * true).sum(-1, keepdim=True)
    energies = gain.new_zeros(2, len(references))
    for heard, true in zip(estimate.blocks(), reference.blocks(), strict=True):
        target = gain * true
        energies += torch.stack([target.square().sum(-1), (heard - target).square().sum(-1)])
    ratio = 10 * torch.log10(energies[0] / energies[1])
    return ratio.masked_fill(~(reference_valid & estimate_valid), math.nan)


def nsdr(sdr_estimate: Tensor, sdr_mixture: Tensor) -> Tensor:
    """Compute the normalised SDR: the improvement of the SDR over the unprocessed mixture.

    Args:
        sdr_estimate: SDR of the estimates in dB, any shape.
        sdr_mixture: SDR of the mixture against the same references in dB, same shape.

    Returns:
        Their difference in dB; NaN where either is NaN or above `MEANINGLESS_DB`, as the difference is then
        meaningless (a mixture that equals the reference would give every system about -290 dB).
    """
    meaningless = (sdr_estimate > MEANINGLESS_DB) | (sdr_mixture > MEANINGLESS_DB)
    return (sdr_estimate - sdr_mixture).masked_fill(meaningless, math.nan)


def median(values: Tensor) -> Tensor:
    """Compute the median over the last axis, ignoring NaN.

    Args:
        values: (..., M).

    Returns:
        Medians (...), the mean of the middle two values for even numbers of values; NaN where all values are NaN.
    """
    ordered = values.sort(-1).values  # NaN last
    count = values.isfinite().sum(-1, keepdim=True) + values.isinf().sum(-1, keepdim=True)
    low, high = (ordered.gather(-1, ((count - back) // 2).clamp_min(0)).squeeze(-1) for back in (1, 0))
    return torch.where(low == high, low, (low + high) / 2)  # equal values are returned exactly
