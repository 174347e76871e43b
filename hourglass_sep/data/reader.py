"""Reading of a sound file in blocks of a chosen length at a chosen rate, so that several files can be read at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hourglass_sep import audio


class Reader:
    """A file that is read in blocks of a chosen length, at a chosen rate.

    Args:
        blocks: its waveform in blocks (C, n).
        info: its header.
        sample_rate_hz: sample rate of the result in Hz.
    """

    def __init__(self, blocks: Iterator[Tensor], info: audio.Info, sample_rate_hz: int) -> None:
        self._blocks = self._resampled(blocks, audio.Resampler(info.sample_rate_hz, sample_rate_hz, info.channels))
        self._left = torch.empty(info.channels, 0)
        self._n_samples = 0

    def _resampled(self, blocks: Iterator[Tensor], resampler: audio.Resampler) -> Iterator[Tensor]:
        for block in blocks:
            yield resampler(block)
        yield resampler(block[:, :0], last=True)

    def take(self, n_samples: int) -> Tensor:
        """The next ``n_samples`` samples (C, n), fewer at the end."""
        while self._left.shape[-1] < n_samples and (block := next(self._blocks, None)) is not None:
            self._left = torch.cat([self._left, block], -1)
            self._n_samples += block.shape[-1]
        taken, self._left = self._left[:, :n_samples], self._left[:, n_samples:]
        return taken

    def drain(self) -> int:
        """Read to the end, and return the length of all in samples."""
        return self._n_samples + sum(block.shape[-1] for block in self._blocks)
