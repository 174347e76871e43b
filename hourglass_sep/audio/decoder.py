"""Base class of the decoders of sound files: the header, and the samples of a part of the file in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.audio.rates import samples_of
from hourglass_sep.support.errors import AudioError

RATES_HZ = (1000, 768_000)
"""Lowest and highest valid sample rate; resampling from a rate outside this range may not end."""

_LOUDEST = 1e6  # times full scale: above any recording, and the squares of much larger samples overflow

TAGS = ("title", "artist", "album", "date", "tracknumber", "genre", "copyright", "comment", "license")
"""Tags copied from a song to its stems, by soundfile's names."""


class Info(NamedTuple):
    """Header of a sound file.

    Attributes:
        n_samples: length in samples; an estimate or None for some compressed files.
        sample_rate_hz: sample rate in Hz.
        channels: number of channels C.
        bit_depth: ``16``, ``24`` or ``float32``: the smallest that holds the samples; ``16`` for lossy formats.
    """

    n_samples: int | None
    sample_rate_hz: int
    channels: int
    bit_depth: str = "16"


class Decoder(ABC):
    """An open sound file, which can be read once, from front to back.

    Args:
        path: the file.
        info: its header.

    Attributes:
        path: the file.
        info: its header.
        tags: tag name (see `TAGS`) to text.
        notes: remarks for the user on the decoding, one line each; complete when all blocks were read.

    Raises:
        AudioError: the sample rate is out of range, or the file has no channels.
    """

    def __init__(self, path: Path, info: Info) -> None:
        self.path = path
        self.info = info
        self.tags: dict[str, str] = {}
        self.notes: list[str] = []
        self._status = path.stat()
        low, high = RATES_HZ
        if not low <= info.sample_rate_hz <= high:
            raise AudioError(f"{path} says it has {info.sample_rate_hz} Hz: {low} to {high} Hz can be, convert it")
        if info.channels < 1:
            raise AudioError(f"{path} has no channels: fetch or export it again")

    @abstractmethod
    def _seek(self, sample: int) -> int:
        """Seek to a sample, or stay at the beginning if that is impossible; return the position in samples."""

    @abstractmethod
    def _read(self) -> Iterator[np.ndarray]:
        """Yield blocks (n, C), float32, from the current position to the end."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def blocks(self, start_seconds: float = 0.0, duration_seconds: float | None = None) -> Iterator[Tensor]:
        """Read a part of the file in blocks.

        Args:
            start_seconds: start of the part in seconds.
            duration_seconds: length of the part in seconds; the part ends at the end of the file if None or too long.

        Yields:
            Waveforms (C, n), float32, n >= 1, full scale at +-1.

        Raises:
            AudioError: the part is empty, samples are not finite or absurdly large, or the file is shorter than its
                header says.
        """
        rate = self.info.sample_rate_hz
        first = samples_of(start_seconds, rate)
        last = first + max(samples_of(duration_seconds, rate), 1) if duration_seconds is not None else None
        position = self._seek(first) if first else 0
        found = 0
        for samples in self._read():
            offset = position
            position += len(samples)
            part = samples[max(first - offset, 0) : None if last is None else max(last - offset, 0)]
            if len(part):
                if not np.isfinite(part).all() or np.abs(part).max() > _LOUDEST:
                    raise AudioError(f"{self.path} holds NaN, infinite or absurdly large samples: export it again")
                found += len(part)
                yield torch.from_numpy(np.ascontiguousarray(part.T))
            if last is not None and position >= last:
                return
        if not position:
            raise AudioError(f"{self.path} holds no samples: fetch or export it again")
        if not found:
            raise AudioError(
                f"{self.path} is {position / rate:.1f} s long: nothing is left of it at {start_seconds:g} s"
            )
        self._refuse_shrunk()
        self._check_end(position)

    def _refuse_shrunk(self) -> None:
        """Refuse a file that became shorter while it was read, since it was being copied or fetched again.

        Formats without a length in the header would give no other sign of it.

        Raises:
            AudioError: the file became shorter.
        """
        with suppress(OSError):  # removed: the open file was still read to its end
            now = self.path.stat()
            if now.st_ino == self._status.st_ino and now.st_size < self._status.st_size:
                raise AudioError(f"{self.path} became shorter while it was read: wait until it is there, run it again")

    def _check_end(self, position: int) -> None:
        """Compare the number of samples read with the header.

        Args:
            position: number of samples from the beginning of the file to its end as read.

        Raises:
            AudioError: the file is truncated.
        """
        declared = self.info.n_samples or 0
        if declared > position:
            raise AudioError(
                f"{self.path} is truncated ({position} samples, its header says {declared}): fetch or export it again"
            )


def unreadable(path: Path, error: Exception) -> AudioError:
    """Convert an error of a decoding library to an `AudioError` with a one-line message."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    reason = reason.strip().rstrip(".")
    return AudioError(f"{path} cannot be read as audio ({reason}): damaged, or no sound file")
