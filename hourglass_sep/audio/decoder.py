"""What every decoder of sound files does: blocks of samples of a part of a file, and what its header says."""

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
"""Sample rates outside of these are no sound's, and resampling from them would not end."""

_LOUDEST = 1e6  # times full scale: no recording, and squares of much more overflow

TAGS = ("title", "artist", "album", "date", "tracknumber", "genre", "copyright", "comment", "license")
"""What stems get of a song's tags, under the names that soundfile gives them."""


class Info(NamedTuple):
    """What a sound file's header says; the length of compressed files may be an estimate, or None."""

    n_samples: int | None
    sample_rate_hz: int
    channels: int
    bit_depth: str = "16"
    """The one of ``16``, ``24`` and ``float32`` that holds what is in the file; ``16`` for lossy formats."""


class Decoder(ABC):
    """An open sound file, to be read once from front to back.

    Attributes:
        info: what its header says.
        tags: title, artist, album and the like, by name in lower case.
        notes: what the user should know of how it was read, a line each; complete at the end.
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
        """Go to a sample, or stay at the beginning where that is impossible; return the position."""

    @abstractmethod
    def _read(self) -> Iterator[np.ndarray]:
        """Blocks (n, C), float32, from here to the end."""

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
        """Read a part of the file.

        Args:
            start_seconds: where the part begins.
            duration_seconds: its length; to the end by default, or if there is not so much.

        Yields:
            Waveforms (C, n), float32, full scale at +-1, n from 1 on.

        Raises:
            AudioError: nothing there, samples that are not finite, or an end before the header's.
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
        """Look whether the file was being copied or fetched anew: formats without a length only seem to end earlier."""
        with suppress(OSError):  # removed: what was open was read
            now = self.path.stat()
            if now.st_ino == self._status.st_ino and now.st_size < self._status.st_size:
                raise AudioError(f"{self.path} became shorter while it was read: wait until it is there, run it again")

    def _check_end(self, position: int) -> None:
        """Compare what was read with what the header says."""
        declared = self.info.n_samples or 0
        if declared > position:
            raise AudioError(
                f"{self.path} is truncated ({position} samples, its header says {declared}): fetch or export it again"
            )


def unreadable(path: Path, error: Exception) -> AudioError:
    """What a library says of a file, in one line."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    reason = reason.strip().rstrip(".")
    return AudioError(f"{path} cannot be read as audio ({reason}): damaged, or no sound file")
