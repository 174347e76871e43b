"""BSS Eval: v3 "sources", used in the MIR-1K literature, and v4 "images", used for MUSDB and by museval.

Axes: S sources, C channels, N samples, E estimates; R = S * C reference signals, L filter taps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep.scoring.bsseval.projection import COPY, Span, filtered
from hourglass_sep.scoring.bsseval.signals import BLOCK_SAMPLES, Signals, as_channels, at_unit_energy

_ACCURACY = 2e-8
"""Relative rounding error (1e-7 dB) above which an energy is computed from the signals themselves."""


class BssScores(NamedTuple):
    """BSS Eval scores, each (S,) or (S, E) float64 in dB; NaN for no score.

    Attributes:
        sdr: source to distortion ratio.
        sir: source to interference ratio.
        sar: sources to artifacts ratio.
    """

    sdr: Tensor
    sir: Tensor
    sar: Tensor


class ImageScores(NamedTuple):
    """BSS Eval v4 scores by window, each (S, windows) float64 in dB; NaN for no score.

    Attributes:
        sdr: source to distortion ratio.
        isr: image to spatial distortion ratio.
        sir: source to interference ratio.
        sar: sources to artifacts ratio.
    """

    sdr: Tensor
    isr: Tensor
    sir: Tensor
    sar: Tensor


class BssEval:
    """BSS Eval v3 "sources" against fixed references; their Gram matrix is factorised once for all estimates.

    The target is the projection of estimate j on reference j filtered by any time-invariant filter of
    ``filter_length`` taps. The interference is the difference between the projection on all references and the target;
    the artifacts are the rest of the estimate. Source: Vincent, Gribonval and Févotte, "Performance measurement in
    blind audio source separation", IEEE TASLP 14(4), 2006. With several channels it is museval's definition: filters
    from every channel of the references to every channel of the estimate.

    Scores that cannot be computed are NaN and raise no exception. All rows are NaN with fewer than `MIN_SAMPLES`
    samples, more taps (over all sources) than the convolution has samples, a reference that is not finite, or a
    reference that the others, filtered, reproduce to `MEANINGLESS_DB`. Row j alone is NaN if reference j is silent, or
    estimate j is silent or not finite. A silent reference is left out of the projections of the other rows. If only one
    reference is left, there is no interference and SIR is above `MEANINGLESS_DB`; such values are returned unchanged.
    """

    def __init__(self, references: Tensor, filter_length: int = 512) -> None:
        """Correlate and factorise the references.

        Args:
            references: (S, N) or (S, C, N), any real type, any scale. Computations are in float64 on their device.
            filter_length: taps L of the allowed distortion filters; 512 in BSS Eval.

        Raises:
            ValueError: invalid shape, or filter_length is less than 1.
        """
        self._span = Span(references, filter_length)

    def __call__(self, estimates: Tensor) -> BssScores:
        """Score estimate j against reference j, without a search for the best permutation.

        Args:
            estimates: the references' shape and order, any real type; scores do not depend on the scale of a row.

        Returns:
            Scores (S,).

        Raises:
            ValueError: the shape differs from the references'.
        """
        self._span.check(estimates, one_each=True)
        scores = self.pairs(estimates, torch.eye(len(estimates), dtype=torch.bool))
        return BssScores(*(values.diagonal().clone() for values in scores))

    def pairs(self, estimates: Tensor, wanted: Tensor | None = None) -> BssScores:
        """Score any number of estimates against every reference.

        Args:
            estimates: (E, N) or (E, C, N).
            wanted: (S, E), bool: the pairs to compute accurately, all by default; the others may be less accurate.

        Returns:
            Scores (S, E).

        Raises:
            ValueError: an estimate's shape differs from that of a reference.
        """
        span = self._span
        span.check(estimates)
        n_sources, n_estimates = span.shape[0], estimates.shape[0]
        scores = torch.full((3, n_sources, n_estimates), math.nan, dtype=torch.float64, device=span.device)
        if not span.rows:
            return BssScores(*scores)
        unit, valid = at_unit_energy(estimates.to(span.device))
        correlation = span.correlate(unit)  # (R, L, E * C)
        joint, joint_bound = _by_estimate(span.joint.explain(correlation[None]), span.n_channels)  # (1, E)
        own, own_bound = _by_estimate(span.own.explain(span.by_source(correlation)), span.n_channels)  # (S, E)
        # (3, S, E), from the normal equations: projections are orthogonal, so energies can be subtracted.
        energies = torch.stack([own, own, joint.expand_as(own)])
        rests = torch.stack([1 - own, joint - own, (1 - joint).expand_as(own)])
        bounds = torch.stack([own_bound, own_bound + joint_bound, joint_bound.expand_as(own)])
        scores[:, span.rows] = _db(energies.clamp_min(0.0), rests.clamp_min(1e-30))
        scores[:, :, ~valid] = math.nan
        # A difference of nearly equal energies is inaccurate: where it is too inaccurate, subtract the signals instead.
        exact = (bounds <= _ACCURACY * rests) | (rests + bounds <= COPY * energies)
        doubtful = ~exact.all(0) & valid
        if wanted is not None:
            doubtful &= wanted.to(span.device)[span.rows]
        for j, e in doubtful.nonzero().tolist():
            scores[:, span.rows[j], e] = self._subtract(unit[e], j)
        return BssScores(*scores)

    def _subtract(self, estimate: Signals, j: int) -> Tensor:
        """SDR, SIR and SAR in dB, (3,), of a unit-energy estimate of the j-th reference that is not silent."""
        span = self._span
        correlation = span.correlate(estimate)
        joint_taps = span.joint.filters(correlation[None])[0]  # (R, L, C)
        own_taps = torch.zeros_like(joint_taps)
        own_taps[span.channels(j)] = span.own.filters(span.by_source(correlation))[j]
        taps = torch.cat([own_taps, joint_taps], -1)
        history = span.taps - 1
        energies = taps.new_zeros(5)
        for start in range(0, estimate.n_samples + history, BLOCK_SAMPLES):
            stop = min(start + BLOCK_SAMPLES, estimate.n_samples + history)
            heard = estimate.block(start, stop)
            past = span.signals.block(start - history, stop)
            target, explained = filtered(past, taps)[:, history : history + stop - start].chunk(2)
            parts = (target, explained, heard - target, explained - target, heard - explained)
            energies += torch.stack([part.square().sum() for part in parts])
        target_energy, explained_energy, *rests = energies
        return _db(torch.stack([target_energy, target_energy, explained_energy]), torch.stack(rests))


class BssEvalImages:
    """BSS Eval v4 "images": filters for the whole signal, scores by window; with one window it is v3's "images".

    Unlike in `BssEval`, the target is the unfiltered reference: gain and filtering count as distortions, so the scale
    of references and estimates matters. Source: Stöter, Liutkus and Ito, "The 2018 signal separation evaluation
    campaign", LVA/ICA 2018, and its code, museval. Scores are NaN as in `BssEval`, and in windows in which any
    reference or estimate is silent that is not silent as a whole.
    """

    def __init__(
        self, references: Tensor, filter_length: int = 512, window: int | None = None, hop: int | None = None
    ) -> None:
        """Correlate and factorise the references.

        Args:
            references: (S, N) or (S, C, N).
            filter_length: taps L of the distortion filters.
            window: window length in samples; the whole signal by default.
            hop: distance between window starts in samples; the window length by default.

        Raises:
            ValueError: invalid shape, or a length less than 1.
        """
        self._span = Span(references, filter_length)
        n_samples = references.shape[-1]
        self._window = n_samples if window is None else min(window, n_samples)
        self._hop = hop or max(self._window, 1)
        if (window is not None and window < 1) or self._hop < 1:
            raise ValueError(f"window is {window} and hop {hop}, allowed: at least 1")
        self._references = as_channels(references)

    def __call__(self, estimates: Tensor) -> ImageScores:
        """Score estimate j against reference j.

        Args:
            estimates: the references' shape and order.

        Returns:
            Scores (S, windows).

        Raises:
            ValueError: the shape differs from the references'.
        """
        span = self._span
        span.check(estimates, one_each=True)
        n_windows = max((span.shape[-1] - self._window) // self._hop + 1, 1)
        scores = torch.full((4, span.shape[0], n_windows), math.nan, dtype=torch.float64, device=span.device)
        if span.rows:
            signals = Signals(estimates.to(span.device))
            valid = at_unit_energy(signals.waveforms)[1]
            rows = [(j, row) for j, row in enumerate(span.rows) if valid[row]]
            audible = ~torch.stack(
                [self._silent(self._references[row]) for row in span.rows]
                + [self._silent(signals.waveforms[row]) for _, row in rows]
            ).any(0)
            for j, row in rows:
                scores[:, row] = self._score(signals[row], j).where(audible, math.nan)
        return ImageScores(*scores)

    def _silent(self, signals: Tensor) -> Tensor:
        """Mask (windows,) of the windows in which the sum of the channels is zero, as in museval; (C, N) in."""
        return (signals.sum(0).unfold(-1, self._window, self._hop) == 0).all(-1)

    def _score(self, estimate: Signals, j: int) -> Tensor:
        """SDR, ISR, SIR and SAR (4, windows) in dB of an estimate of the j-th reference that is not silent."""
        span = self._span
        correlation = span.correlate(estimate)
        joint_taps = span.joint.filters(correlation[None])[0]  # (R, L, C)
        own_taps = span.own.filters(span.by_source(correlation))[j]  # (C, L, C)
        scores = []
        for start, stop in self._chunks():
            references = (
                span.signals.block(start, stop).unfold(-1, self._window, self._hop).transpose(0, 1)
            )  # (W, R, N)
            true, heard = (
                F.pad(x.block(start, stop).unfold(-1, self._window, self._hop), (0, span.taps - 1))
                for x in (Signals(self._references)[span.rows[j]], estimate)
            )  # (C, W, N + L - 1)
            own = filtered(references[:, span.channels(j)], own_taps).transpose(0, 1)
            joint = filtered(references, joint_taps).transpose(0, 1)
            parts = (true, heard - true, own - true, own, joint - own, joint, heard - joint)
            energy = [part.square().sum((0, 2)) for part in parts]
            ratios = ((energy[0], energy[1]), (energy[0], energy[2]), (energy[3], energy[4]), (energy[5], energy[6]))
            scores.append(torch.stack([_db(*ratio) for ratio in ratios]))
        return torch.cat(scores, -1)

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """First sample, and end (exclusive), of successive runs of whole windows of about `BLOCK_SAMPLES` each."""
        n_windows = max((self._span.shape[-1] - self._window) // self._hop + 1, 1)
        step = max(BLOCK_SAMPLES // self._window, 1)
        for first in range(0, n_windows, step):
            last = min(first + step, n_windows) - 1
            yield first * self._hop, last * self._hop + self._window


def best_permutation(sir: Tensor) -> list[int]:
    """Assign estimates to references in the order of the highest mean SIR, as mir_eval and museval do.

    Args:
        sir: (S, S) in dB, [reference, estimate]; NaN counts as -1000 dB.

    Returns:
        The number of the estimate for each reference.
    """
    table = sir.nan_to_num(nan=-1e3, posinf=1e3, neginf=-1e3).tolist()
    orders = itertools.permutations(range(len(table)))
    return list(max(orders, key=lambda order: sum(table[j][e] for j, e in enumerate(order))))


def _by_estimate(energies: tuple[Tensor, Tensor], n_channels: int) -> tuple[Tensor, Tensor]:
    """Sum energies and bounds, (B, E * C) each, over the channels of each estimate: (B, E) each."""
    explained, bound = (values.unflatten(-1, (-1, n_channels)).sum(-1) for values in energies)
    return explained, bound


def _db(numerator: Tensor, denominator: Tensor) -> Tensor:
    return 10 * torch.log10(numerator / denominator)
