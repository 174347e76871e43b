"""Training losses: pure functions of masks and a batch of patches.

Each returns a value for every stack and source, (K, S) in float32; the training loss is their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hourglass_sep.signal.masks import share
from hourglass_sep.signal.stft import Spectrogram
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import SettingError

Batch = Mapping[str, Tensor]
"""``mixture`` (B, 1, F, T), ``targets`` (B, S, F, T) and ``spectra`` (B, S, bins, T), see `PatchSpectrograms`."""

_BEST_DB = 30.0
"""Where the logarithmic losses level off: a patch that is almost perfect does not outweigh the others."""


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


def masked_l2_shared(masks: Tensor, batch: Batch) -> Tensor:
    """The mean of `masked_l2` of the masks and of `masked_l2` of the masks divided by their sum over the sources.

    The second is what ``inference.masks=sum_to_one`` applies; the first keeps the masks' size, which it ignores.

    Args and returns: as `masked_l1`.
    """
    return (masked_l2(masks, batch) + masked_l2(_shared(masks), batch)) / 2


def masked_snr(masks: Tensor, batch: Batch) -> Tensor:
    """The logarithm of every patch's squared error: loud patches count no more than others, as with SDR.

    log10 of `masked_l2` of a patch over the mean power of its targets; 10 dB less error are 1 less, down to -3.

    Args and returns: as `masked_l1`.
    """
    error = _difference(masks, batch).square().mean(dim=(3, 4))  # (K, B, S)
    power = batch["targets"].float().square().mean(dim=(2, 3)).mean(1, keepdim=True)  # (B, 1)
    return _log_ratio(error, power, 1e-8).mean(1)


def masked_snr_shared(masks: Tensor, batch: Batch) -> Tensor:
    """What `masked_l2_shared` is to `masked_l2`, of `masked_snr`.

    Args and returns: as `masked_l1`.
    """
    return (masked_snr(masks, batch) + masked_snr(_shared(masks), batch)) / 2


def compressed_l1(masks: Tensor, batch: Batch, power: float = 0.3) -> Tensor:
    """L1 between magnitudes to a power below 1: quiet cells count more than with `masked_l1`.

    Args:
        masks: as for `masked_l1`; what is below 0 has no gradient.
        batch: as for `masked_l1`.
        power: the exponent.

    Returns:
        As `masked_l1`.

    Raises:
        ValueError: a power outside (0, 1].
    """
    if not (isinstance(power, int | float) and 0 < power <= 1):
        raise SettingError(f"loss.power={power!r} is not allowed: give a number above 0, up to 1")
    estimates = masks.float().clamp_min(0) * batch["mixture"].float()
    # The offset, 60 dB below the loudest cell, keeps the slope at 0 finite.
    compressed = [(magnitude + 1e-3) ** power for magnitude in (estimates, batch["targets"].float())]
    return (compressed[0] - compressed[1]).abs().mean(dim=(1, 3, 4))


def multi_resolution_snr(
    masks: Tensor, batch: Batch, spectrogram: Spectrogram, windows: Sequence[int] = (256, 1024, 2048)
) -> Tensor:
    """`masked_snr` of the magnitudes of the waveforms that the masks give, in STFTs with windows of several lengths.

    After Yamamoto et al. (ICASSP 2020), with the logarithmic error instead of the spectral convergence.

    Args:
        masks: as for `masked_l1`.
        batch: as for `masked_l1`.
        spectrogram: the batch's STFT.
        windows: lengths in samples, 4 or more; hops are a quarter.

    Returns:
        As `masked_snr`, the mean over the resolutions.

    Raises:
        ValueError: no windows, or a length that is not allowed.
    """
    if not isinstance(windows, Sequence) or not windows:
        raise SettingError(f"loss.windows={windows!r} is not allowed: give a list of lengths in samples")
    for length in windows:
        check_whole("loss.windows", length, least=4)
    estimates, references = _waveforms(masks, batch, spectrogram)
    losses = []
    for length in windows:
        view = Spectrogram(spectrogram.sample_rate_hz, length, length // 4, length // 2)
        magnitudes = [view.magnitude(view(sound)) for sound in (estimates, references)]
        error = (magnitudes[0] - magnitudes[1]).square().mean((-2, -1))
        power = magnitudes[1].square().mean((-2, -1)).mean(1, keepdim=True)
        losses.append(_log_ratio(error, power, 1e-8))
    return torch.stack(losses).mean((0, 2))


def waveform_snr(masks: Tensor, batch: Batch, spectrogram: Spectrogram) -> Tensor:
    """`masked_snr` in the time domain: masks times the mixture's spectrum, through the inverse STFT.

    Not scale-invariant: unlike SI-SDR (Le Roux et al., ICASSP 2019) it also learns how loud a source is.

    Args:
        masks: as for `masked_l1`.
        batch: as for `masked_l1`.
        spectrogram: the batch's STFT.

    Returns:
        As `masked_snr`.
    """
    estimates, references = _waveforms(masks, batch, spectrogram)
    error = (estimates - references).square().mean(-1)  # (K, B, S)
    power = references.square().mean(-1).mean(1, keepdim=True)
    return _log_ratio(error, power, 1e-11).mean(1)


def _waveforms(masks: Tensor, batch: Batch, spectrogram: Spectrogram) -> tuple[Tensor, Tensor]:
    """What the masks make of the mixture (K, B, S, N), and the sources (B, S, N)."""
    spectra = batch["spectra"]
    n_samples = (spectra.shape[-1] - 1) * spectrogram.hop_length
    estimates = spectrogram.extend(masks.float()) * spectra.sum(1, keepdim=True)
    return spectrogram.inverse(estimates, n_samples), spectrogram.inverse(spectra, n_samples)


def _difference(masks: Tensor, batch: Batch) -> Tensor:
    return masks.float() * batch["mixture"].float() - batch["targets"].float()  # (K, B, S, F, T)


def _shared(masks: Tensor) -> Tensor:
    """Masks divided by their sum. What is cut off at 1e-3 has no gradient; the loss of the masks themselves has."""
    return share(masks.float().clamp_min(1e-3), "sum_to_one")


def _log_ratio(error: Tensor, power: Tensor, silence: float) -> Tensor:
    return torch.log10(error / power.clamp_min(silence) + 10 ** (-_BEST_DB / 10))
