"""Training losses: pure functions of masks and a batch of patches.

Each returns a value for every stack and source, (K, S) in float32; the training loss is their sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""``mixture`` (B, 1, F, T) and ``targets`` (B, S, F, T), see `hourglass_sep.data.patches.PatchSpectrograms`."""

_BEST_DB = 30.0
"""Where `masked_snr` levels off: a patch that is almost perfect does not outweigh the others."""


def masked_l1(masks: Tensor, batch: Batch) -> Tensor:
    """L1 between target magnitudes and masked mixture (Park 2018, section 3.3).

    Args:
        masks: (K, B, S, F, T), as the network gives them, not clamped.
        batch: see above.

    Returns:
        (K, S), float32: each the mean over batch, bins and frames.
    """
    return _difference(masks, batch).abs().mean(dim=(1, 3, 4))


def masked_snr(masks: Tensor, batch: Batch) -> Tensor:
    """The logarithm of every patch's squared error: loud patches count no more than others, as with SDR.

    log10 of a patch's mean squared error over the mean power of its targets; 10 dB less error are 1 less, down to -3.

    With ``data.target=phase_sensitive`` the squared error is, up to a constant, that of the complex spectrum which the
    mask and the mixture's phase give: what SDR measures (Erdogan et al., ICASSP 2015).

    Args and returns: as `masked_l1`.
    """
    error = _difference(masks, batch).square().mean(dim=(3, 4))  # (K, B, S)
    power = batch["targets"].float().square().mean(dim=(2, 3)).mean(1, keepdim=True)  # (B, 1)
    return torch.log10(error / power.clamp_min(1e-8) + 10 ** (-_BEST_DB / 10)).mean(1)


def _difference(masks: Tensor, batch: Batch) -> Tensor:
    return masks.float() * batch["mixture"].float() - batch["targets"].float()  # (K, B, S, F, T)
