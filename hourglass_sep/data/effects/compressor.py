"""Compression of a source's dynamic range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep.data.effects.level import at_level_of
from hourglass_sep.data.effects.settings import check_flag, check_range, uniform

_BLOCK_SECONDS = 0.005


class Compressor:
    """A feed-forward compressor with a hard knee, whose detector works on blocks of 5 ms.

    Static curve and smoothing are those of Giannoulis, Massberg and Reiss ("Digital dynamic range compressor design",
    JAES 2012): the gain in dB follows the level with attack and release by the smooth branching detector. The level is
    the RMS of a block over all channels, which keep their balance; between blocks the gain is interpolated. A detector
    of samples is a recursion that no library does fast enough under a licence like ours.

    Args:
        threshold_db: range of the threshold in dB relative to the source's RMS in the patch, within +-40.
        ratio: range of the compression ratio, from 1 to 100.
        attack_seconds: range of the time constant of falling gain in s, up to 1.
        release_seconds: range of the time constant of rising gain in s, up to 5.
        keep_level: scale the result to the RMS of the original (make-up gain).

    Raises:
        ValueError: invalid range.
    """

    def __init__(
        self,
        threshold_db: Sequence[float] = (-10.0, 3.0),
        ratio: Sequence[float] = (1.5, 6.0),
        attack_seconds: Sequence[float] = (0.005, 0.05),
        release_seconds: Sequence[float] = (0.05, 0.3),
        keep_level: bool = True,
    ) -> None:
        key = "effects.compressor"
        self.threshold_db = check_range(f"{key}.threshold_db", threshold_db, -40, 40)
        self.ratio = check_range(f"{key}.ratio", ratio, 1, 100)
        self.attack_seconds = check_range(f"{key}.attack_seconds", attack_seconds, 0.001, 1)
        self.release_seconds = check_range(f"{key}.release_seconds", release_seconds, 0.001, 5)
        check_flag(f"{key}.keep_level", keep_level)
        self.keep_level = keep_level

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """See `Effect`."""
        threshold_db, ratio = uniform(rng, self.threshold_db), uniform(rng, self.ratio)
        block = max(1, round(_BLOCK_SECONDS * sample_rate_hz))
        attack, release = (
            math.exp(-block / sample_rate_hz / uniform(rng, limits))
            for limits in (self.attack_seconds, self.release_seconds)
        )
        n_samples = waveform.shape[-1]
        padded = F.pad(waveform, (0, -n_samples % block)).unflatten(-1, (-1, block))
        power = padded.square().mean((0, 2))
        levels_db = 10 * torch.log10(power / power.mean()).nan_to_num(0)
        wanted = (levels_db - threshold_db).clamp_min(0) * (1 - 1 / ratio)
        reductions_db = [wanted[0].item()]  # as if the first block's level had lasted since long before the patch
        for value in wanted.tolist():
            kept = attack if value > reductions_db[-1] else release
            reductions_db.append(kept * reductions_db[-1] + (1 - kept) * value)
        gains = 10 ** (torch.tensor(reductions_db) / -20)
        ramp = torch.arange(1, block + 1) / block
        changed = (padded * torch.lerp(gains[:-1, None], gains[1:, None], ramp)).flatten(1)[:, :n_samples]
        return at_level_of(waveform, changed) if self.keep_level else changed
