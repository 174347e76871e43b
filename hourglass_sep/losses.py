"""Training losses: pure functions of masks and a batch of `hourglass_sep.data.patches.Patch`es.

Each returns a value for every stack and source, (K, S) in float32; the training loss is their sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hourglass_sep.masking import share
from hourglass_sep.spectrogram import Spectrogram

Batch = Mapping[str, Tensor]
"""``mixture`` (B, 1, F, T), ``targets`` (B, S, F, T) and ``spectra`` (B, S, bins, T), see `RandomPatches`."""

_LOUDEST_DB = 30.0
"""Where the logarithmic losses level off, so that a patch that is almost perfect does not outweigh the others."""


def masked_l1(masks: Tensor, batch: Batch) -> Tensor:
    """L1 between target magnitudes and masked mixture (Park 2018, section 3.3).

    Args:
        masks: (K, B, S, F, T), as the network gives them, not clamped.
        batch: see above.

    Returns:
        (K, S), float32: each the mean over batch, bins and frames.
    """
    return _difference(masks, batch).abs().mean(dim=(1, 3, 4))


def masked_l2(masks: Tensor, batch: Batch) -> Tensor:
    """Squared error between targets and masked mixture.

    With ``data.target=phase_sensitive`` this is, up to a constant, the squared error of the complex spectrum that the
    mask and the mixture's phase give: what SDR measures (Erdogan et al., ICASSP 2015).

    Args and returns: as `masked_l1`.
    """
    return _difference(masks, batch).square().mean(dim=(1, 3, 4))


def masked_snr_shared(masks: Tensor, batch: Batch) -> Tensor:
    """The mean of `masked_snr` of the masks and of `masked_snr` of the masks divided by their sum over the sources.

    The second is what ``inference.masks=sum_to_one`` applies; the first keeps the masks' size, which it ignores.

    Args and returns: as `masked_l1`.
    """
    shared = share(masks.float().clamp_min(1e-3), "sum_to_one")
    return (masked_snr(masks, batch) + masked_snr(shared, batch)) / 2


def masked_l2_shared(masks: Tensor, batch: Batch) -> Tensor:
    """The mean of `masked_l2` of the masks and of `masked_l2` of the masks divided by their sum over the sources.

    The second is what ``inference.masks=sum_to_one`` applies; the first keeps the masks' size, which it ignores.

    Args and returns: as `masked_l1`.
    """
    shared = share(masks.float().clamp_min(1e-3), "sum_to_one")
    return (masked_l2(masks, batch) + masked_l2(shared, batch)) / 2


def masked_snr(masks: Tensor, batch: Batch) -> Tensor:
    """`masked_l2` of every patch on a logarithmic scale, as SDR has it: loud patches count no more than others.

    Args and returns: as `masked_l1`; about 1 for 10 dB less.
    """
    error = _difference(masks, batch).square().mean(dim=(3, 4))  # (K, B, S)
    power = batch["targets"].float().square().mean(dim=(2, 3)).mean(1, keepdim=True)  # (B, 1)
    return _log_ratio(error, power).mean(1)


def compressed_l1(masks: Tensor, batch: Batch, power: float = 0.5) -> Tensor:
    """L1 between compressed magnitudes: quiet cells count more than with `masked_l1`.

    Args:
        masks: as for `masked_l1`.
        batch: as for `masked_l1`.
        power: what magnitudes are raised to.

    Returns:
        As `masked_l1`.
    """
    estimate = (masks.float() * batch["mixture"].float()).clamp_min(1e-6)
    return (estimate.pow(power) - batch["targets"].float().clamp_min(1e-6).pow(power)).abs().mean(dim=(1, 3, 4))


def waveform_snr(masks: Tensor, batch: Batch, spectrogram: Spectrogram) -> Tensor:
    """Signal-to-noise ratio in the time domain: masks times the mixture's spectrum, through the inverse STFT.

    Not scale-invariant: unlike SI-SDR (Le Roux et al., ICASSP 2019) it also learns how loud a source is.

    Args:
        masks: as for `masked_l1`.
        batch: as for `masked_l1`.
        spectrogram: the batch's STFT.

    Returns:
        As `masked_snr`.
    """
    spectra = batch["spectra"]
    n_samples = (spectra.shape[-1] - 1) * spectrogram.hop_length
    estimates = spectrogram.extend(masks.float()) * spectra.sum(1, keepdim=True)
    references = spectrogram.inverse(spectra, n_samples)
    error = (spectrogram.inverse(estimates, n_samples) - references).square().mean(-1)  # (K, B, S)
    return _log_ratio(error, references.square().mean(-1).mean(1, keepdim=True)).mean(1)


def multi_resolution_l1(
    masks: Tensor, batch: Batch, spectrogram: Spectrogram, n_ffts: tuple[int, ...] = (256, 512, 2048)
) -> Tensor:
    """`masked_l1` and, of the waveforms that the masks give, L1 between magnitudes at other window lengths.

    Args:
        masks: as for `masked_l1`.
        batch: as for `masked_l1`.
        spectrogram: the batch's STFT.
        n_ffts: the other window lengths, with a hop of a quarter.

    Returns:
        As `masked_l1`, summed over the resolutions.
    """
    loss = masked_l1(masks, batch)
    spectra = batch["spectra"]
    n_samples = (spectra.shape[-1] - 1) * spectrogram.hop_length
    estimates = spectrogram.inverse(spectrogram.extend(masks.float()) * spectra.sum(1, keepdim=True), n_samples)
    references = spectrogram.inverse(spectra, n_samples)
    for n_fft in n_ffts:
        other = Spectrogram(spectrogram.sample_rate_hz, n_fft, n_fft // 4, n_fft // 2)
        # Magnitudes grow with the root of the window's length.
        scale = (spectrogram.n_fft / n_fft) ** 0.5
        difference = (other(estimates).abs() - other(references).abs()) * scale
        loss = loss + difference.abs().mean(dim=(1, 3, 4))
    return loss


def _difference(masks: Tensor, batch: Batch) -> Tensor:
    return masks.float() * batch["mixture"].float() - batch["targets"].float()  # (K, B, S, F, T)


def _log_ratio(error: Tensor, power: Tensor) -> Tensor:
    least = 10 ** (-_LOUDEST_DB / 10)
    return torch.log10(error / power.clamp_min(1e-8) + least)
