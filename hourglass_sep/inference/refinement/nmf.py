"""Non-negative matrix factorisation V ~ W H of magnitude spectrograms: torchnmf's, from a start that is nearly there.

Multiplicative updates, which torchnmf has for every beta divergence, need hundreds of iterations from random factors.
Twenty rounds of least squares by ADMM, which are a few matrix products each, come nearly as far as two hundred of
librosa's coordinate descent, and torchnmf goes on from there.
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

_FLOOR = 1e-8
"""The least magnitude relative to the highest: multiplicative updates divide by what they approximate."""

_ROUNDS = 20
_STEPS = 2
_PENALTY = 0.2
"""ADMM: rounds over both factors, steps on each, penalty relative to the scaled Gram matrix's diagonal. On clips of
MIR-1K's training singers errors are flat around these; 30 rounds would be 4 % more accurate, and scores the same."""

_DEAD = 1e-4
"""Components with less than this share of the mean energy are scaled as if they had it."""

_LIFT = 1e-3
"""Added to the start's factors, relative to their mean: a zero would stay zero, however wrong for the divergence."""

_CHUNK = 10
_TINY = 1e-20
"""Every so many iterations torchnmf's factors are cleared of values below this: on their way to zero they would become
denormal numbers, with which a CPU computes some thirty times more slowly."""


def factorise(magnitude: Tensor, rank: int, max_iter: int = 5, beta: float = 2.0) -> tuple[Tensor, Tensor]:
    """Templates and their activations.

    Nothing is left to chance: the same magnitude gives the same factors, to the bit on one machine with as many
    threads, and the same labels but for a few cells in a thousand on others.

    Args:
        magnitude: (F, T), not silent.
        rank: R, from 1 to min(F, T).
        max_iter: torchnmf's iterations after the start.
        beta: the divergence that they lower: 2 squared error, 1 Kullback-Leibler, 0 Itakura-Saito.

    Returns:
        W (F, R) and H (R, T), float32, with W H in the magnitude's unit. Not finite if the iterations diverged.

    Raises:
        ValueError: a silent magnitude, or a rank out of range.
    """
    if not 1 <= rank <= min(magnitude.shape):
        raise ValueError(
            f"rank={rank} is not allowed for a magnitude of {tuple(magnitude.shape)}: 1 to the smaller size"
        )
    with torch.inference_mode(False), torch.no_grad():
        magnitude, peak = _normalised(magnitude)
        w, h = _start(magnitude, rank)
        w, h = _iterate(magnitude, w, h, max_iter, beta, trainable_w=True)
        return w, h * peak


def activations(magnitude: Tensor, w: Tensor, max_iter: int = 5, beta: float = 2.0) -> Tensor:
    """Activations of given templates.

    Args:
        magnitude: (F, T), not silent.
        w: the templates (F, R).
        max_iter: as in `factorise`.
        beta: as in `factorise`.

    Returns:
        H (R, T), float32.

    Raises:
        ValueError: a silent magnitude.
    """
    with torch.inference_mode(False), torch.no_grad():
        magnitude, peak = _normalised(magnitude)
        w = w.float().clone()
        zeros = magnitude.new_zeros(w.shape[1], magnitude.shape[1])
        h, _ = _least_squares(zeros, zeros, w.T @ magnitude, w.T @ w, _ROUNDS)
        return _iterate(magnitude, w, h, max_iter, beta, trainable_w=False)[1] * peak


def _normalised(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = magnitude.detach().float().clone()  # may have been made in inference mode, where fitting is impossible
    peak = magnitude.max()
    if not peak > 0:
        raise ValueError(f"the highest magnitude is {peak:g}: there is nothing to factorise")
    return (magnitude / peak).clamp_min_(_FLOOR), peak


def _iterate(
    magnitude: Tensor, w: Tensor, h: Tensor, max_iter: int, beta: float, trainable_w: bool
) -> tuple[Tensor, Tensor]:
    """Torchnmf's multiplicative updates; it writes V as frames by bins."""
    from torchnmf.nmf import NMF

    frames = magnitude.T.contiguous()
    w = w + _LIFT * w.mean() if trainable_w else w
    h = h + _LIFT * h.mean()
    model = NMF(W=w.contiguous(), H=h.T.contiguous(), trainable_W=trainable_w).to(magnitude.device)
    for done in range(0, max_iter, _CHUNK):
        with torch.enable_grad(), suppress(ZeroDivisionError):  # by the first error, if there was none
            model.fit(frames, beta=beta, tol=0, max_iter=min(_CHUNK, max_iter - done))
        for factor in (model.W.data, model.H.data):
            factor[factor < _TINY] = 0
    return model.W.detach(), model.H.detach().T.contiguous()


def _start(magnitude: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """AO-ADMM: least squares in each factor in turn (Huang, Sidiropoulos, Liavas, IEEE TSP 2016, section III).

    What is approximated is the nearest matrix of rank R, whose two factors make products cheap.
    """
    left, right = _truncated(magnitude, rank)
    w, h = (factor.T for factor in _nndsvda(left, right, float(magnitude.mean())))
    multipliers_w, multipliers_h = torch.zeros_like(w), torch.zeros_like(h)
    for _ in range(_ROUNDS):
        h, multipliers_h = _least_squares(h, multipliers_h, (w @ left) @ right.T, w @ w.T, _STEPS)
        w, multipliers_w = _least_squares(w, multipliers_w, (h @ right) @ left.T, h @ h.T, _STEPS)
    return w.T, h


def _least_squares(
    x: Tensor, multipliers: Tensor, projected: Tensor, gram: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Steps of ADMM towards the non-negative X (R, n) that makes A X closest to V.

    Rows of X are scaled so that A's columns have unit length. Source: Boyd et al., "Distributed optimization and
    statistical learning via the alternating direction method of multipliers", 2011, section 3.1.1.

    Args:
        x: where to begin.
        multipliers: of the constraint, of X's shape; zeros at first. Kept as they are, not divided by the penalty as
            usual: between two calls the scale changes, and multipliers of another scale drive factors to zero.
        projected: A^T V (R, n).
        gram: A^T A (R, R).
        steps: how many.

    Returns:
        X and its multipliers.
    """
    energy = gram.diagonal()
    scale = torch.maximum(energy, _DEAD * energy.mean()).clamp_min(_FLOOR).sqrt()[:, None]
    identity = torch.eye(len(gram), device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram / (scale * scale.T) + _PENALTY * identity))
    projected, x, dual = projected / scale, x * scale, multipliers / (_PENALTY * scale)
    for _ in range(steps):
        free = inverse @ torch.add(projected, x + dual, alpha=_PENALTY) - dual
        x = free.clamp_min(0)
        dual = x - free
    return x / scale, dual * (_PENALTY * scale)


def _truncated(magnitude: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The truncated singular value decomposition, (F, R) and (T, R), singular values in the longer one.

    In float64, though the rest is not: the weaker vectors would be rounding errors, and labels another CPU's choice.
    """
    tall = magnitude.shape[0] >= magnitude.shape[1]
    v = (magnitude if tall else magnitude.T).double()
    _, vectors = torch.linalg.eigh(v.T @ v)  # in order of their values
    short = vectors[:, -rank:].flip(1)
    short, long = short.float(), (v @ short).float()
    return (long, short) if tall else (short, long)


def _nndsvda(left: Tensor, right: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """Non-negative factors of a decomposition (Boutsidis and Gallopoulos, Pattern Recognition 2008, NNDSVDa).

    Of every pair of vectors either the positive or the negative parts are kept, whichever are longer. It is
    scikit-learn's start, and so librosa's.

    Args:
        left: (F, R).
        right: (T, R).
        fill: the magnitude's mean, which zeros become.

    Returns:
        (F, R) and (T, R).
    """
    positive = left.clamp_min(0).norm(dim=0) * right.clamp_min(0).norm(dim=0)
    negative = left.clamp_max(0).norm(dim=0) * right.clamp_max(0).norm(dim=0)
    sign = torch.where(positive >= negative, 1.0, -1.0)
    scale = torch.maximum(positive, negative).sqrt()
    w, h = ((sign * part).clamp_min(0) for part in (left, right))
    w, h = (part / part.norm(dim=0).clamp_min(_FLOOR) * scale for part in (w, h))
    return w.masked_fill(w <= 0, fill), h.masked_fill(h <= 0, fill)
