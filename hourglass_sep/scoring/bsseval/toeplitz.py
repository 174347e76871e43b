"""Least-squares filters: correlations, and block Toeplitz systems solved in O(n^2) instead of O(n^3).

Axes: R reference signals, E signals to explain, L filter taps, N samples. All computations are in float64, on any
device. LU is not used: torch's batched LU and solve hang on CPUs (pytorch issue 142815).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hourglass_sep.scoring.bsseval.signals import Signals

_MIN_FFT = 4096
"""Minimum FFT length. Blocks of this length fit the cache, unlike a transform of the whole signal."""

_CHUNK_SAMPLES = 2**15
"""Samples that are transformed at once: fits the cache, and makes the memory independent of the signal's length."""

_BLOCK_ROWS = 16
"""Rows eliminated per step of the factorisation: fewer cost more Python overhead, more cost more arithmetic."""

_BACKWARD_ERROR = 1e-12
"""Largest allowed backward error: residual norm relative to the solution's norm (the matrix has unit diagonal)."""

# glibc returns memory freed at the top of its heap to the system, so every scorer's matrices would be on new pages,
# which takes a third of the scoring time. Allocating and freeing one block raises glibc's limit: it then keeps up to
# twice the block's size. This block is the largest one that counts; it is never written and so uses no memory.
torch.empty(2**25 - 2**13, dtype=torch.uint8)


def cross_correlate(signals: Signals, references: Signals, n_taps: int) -> Tensor:
    """Compute correlations at the lags 0 to L - 1 of a causal filter.

    Args:
        signals: E rows of N samples.
        references: R rows of N samples.
        n_taps: number of lags L.

    Returns:
        Correlations (E, R, L); [e, r, l] is the sum over n of ``signals[e, n] * references[r, n - l]``.
    """
    n_fft = max(_MIN_FFT, 2 ** (2 * n_taps - 1).bit_length())
    hop = n_fft - n_taps + 1
    n_samples = signals.n_samples
    shape = signals.n_rows, references.n_rows, n_fft // 2 + 1
    spectrum = references.waveforms.new_zeros(shape, dtype=torch.complex128)
    step = max(_CHUNK_SAMPLES // hop, 1) * hop
    for start in range(0, n_samples, step):
        stop = start + min(step, -(-(n_samples - start) // hop) * hop)
        # A block of a signal is zero-padded; that of the references also contains the L - 1 samples before it.
        late = torch.fft.rfft(
            signals.block(start, stop).unflatten(-1, (-1, hop)), n_fft
        ).conj()  # (E, blocks, n_fft // 2 + 1)
        early = torch.fft.rfft(references.block(start - n_taps + 1, stop).unfold(-1, n_fft, hop))
        for e, one in enumerate(late):
            spectrum[e] += (one * early).sum(1)
    return torch.fft.irfft(spectrum, n_fft)[..., :n_taps].flip(-1)


class ToeplitzSystem:
    """Normal equations of the least-squares filters from references to signals, factorised once for all signals.

    Their matrix, the Gram matrix of all delayed copies of the references, is block Toeplitz: it is determined by its
    first block of rows, from which the block Schur algorithm computes the Cholesky factor. For two references and 512
    taps that is four times as fast as filling and factorising the full matrix. For nearly singular matrices it is less
    accurate, which a step of iterative refinement compensates. B independent systems form a batch.

    Source: Kailath and Sayed, "Displacement structure: theory and applications", SIAM Review 37(3), 1995; the order of
    the updates is the mixed one of Bojanczyk, Brent and de Hoog, SIAM J. Matrix Anal. Appl. 16(1), 1995.
    """

    def __init__(self, correlation: Tensor, ridge: float | None = None) -> None:
        """Factorise the matrix.

        Args:
            correlation: (B, R, R, L), `cross_correlate` of the references with themselves. Each reference should have
                about unit energy.
            ridge: None for Schur's updates. For matrices too close to singular for these, a number: the full matrix is
                factorised at once with the ridge added to its diagonal, while the residual is still computed with the
                matrix without ridge.
        """
        n_refs, n_taps = correlation.shape[-2:]
        later = correlation[..., 1:].flip(-1)  # [i, j, p - q + L - 1]: row tap p of i, column tap q of j, p < q
        earlier = correlation.transpose(1, 2)  # p >= q
        gap = correlation.new_zeros(*correlation.shape[:-1], 1)
        self._spectra = torch.fft.rfft(torch.cat([earlier, gap, later], -1)).movedim(-1, 1)  # (B, L + 1, R, R)
        taps = torch.arange(n_taps, device=correlation.device)
        largest = n_taps if ridge is not None else max(_BLOCK_ROWS // n_refs, 1)
        block = next(b for b in range(largest, 0, -1) if n_taps % b == 0)
        rows = torch.cat([later, earlier], -1)[..., taps[:block, None] - taps + n_taps - 1]  # (B, R, R, block, L)
        rows = rows.permute(0, 3, 1, 4, 2).flatten(3).flatten(1, 2)  # (B, block * R, L * R)
        rows.diagonal(dim1=-2, dim2=-1).add_(ridge or 0.0)
        self._factor, definite = _block_schur(rows)
        pivots = self._factor.diagonal(dim1=-2, dim2=-1).square()
        # A squared pivot is the share of a delayed reference that the ones before it leave unexplained. Close to zero,
        # rounding errors of Schur's updates can make pivots wrong, which a test solution for a chirp reveals.
        chirp = (torch.pi / 2 / n_taps * taps.to(correlation.dtype).square()).cos()
        solution, residual, _ = self._solve(chirp[None, None, :, None].expand(*correlation.shape[:2], -1, 1))
        exact = residual.flatten(1).norm(dim=1) <= _BACKWARD_ERROR * solution.flatten(1).norm(dim=1)
        self.definite = (
            definite
            & (pivots > pivots.shape[-1] * torch.finfo(pivots.dtype).eps).all(-1)
            & (exact | (ridge is not None))
        )
        """(B,), bool: the matrix is positive definite and the factor accurate; otherwise results are invalid."""

    def explain(self, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the energy of signals that the filtered references explain.

        Args:
            correlation: (B, R, L, E), correlations of E signals of at most unit energy with the references.

        Returns:
            The explained energy (B, E) and a bound (B, E) for its rounding error.
        """
        taps, residual, half = self._solve(correlation)
        # With G c = d - r, the energy d' G^-1 d is c'd + c'r + r' G^-1 r, in which the error of c is squared.
        correction = half.square().sum(1)
        explained = (taps * (correlation + residual)).sum((1, 2)) + correction
        rounding = 64 * torch.finfo(taps.dtype).eps * (1 + taps.square().sum((1, 2)).sqrt()).square()
        return explained, rounding + correction

    def filters(self, correlation: Tensor) -> Tensor:
        """Compute the filters (B, R, L, E) that explain the most energy; see `explain` for ``correlation``."""
        taps, _, half = self._solve(correlation)
        return taps + self._unflatten(torch.linalg.solve_triangular(self._factor, half, upper=True))

    def _solve(self, correlation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Solve by forward and backward substitution.

        Returns:
            The filters (B, R, L, E), their residual (B, R, L, E), and the forward substitution (B, L * R, E) of the
            residual; its backward substitution would be the correction of the filters.
        """
        half = torch.linalg.solve_triangular(self._factor.mT, _flatten(correlation), upper=False)
        taps = self._unflatten(torch.linalg.solve_triangular(self._factor, half, upper=True))
        residual = correlation - self._multiply(taps)
        return taps, residual, torch.linalg.solve_triangular(self._factor.mT, _flatten(residual), upper=False)

    def _unflatten(self, rows: Tensor) -> Tensor:
        """Reshape (B, L * R, E) to (B, R, L, E)."""
        return rows.unflatten(1, (-1, self._spectra.shape[-1])).transpose(1, 2)

    def _multiply(self, taps: Tensor) -> Tensor:
        """Multiply the matrix with filters (B, R, L, E) by circular convolution; returns (B, R, L, E)."""
        n_taps = taps.shape[2]
        spectra = torch.fft.rfft(taps, 2 * n_taps, dim=2).transpose(1, 2)  # (B, L + 1, R, E)
        return torch.fft.irfft(self._spectra @ spectra, 2 * n_taps, dim=1)[:, :n_taps].transpose(1, 2)


def _flatten(right: Tensor) -> Tensor:
    """Reshape (B, R, L, E) to (B, L * R, E), the order of the factor's rows."""
    return right.transpose(1, 2).flatten(1, 2)


@torch.jit.script
def _block_schur(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor of a block Toeplitz matrix, by the block Schur algorithm.

    It is compiled for multithreading: a script releases Python's global lock, for which each of the many small steps
    would otherwise have to wait.

    Args:
        rows: (B, m, n), the first block of rows; m divides n.

    Returns:
        The factor (B, n, n), of which only the upper triangle is set, and (B,), bool, whether factorisation succeeded.
    """
    n_batch, m, n = rows.shape
    eye = torch.eye(m, dtype=rows.dtype, device=rows.device).expand(n_batch, m, m)
    corner, failed = torch.linalg.cholesky_ex(rows[..., :m])
    # The matrix minus its copy shifted down the diagonal by one block equals u'u - v'v for these generators.
    u = torch.cat([corner.mT, torch.linalg.solve_triangular(corner, rows[..., m:], upper=False)], -1)
    v = u[..., m:]
    factor = rows.new_empty(n_batch, n, n)
    factor[:, :m] = u
    for start in range(m, n, m):
        # Shift u by one block, then rotate (u, v) such that u'u - v'v is unchanged and the first block of v is zero.
        u = u[..., :-m]
        k = torch.linalg.solve_triangular(u[..., :m].mT, v[..., :m].mT, upper=False)
        left, failed_left = torch.linalg.cholesky_ex(torch.baddbmm(eye, k, k.mT, alpha=-1))
        right, failed_right = torch.linalg.cholesky_ex(torch.baddbmm(eye, k.mT, k, alpha=-1))
        failed = failed + failed_left + failed_right
        inverse = torch.linalg.solve_triangular(left, eye, upper=False)
        u = torch.baddbmm(inverse @ u, inverse @ k, v, alpha=-1)
        share = torch.linalg.solve_triangular(right, k.mT @ left, upper=False)
        v = torch.baddbmm(right.mT @ v, share, u, alpha=-1)
        factor[:, start : start + m, start:] = u
        v = v[..., m:]
    return factor, failed == 0
