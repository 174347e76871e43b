"""Checks of waveforms and sample rates that users pass in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.audio.decoder import RATES_HZ

_MOST_CHANNELS = 1024


def checked_rate(sample_rate_hz: object) -> int:
    """Check a sample rate in Hz.

    Raises:
        ValueError: not a whole number, or out of range.
    """
    low, high = RATES_HZ
    if isinstance(sample_rate_hz, int | np.integer) and low <= sample_rate_hz <= high:
        return int(sample_rate_hz)
    raise ValueError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: give a whole number, {low} to {high} Hz")


def checked(block: Tensor | np.ndarray) -> Tensor:
    """Check a waveform (N), (C, N) or (B, C, N), and convert it to float32.

    Raises:
        ValueError: another type or shape, integer samples, or values that are not finite.
    """
    if not isinstance(block, Tensor | np.ndarray):
        raise ValueError(f"waveform is a {type(block).__name__}: give a tensor or an array")
    if isinstance(block, np.ndarray):
        usable = block.flags.writeable and block.flags.c_contiguous and block.dtype.isnative
        block = block if usable else np.array(block, dtype=block.dtype.newbyteorder("="), order="C")
    waveform = torch.as_tensor(block)
    if not 1 <= waveform.dim() <= 3:
        raise ValueError(f"waveform has shape {tuple(waveform.shape)}, expected (N), (C, N) or (B, C, N)")
    if waveform.dim() > 1 and waveform.shape[-2] > _MOST_CHANNELS:
        raise ValueError(f"waveform has shape {tuple(waveform.shape)}: give (C, N), not (N, C)")
    if not waveform.is_floating_point():
        raise ValueError(f"waveform has {waveform.dtype} samples: give floating-point ones, full scale at +-1")
    if not torch.isfinite(waveform).all():
        raise ValueError("waveform holds NaN or infinite samples")
    return waveform.float()


def alike(blocks: Iterable[Tensor | np.ndarray]) -> Iterator[Tensor]:
    """Yield the blocks of one waveform, each `checked`.

    Raises:
        ValueError: an invalid block, see `checked`, or blocks that differ in an axis before the last.
    """
    shape = None
    for block in blocks:
        waveform = checked(block)
        shape = waveform.shape[:-1] if shape is None else shape
        if waveform.shape[:-1] != shape:
            raise ValueError(f"a block has shape {tuple(waveform.shape)}, those before had {(*shape, 'n')}")
        yield waveform
