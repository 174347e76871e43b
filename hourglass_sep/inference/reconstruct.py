"""Reconstruction of waveforms from masks and the mixture's spectrum: the choice of the sources' phases."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hourglass_sep.dsp.masks import apply_masks
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.checks import check_whole

_RIDGE = 1e-7
"""Regularisation of the sources' covariances, which are singular for equal channels. Gains still sum to one."""

_TINY = 1e-30
_MOST_ITERATIONS = 10_000
_BLOCK_FRAMES = 256


class Reconstruction(Protocol):
    """From masks and the mixture's spectrum to waveforms: any callable of this form."""

    def __call__(self, masks: Tensor, spectrum: Tensor, spectrogram: Spectrogram, n_samples: int) -> Tensor:
        """Reconstruct the sources.

        Args:
            masks: (B, S, C, F, T), or (B, S, 1, F, T) for all channels, for all bins of the spectrum.
            spectrum: the mixture's spectrum (B, C, F, T), complex.
            spectrogram: the STFT of the spectrum.
            n_samples: length of the mixture in samples.

        Returns:
            Waveforms (B, S, C, N).
        """


class MixturePhase:
    """Masked magnitudes with the mixture's phase (Park et al. 2018, section 3.2)."""

    def __call__(self, masks: Tensor, spectrum: Tensor, spectrogram: Spectrogram, n_samples: int) -> Tensor:
        """See `Reconstruction`."""
        return spectrogram.inverse(apply_masks(masks, spectrum), n_samples)


class Wiener:
    """Multichannel Wiener filter of the masked spectra, by expectation maximisation.

    The model of each source is Gaussian with a power for each cell and a channel covariance for each bin, both
    estimated from the current source estimates. For mono and one iteration the filter equals the squared masks divided
    by their sum. Source: Uhlich et al., "Improving music source separation based on deep neural networks through data
    augmentation and network blending", ICASSP 2017; it computes what `openunmix.filtering.wiener` does.

    Args:
        iterations: number of expectation-maximisation iterations.
    """

    def __init__(self, iterations: int = 1) -> None:
        check_whole("reconstruct.iterations", iterations, least=0, most=_MOST_ITERATIONS)
        self.iterations = iterations

    def __call__(self, masks: Tensor, spectrum: Tensor, spectrogram: Spectrogram, n_samples: int) -> Tensor:
        """See `Reconstruction`."""
        estimates = apply_masks(masks, spectrum)  # (B, S, C, F, T)
        if not estimates.isfinite().all():  # a diverged network: keep NaN visible
            return MixturePhase()(masks, spectrum, spectrogram, n_samples)
        for _ in range(self.iterations):
            estimates = _wiener_step(estimates, spectrum)
        return spectrogram.inverse(estimates, n_samples)


def _wiener_step(estimates: Tensor, mixture: Tensor) -> Tensor:
    """One filter pass: estimates (B, S, C, F, T) and mixture (B, C, F, T) to new estimates."""
    estimates, mixture = estimates.to(torch.complex128), mixture.to(torch.complex128)
    covariance = torch.einsum("bscft,bsdft->bsfcd", estimates, estimates.conj())
    energy = covariance.diagonal(dim1=-2, dim2=-1).real.sum(-1)  # (B, S, F)
    identity = torch.eye(mixture.shape[1], device=mixture.device)
    covariance = covariance / energy.clamp_min(_TINY)[..., None, None] + _RIDGE * identity
    filtered = []
    for some, mixed in zip(estimates.split(_BLOCK_FRAMES, -1), mixture.split(_BLOCK_FRAMES, -1), strict=True):
        power = some.abs().square().sum(2)  # (B, S, F, T)
        parts = power[..., None, None] * covariance[:, :, :, None]  # (B, S, F, T, C, C)
        total = parts.sum(1) + _TINY * identity
        mixed = mixed.permute(0, 2, 3, 1)[..., None]  # (B, F, T, C, 1)
        whitened = torch.cholesky_solve(mixed, torch.linalg.cholesky(total))
        filtered.append((parts @ whitened[:, None])[..., 0].permute(0, 1, 4, 2, 3).to(torch.complex64))
    return torch.cat(filtered, -1)


class Misi:
    """Multiple input spectrogram inversion (MISI): phases consistent with the masked magnitudes, stems that add up.

    Each iteration takes the phases of the current estimates and distributes the difference to the mixture equally over
    the sources.
    Source: Gunawan and Sen, "Iterative phase estimation for the synthesis of separated sources from single-channel
    mixtures", IEEE Signal Processing Letters 2010.

    Args:
        iterations: number of iterations; 0 keeps the mixture's phase.
    """

    def __init__(self, iterations: int = 5) -> None:
        check_whole("reconstruct.iterations", iterations, least=0, most=_MOST_ITERATIONS)
        self.iterations = iterations

    def __call__(self, masks: Tensor, spectrum: Tensor, spectrogram: Spectrogram, n_samples: int) -> Tensor:
        """See `Reconstruction`."""
        mixture = spectrogram.inverse(spectrum, n_samples)[:, None]  # (B, 1, C, N)
        magnitude = apply_masks(masks, spectrum.abs())
        estimates = MixturePhase()(masks, spectrum, spectrogram, n_samples)
        for _ in range(self.iterations):
            phases = spectrogram(estimates).angle()
            estimates = spectrogram.inverse(torch.polar(magnitude, phases), n_samples)
            estimates = estimates + (mixture - estimates.sum(1, keepdim=True)) / estimates.shape[1]
        return estimates
