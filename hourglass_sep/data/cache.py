"""Files of the cache: the stems of a clip at the network's rate, 16 bit, in safetensors' format.

A file has a tensor (N, C) for each source that is not silent, and in its metadata the scale of each source and the
state of the clip's files that it was made from. Samples are stored without loss where they are those of 16-bit files,
and otherwise with a scale by which the peak is the largest 16-bit number.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.audio import Resampler
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.files import writing

_SAMPLE = np.dtype("<i2")
_STEP = 2.0**-15  # of 16-bit files
_LARGEST = 32767
_SPOOL_BYTES = 1 << 26  # of a clip in memory while it is made; longer ones lie on the disk until their peak is known
_CHUNK_SAMPLES = 1 << 18
_LENGTH = struct.Struct("<Q")  # of the header, at a safetensors file's beginning
_ALIGNMENT = 8
_LONGEST_HEADER = 1 << 24


class Stem(NamedTuple):
    """Place of a stem in its file.

    Attributes:
        scale: value of one step; 0 if the stem is silent and takes no space.
        offset: its first byte in the file.
    """

    scale: float
    offset: int


class CachedClip(NamedTuple):
    """A file of the cache, which is open only while it is read.

    Attributes:
        path: the file.
        modified_ns: its time of modification in ns.
        channels: number of channels C.
        n_samples: length in samples.
        stems: source to its place.
        stamp: the state that it was made from.
    """

    path: Path
    modified_ns: int
    channels: int
    n_samples: int
    stems: dict[str, Stem]
    stamp: dict[str, Any]

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Read a file's header; None if it is missing or damaged."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            about = json.loads(header.pop("__metadata__")["hourglass_sep"])
            begin = _LENGTH.size + length
            if status.st_size != begin + max((place["data_offsets"][1] for place in header.values()), default=0):
                return None
            stems = {
                name: Stem(scale, begin + header[name]["data_offsets"][0] if scale else 0)
                for name, scale in about["scales"].items()
            }
            return cls(path, status.st_mtime_ns, about["channels"], about["n_samples"], stems, about["stamp"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
            return None

    def read(self, source: str, start: int, stop: int) -> Tensor:
        """Read a part of a stem.

        The file is mapped to memory for the time of the call only: pages that stayed mapped would count as memory of
        this process, and open files are limited.

        Args:
            source: name of the source.
            start: first sample.
            stop: sample after the last.

        Returns:
            (C, stop - start), float32.

        Raises:
            ValueError: not ``0 <= start <= stop <= n_samples``.
            DataError: the file was removed or replaced.
        """
        if not 0 <= start <= stop <= self.n_samples:
            raise ValueError(f"there are no samples {start} to {stop}: the clip has {self.n_samples}")
        scale, offset = self.stems[source]
        if not scale or start == stop:
            return torch.zeros(self.channels, stop - start)
        offset += start * self.channels * _SAMPLE.itemsize
        first = offset - offset % mmap.ALLOCATIONGRANULARITY
        n_steps = (stop - start) * self.channels
        try:
            with self.path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_mtime_ns != self.modified_ns:
                    raise ValueError("another file")
                length = offset - first + n_steps * _SAMPLE.itemsize
                mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=first)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} was removed or replaced while in use: start this run again") from error
        steps = np.frombuffer(mapped, _SAMPLE, n_steps, offset - first).reshape(-1, self.channels)
        return torch.from_numpy(np.multiply(steps.T, np.float32(scale), dtype=np.float32, order="C"))


class Recorder:
    """Bring the stems of a clip to the network's rate and channels, and store them in a file.

    Args:
        folder: folder for temporary files, which have no names.
        sources: names of the stems.
        from_hz: sample rate of the clip in Hz.
        to_hz: sample rate of the network in Hz.
        channels: number of channels of the network.
    """

    def __init__(self, folder: Path, sources: Sequence[str], from_hz: int, to_hz: int, channels: int) -> None:
        self._folder = folder
        self._channels = channels
        self._resamplers = {source: Resampler(from_hz, to_hz, channels) for source in sources}
        self._peaks = dict.fromkeys(sources, 0.0)
        self._is_16_bit = dict.fromkeys(sources, True)
        self._n_samples = 0
        self._open = ExitStack()
        most = _SPOOL_BYTES // len(sources)
        self._spools: dict[str, IO[bytes]] = {}
        for source in sources:
            spool = SpooledTemporaryFile(most, "w+b", dir=str(folder))  # noqa: SIM115 - closed by __exit__
            self._spools[source] = self._open.enter_context(spool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, block: Mapping[str, Tensor]) -> None:
        """Add the next block of `Clip.blocks`.

        Raises:
            FileError: the disk is full.
        """
        self._add(block, last=False)

    def _add(self, block: Mapping[str, Tensor], last: bool) -> None:
        for source, resampler in self._resamplers.items():
            waveform = resampler(with_channels(block[source], self._channels), last)
            if not waveform.shape[-1]:
                continue
            self._peaks[source] = max(self._peaks[source], float(waveform.abs().max()))
            steps = waveform / _STEP
            is_16_bit = (steps == steps.round()) & (steps >= -_LARGEST - 1) & (steps <= _LARGEST)
            self._is_16_bit[source] &= bool(is_16_bit.all())
            with writing(self._folder):
                self._spools[source].write(np.ascontiguousarray(waveform.numpy().T).tobytes())
        self._n_samples += waveform.shape[-1]

    def save(self, path: Path, stamp: Mapping[str, Any]) -> None:
        """Write the file; no block can be added afterwards.

        Args:
            path: the file.
            stamp: the state that it is made from.

        Raises:
            FileError: it cannot be written.
        """
        self._add(dict.fromkeys(self._peaks, torch.empty(self._channels, 0)), last=True)
        scales = {
            source: _STEP if peak and self._is_16_bit[source] else float(np.float32(peak / _LARGEST))
            for source, peak in self._peaks.items()
        }
        about = {"scales": scales, "channels": self._channels, "n_samples": self._n_samples, "stamp": stamp}
        header: dict[str, Any] = {"__metadata__": {"hourglass_sep": json.dumps(about)}}
        shape = [self._n_samples, self._channels]
        n_bytes = self._n_samples * self._channels * _SAMPLE.itemsize
        stored = [source for source, scale in scales.items() if scale]
        for i, source in enumerate(stored):
            header[source] = {"dtype": "I16", "shape": shape, "data_offsets": [i * n_bytes, (i + 1) * n_bytes]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        with writing(path), path.open("wb") as file:
            file.write(_LENGTH.pack(len(text)) + text)
            for source in stored:
                spool = self._spools[source]
                spool.seek(0)
                while chunk := spool.read(_CHUNK_SAMPLES * np.dtype(np.float32).itemsize):
                    steps = np.frombuffer(chunk, np.float32) / np.float32(scales[source])
                    file.write(np.rint(steps).clip(-_LARGEST - 1, _LARGEST).astype(_SAMPLE).tobytes())


def with_channels(waveform: Tensor, channels: int) -> Tensor:
    """A waveform (C, N) with the network's channels: for 1 the mean of all, for 2 that mean twice unless C is 2."""
    if len(waveform) == channels:
        return waveform
    return waveform.mean(0, keepdim=True).expand(channels, -1)
