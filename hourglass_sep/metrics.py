"""Separation scores as pure functions: BSS Eval v3, SI-SDR, NSDR and the length-weighted averages of MIR-1K."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MEANINGLESS_DB = 100.0
"""Above this a score measures rounding and input precision (the mixture's SAR, say): leave it out of averages."""

MIN_SAMPLES = 1024
"""Shorter signals get NaN: 512 free taps a source can explain nearly anything that short."""


class BssScores(NamedTuple):
    """BSS Eval scores, each (S,) float64 in dB; NaN marks a row that cannot be scored.

    Attributes:
        sdr: source to distortion ratio.
        sir: source to interference ratio.
        sar: sources to artifacts ratio.
    """

    sdr: Tensor
    sir: Tensor
    sar: Tensor


class BssEval:
    """BSS Eval v3 "sources" against fixed references; their Gram matrix is factorised once for all estimates.

    The target is estimate j projected on reference j under any time-invariant filter of `filter_length` taps, the
    interference what a projection on all references adds to it, the artifacts the rest. Estimate j belongs to
    reference j: no permutation is searched. Source: Vincent, Gribonval and Févotte, "Performance measurement in
    blind audio source separation", IEEE TASLP 14(4), 2006.

    Rows without a score are NaN, never an exception. All rows: fewer than `MIN_SAMPLES` samples, a reference with a
    value that is not finite, references of which one is a filtered copy of others or that have more taps than the
    convolution has samples (their Gram matrix is singular). Row j alone: reference j is silent (all zero), estimate
    j is silent or not finite. A silent reference is left out of the other rows' projections; where only one
    reference is left, there is nothing to interfere and SIR is above `MEANINGLESS_DB`. Such values are returned as
    they come.
    """

    def __init__(self, references: Tensor, filter_length: int = 512) -> None:
        """Transform and correlate the references.

        Args:
            references: (S, N), any real type, any scale; computed in float64 on their device.
            filter_length: taps of the allowed distortion filters; 512 is what BSS Eval fixes.

        Raises:
            ValueError: the shape is not (S, N) with S at least 1, or filter_length is less than 1.
        """
        _check_shape("references", references)
        if filter_length < 1:
            raise ValueError(f"filter_length is {filter_length}, allowed: at least 1")
        self._shape, self._device, self._taps = references.shape, references.device, filter_length
        self._rows: list[int] = []  # rows that can be scored
        if references.shape[1] < MIN_SAMPLES or not bool(references.isfinite().all()):
            return
        unit, valid = _unit_energy(references)
        n_full = references.shape[1] + filter_length - 1  # the length of the whole convolution
        self._n_fft = _fast_fft_length(n_full)
        self._spectra = torch.fft.rfft(unit[valid], self._n_fft)  # (R, n_freq), R references that sound
        factors = self._factorise()
        if factors is not None:
            self._joint_factor, self._own_factors = factors
            self._rows = valid.nonzero().flatten().tolist()

    def __call__(self, estimates: Tensor) -> BssScores:
        """Score estimates of the references, in the references' order.

        Args:
            estimates: (S, N), any real type; the scale of a row does not matter.

        Raises:
            ValueError: the shape is not that of the references.
        """
        if estimates.shape != self._shape:
            raise ValueError(f"estimates are {tuple(estimates.shape)}, allowed: {tuple(self._shape)}")
        scores = torch.full((3, self._shape[0]), math.nan, dtype=torch.float64, device=self._device)
        if self._rows:
            unit, valid = _unit_energy(estimates.to(self._device))
            for j, row in enumerate(self._rows):
                if valid[row]:
                    scores[:, row] = self._score(unit[row], j)
        return BssScores(*scores)

    def _factorise(self) -> tuple[Tensor, list[Tensor]] | None:
        """Cholesky factors of all references' Gram matrix and of each one's own block; None: singular.

        One matrix at a time, and never LU: torch's batched LU and solve hang on CPUs (pytorch issue 142815).
        """
        n_refs, taps = self._spectra.shape[0], self._taps
        if n_refs * taps > self._shape[1] + taps - 1:
            return None  # more unknowns than equations: singular, whatever rounding makes of the pivots
        cross = self._spectra.conj().unsqueeze(1) * self._spectra
        correlation = torch.fft.irfft(cross, self._n_fft)  # (R, R, n_fft), lags modulo n_fft
        lags = torch.cat([correlation[..., self._n_fft - taps + 1 :], correlation[..., :taps]], -1)
        blocks = lags.unfold(-1, taps, 1).flip(-1)  # (R, R, taps, taps): [i, j, p, q] is lag p - q
        gram = blocks.transpose(1, 2).reshape(n_refs * taps, n_refs * taps)
        joint, info = torch.linalg.cholesky_ex(gram)
        # The references have unit energy, so a squared pivot is the share of one shifted reference that the shifts
        # before it leave unexplained.
        if info or joint.diagonal().square().min() < gram.shape[0] * torch.finfo(gram.dtype).eps:
            return None
        own = [joint[:taps, :taps]]  # a leading block of a Cholesky factor is the leading block's factor
        own += [torch.linalg.cholesky_ex(blocks[j, j])[0] for j in range(1, n_refs)]
        return joint, own

    def _score(self, estimate: Tensor, j: int) -> Tensor:
        """SDR, SIR and SAR in dB, (3,), of a unit-energy estimate (N,) of the j-th reference that sounds."""
        spectrum = torch.fft.rfft(estimate, self._n_fft)
        cross = torch.fft.irfft(self._spectra.conj() * spectrum, self._n_fft)[:, : self._taps]  # (R, taps)
        joint_taps = torch.cholesky_solve(cross.reshape(-1, 1), self._joint_factor).reshape(cross.shape)
        own_taps = torch.cholesky_solve(cross[j].unsqueeze(-1), self._own_factors[j]).squeeze(-1)
        explained = (torch.fft.rfft(joint_taps, self._n_fft) * self._spectra).sum(0)
        target = torch.fft.rfft(own_taps, self._n_fft) * self._spectra[j]
        # Energies of explicit differences: the normal equations' |e|^2 - d.c would cancel all digits at 100 dB. By
        # Parseval the differences need no inverse transform, n_fft being long enough for the whole convolution.
        target_energy = _energy(target)
        return torch.stack(
            [
                _db(target_energy, _energy(spectrum - target)),
                _db(target_energy, _energy(explained - target)),
                _db(_energy(explained), _energy(spectrum - explained)),
            ]
        )


def bss_eval_sources(references: Tensor, estimates: Tensor, filter_length: int = 512) -> BssScores:
    """Score one set of estimates once; `BssEval` says how, and shares the work between several sets.

    Args:
        references: (S, N).
        estimates: (S, N), in the references' order.
        filter_length: taps of the allowed distortion filters.

    Raises:
        ValueError: the shapes are not (S, N) or differ, or filter_length is less than 1.
    """
    return BssEval(references, filter_length)(estimates)


def si_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    """Scale-invariant SDR: one gain, not a filter, is forgiven (Le Roux et al., ICASSP 2019); means are kept.

    Args:
        references: (S, N).
        estimates: (S, N), in the references' order.

    Returns:
        (S,) float64 in dB; NaN where the reference or the estimate is silent or not finite.

    Raises:
        ValueError: the shapes are not (S, N) or differ.
    """
    _check_shape("references", references)
    if estimates.shape != references.shape:
        raise ValueError(f"estimates are {tuple(estimates.shape)}, allowed: {tuple(references.shape)}")
    reference, reference_valid = _unit_energy(references)
    estimate, estimate_valid = _unit_energy(estimates.to(references.device))
    target = (estimate * reference).sum(-1, keepdim=True) * reference
    ratio = _db(target.square().sum(-1), (estimate - target).square().sum(-1))
    return ratio.masked_fill(~(reference_valid & estimate_valid), math.nan)


def nsdr(sdr_estimate: Tensor, sdr_mixture: Tensor) -> Tensor:
    """Normalised SDR: what separating gained over leaving the mixture as it is.

    Args:
        sdr_estimate: SDR of the estimates in dB, any shape.
        sdr_mixture: SDR of the mixture against the same references, same shape.

    Returns:
        Their difference in dB; NaN where either is NaN or above `MEANINGLESS_DB`, since the difference then says
        nothing about the separation (a mixture that is the reference would give every system about -290 dB).
    """
    meaningless = (sdr_estimate > MEANINGLESS_DB) | (sdr_mixture > MEANINGLESS_DB)
    return (sdr_estimate - sdr_mixture).masked_fill(meaningless, math.nan)


def global_score(values: Sequence[float] | Tensor, n_samples: Sequence[int] | Tensor) -> float:
    """The mean over clips weighted by their length: GNSDR, GSIR or GSAR (Huang et al., ISMIR 2014, for MIR-1K).

    Args:
        values: one NSDR, SIR or SAR a clip, in dB; those not finite or above `MEANINGLESS_DB` are left out.
        n_samples: the clips' lengths, all at one rate.

    Returns:
        The mean in dB, NaN if no value is left.

    Raises:
        ValueError: the two are not of one length, or a clip has a length below 1.
    """
    scores = torch.as_tensor(values, dtype=torch.float64).flatten()
    weights = torch.as_tensor(n_samples, dtype=torch.float64, device=scores.device).flatten()
    if scores.shape != weights.shape:
        raise ValueError(f"{len(weights)} lengths for {len(scores)} values, allowed: one each")
    if bool((weights < 1).any()):
        raise ValueError(f"a clip of {weights.min():g} samples, allowed: at least 1")
    kept = scores.isfinite() & (scores <= MEANINGLESS_DB)
    return float((scores[kept] * weights[kept]).sum() / weights[kept].sum())  # 0 / 0 is NaN


def _check_shape(name: str, signals: Tensor) -> None:
    if signals.ndim != 2 or signals.shape[0] < 1:
        raise ValueError(f"{name} are {tuple(signals.shape)}, allowed: (S, N) with S at least 1")


def _unit_energy(signals: Tensor) -> tuple[Tensor, Tensor]:
    """(S, N) in float64 with unit energy, zero where that is impossible, and (S,): where it is possible."""
    signals = signals.detach().to(torch.float64)
    peak = signals.abs().amax(-1, keepdim=True) if signals.shape[-1] else signals.new_zeros(len(signals), 1)
    valid = peak.isfinite() & (peak > 0)
    scaled = (signals / peak).masked_fill(~valid, 0.0)  # by the peak first: squares of 1e-200 are zero
    return (scaled / scaled.norm(dim=-1, keepdim=True)).masked_fill(~valid, 0.0), valid.squeeze(-1)


def _fast_fft_length(at_least: int) -> int:
    """The smallest even 2^a 3^b 5^c that is not below `at_least`."""
    best = 2 ** max(1, math.ceil(math.log2(at_least)))
    odd_factors = (3**b * 5**c for b in range(40) for c in range(30) if 3**b * 5**c < best)
    for odd in odd_factors:
        best = min(best, odd * 2 ** max(1, math.ceil(math.log2(at_least / odd))))
    return best


def _energy(spectrum: Tensor) -> Tensor:
    """Energy, times n_fft, of the real signal behind an rfft spectrum (n_freq,) of an even length (Parseval)."""
    power = torch.view_as_real(spectrum).square().sum(-1)
    return 2 * power.sum() - power[0] - power[-1]


def _db(numerator: Tensor, denominator: Tensor) -> Tensor:
    return 10 * torch.log10(numerator / denominator)
