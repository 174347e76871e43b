"""Resampling, and conversion of seconds to samples."""

from __future__ import annotations

import numpy as np
import soxr
import torch
from torch import Tensor

_LONGEST_SECONDS = 1e12  # longer than any sound


def resample(waveform: Tensor, from_hz: int, to_hz: int, n_samples: int | None = None) -> Tensor:
    """Resample along the last axis with soxr (quality HQ), without delay.

    Args:
        waveform: (..., N), on any device; it is resampled on the CPU.
        from_hz: sample rate of ``waveform`` in Hz.
        to_hz: sample rate of the result in Hz.
        n_samples: length of the result, which is cut or padded with zeros; ceil(N * to_hz / from_hz) if None.

    Returns:
        (..., n_samples), float32, on the device of ``waveform``; ``waveform`` itself if rate and length are unchanged.
    """
    if n_samples is None:
        n_samples = -(-waveform.shape[-1] * to_hz // from_hz)
    if from_hz == to_hz and n_samples == waveform.shape[-1]:
        return waveform
    flat = waveform.detach().to("cpu", torch.float32).reshape(-1, waveform.shape[-1]).numpy()
    out = np.zeros((len(flat), n_samples), dtype=np.float32)
    for channel, samples in zip(out, flat, strict=True):  # one by one takes a third of the memory, no more time
        resampled = soxr.resample(samples, from_hz, to_hz, quality="HQ")[:n_samples]
        channel[: len(resampled)] = resampled
    return torch.from_numpy(out).reshape(*waveform.shape[:-1], -1).to(waveform.device)


class Resampler:
    """Resampling of a waveform that arrives in blocks; the joined results are those of `resample`, bit for bit.

    Args:
        from_hz: sample rate of the blocks in Hz.
        to_hz: sample rate of the results in Hz.
        channels: number of channels C.
    """

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        self._rates = from_hz, to_hz
        self._stream = soxr.ResampleStream(from_hz, to_hz, channels, quality="HQ") if from_hz != to_hz else None
        self._taken = self._given = 0

    def __call__(self, block: Tensor, last: bool = False) -> Tensor:
        """Resample the next block (C, n) on the CPU, float32; n may be 0.

        Args:
            block: the block.
            last: whether it is the last one; the result then has all that is left.

        Returns:
            (C, m), float32; m may be 0, as the filter lags behind.
        """
        if self._stream is None:
            return block
        from_hz, to_hz = self._rates
        self._taken += block.shape[-1]
        found = self._stream.resample_chunk(np.ascontiguousarray(block.numpy().T), last)
        if last:
            missing = -(-self._taken * to_hz // from_hz) - self._given - len(found)
            found = np.pad(found, ((0, max(missing, 0)), (0, 0)))[: len(found) + missing]
        self._given += len(found)
        return torch.from_numpy(np.ascontiguousarray(found.T))


def samples_of(seconds: float, rate: int) -> int:
    """Convert seconds to samples at ``rate`` Hz; seconds above 1e12 count as 1e12, to keep the result finite."""
    return round(min(seconds, _LONGEST_SECONDS) * rate)
