"""Training losses: pure functions of masks and a batch of patches.

Each returns one value per stack and source, (K, S) in float32; the training loss is their sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""Keys ``mixture`` (B, C, F, T) and ``targets`` (B, S, C, F, T), see `hourglass_sep.data.patches.PatchSpectrograms`."""

_BEST_DB = 30.0
"""SNR in dB at which `masked_snr` levels off, so that an almost perfect patch does not outweigh the others."""


def masked_l1(masks: Tensor, batch: Batch) -> Tensor:
    """L1 distance between target magnitudes and masked mixture (Park 2018, section 3.3).

    Args:
        masks: outputs of the network (K, B, S, 1|C, F, T), not clamped.
        batch: spectrograms of mixture and targets, see `Batch`.

    Returns:
        Losses (K, S), float32: means over batch, channels, bins and frames.
    """
    return _difference(masks, batch).abs().mean(dim=(1, 3, 4, 5))


def masked_snr(masks: Tensor, batch: Batch) -> Tensor:
    """Logarithm of the relative squared error of each patch; as with SDR, loud patches weigh no more than others.

    This is log10 of a patch's mean squared error divided by the mean power of its targets. An error lower by 10 dB
    lowers the loss by 1, down to -3.

    With ``data.target=phase_sensitive`` the squared error is, up to a constant, that of the complex spectrum made of
    the masked magnitudes and the mixture's phase, the error that SDR measures (Erdogan et al., ICASSP 2015).

    Args and returns: as `masked_l1`.
    """
    error = _difference(masks, batch).square().mean(dim=(3, 4, 5))  # (K, B, S)
    power = batch["targets"].float().square().mean(dim=(2, 3, 4)).mean(1, keepdim=True)  # (B, 1)
    return torch.log10(error / power.clamp_min(1e-8) + 10 ** (-_BEST_DB / 10)).mean(1)


def _difference(masks: Tensor, batch: Batch) -> Tensor:
    return masks.float() * batch["mixture"][:, None].float() - batch["targets"].float()  # (K, B, S, C, F, T)
