"""Reading sound files, whole or block by block.

libsndfile reads what is not compressed, or hardly: wav, aiff, caf, au and the like, in this process. Everything else
is FFmpeg's, which PyAV carries: mp3, ogg, opus, flac, m4a, wma, and the sound of video; docs/formats.md says why.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import soundfile
import torch
from torch import Tensor

from hourglass_sep.audio.containers import refuse_truncated
from hourglass_sep.errors import AudioError

RATES_HZ = (1000, 768_000)
"""Sample rates outside of these are no sound's, and resampling from them would not end."""

_BLOCK_SAMPLES = 1 << 16
_LONGEST_SECONDS = 1e12
_LOUDEST = 1e6  # times full scale: no recording, and squares of much more overflow
_LINEAR = (
    "PCM",
    "FLOAT",
    "DOUBLE",
    "ULAW",
    "ALAW",
    "ALAC",
    "DPCM",
    "DWVW",
    "IMA",
    "MS_ADPCM",
    "G72",
    "GSM610",
    "NMS",
    "VOX",
)
"""Beginnings of libsndfile's subtypes whose length and order of channels it knows as well as FFmpeg."""
_UNKNOWN = 1 << 60  # libsndfile's length of what does not say it

_HEAD_BYTES = 1 << 16
_LONGEST_NAME = 1000  # bytes: of paths, libsndfile takes 1023
_UNRECOGNISED = 1  # libsndfile's error number
_SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b".snd", b"dns.", b"caff")
_NOT_PCM = tuple(map(bytes.fromhex, ("72f81f4e", "fe7f0180", "7ffe8001", "ff1f00e8", "1fffe800")))
"""Beginnings of DTS frames and of S/PDIF bursts: copies of DTS discs are wav files that say they hold PCM. FFmpeg
looks whether it is so; where it is not, it reads the same samples as libsndfile."""

TAGS = ("title", "artist", "album", "date", "tracknumber", "genre", "copyright", "comment", "license")
"""What stems get of a song's tags, under the names that soundfile gives them."""

_DEPTHS = dict.fromkeys(("PCM_24", "ALAC_20", "ALAC_24"), "24")
_DEPTHS |= dict.fromkeys(("PCM_32", "ALAC_32", "FLOAT", "DOUBLE"), "float32")


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


class _Sndfile(Decoder):
    """By libsndfile.

    Raises:
        LibsndfileError: it cannot read this file, or not as well as FFmpeg.
    """

    def __init__(self, path: Path) -> None:
        self._file = soundfile.SoundFile(as_name(path))
        if self._file.format in ("MP3", "OGG", "FLAC") or not self._file.subtype.startswith(_LINEAR):
            self._file.close()
            raise soundfile.LibsndfileError(_UNRECOGNISED)
        known = 0 < self._file.frames < _UNKNOWN
        depth = _DEPTHS.get(self._file.subtype, "16")
        info = Info(self._file.frames if known else None, self._file.samplerate, self._file.channels, depth)
        try:
            super().__init__(path, info)
        except AudioError:
            self.close()
            raise
        self.tags = {name: text for name, text in self._file.copy_metadata().items() if name in TAGS}

    def _seek(self, sample: int) -> int:
        behind = self.info.n_samples is None or sample >= self.info.n_samples
        try:
            return 0 if behind else self._file.seek(sample)
        except soundfile.LibsndfileError:
            return 0

    def _read(self) -> Iterator[np.ndarray]:
        try:
            while len(samples := self._file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                yield samples
        except soundfile.LibsndfileError as error:
            raise unreadable(self.path, error) from error

    def close(self) -> None:
        self._file.close()


def open_audio(path: str | Path, stream: int | None = None) -> Decoder:
    """Open a sound file, or the sound of a video.

    Args:
        path: the file.
        stream: which of several audio streams, from 1; by default the one that is marked so, or the first.

    Raises:
        AudioError: the file is missing, empty, truncated, or no audio.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not a sound file: name a file in it")
        if not path.exists():
            raise AudioError(f"{path} does not exist: check the name")
        if not path.is_file():
            raise AudioError(f"{path} is not a plain file: copy what it gives into one")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is an empty file (0 bytes): fetch or export it again")
        refuse_truncated(path)
        return _first_that_can(path, stream)
    except (OSError, ValueError) as error:  # ValueError: a name that the file system's encoding lacks
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{str(path)!r} cannot be opened ({reason}): check its name and permissions") from error


def samples_of(seconds: float, rate: int) -> int:
    """Seconds in samples; what is longer than any sound (1e305) becomes so, too, and not infinite."""
    return round(min(seconds, _LONGEST_SECONDS) * rate)


def as_name(path: Path, flags: int = os.O_RDONLY) -> str | bytes | int:
    """A path as soundfile takes it: as bytes where it is not in the file system's encoding, opened where it is long.

    ``flags`` are those that it is opened with; soundfile closes it.
    """
    if len(os.fsencode(path)) > _LONGEST_NAME:
        return os.open(path, flags)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


def _first_that_can(path: Path, stream: int | None) -> Decoder:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    form = head.find(b"fmt ")
    in_wav = form > 0 and head[form + 8 : form + 10] in (b"P\0", b"U\0")  # MPEG
    is_mpeg = in_wav or head[:3] == b"ID3" or head[:1] == b"\xff" or path.suffix.lower() == ".mp3"
    if head[:4] in _SNDFILE_MAGIC and not is_mpeg and not any(mark in head for mark in _NOT_PCM):
        return _by_libsndfile(path, stream) or _by_ffmpeg(path, stream)
    try:
        return _by_ffmpeg(path, stream)
    except AudioError:
        other = None if is_mpeg else _by_libsndfile(path, stream)  # libmpg123 writes to standard error
        if other is None:
            raise
        return other


def _by_libsndfile(path: Path, stream: int | None) -> Decoder | None:
    """None if it cannot, or not as well as FFmpeg."""
    try:
        decoder = _Sndfile(path)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: soundfile takes NAME.raw for bare samples
        return None
    if decoder.info.n_samples is None:  # libsndfile reads nothing of streams that do not say how long they are
        with suppress(AudioError):
            other = _by_ffmpeg(path, stream)
            decoder.close()
            return other
    if stream not in (None, 1):
        decoder.close()
        raise AudioError(f"{path} has no audio stream {stream}: --stream can be 1 to 1")
    return decoder


def _by_ffmpeg(path: Path, stream: int | None) -> Decoder:
    """Start FFmpeg for the files that need it: wav and the like are read without, and where it is broken."""
    from hourglass_sep.audio.ffmpeg import Ffmpeg

    return Ffmpeg(path, stream)


def unreadable(path: Path, error: Exception) -> AudioError:
    """What a library says of a file, in one line."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    reason = reason.strip().rstrip(".")
    return AudioError(f"{path} cannot be read as audio ({reason}): damaged, or no sound file")


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole sound file, see `open_audio`.

    Returns:
        The waveform (C, N), float32, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, truncated, no audio, or holds values that are not finite.
    """
    with open_audio(path) as decoder:
        return torch.cat(list(decoder.blocks()), -1), decoder.info.sample_rate_hz


def info(path: str | Path, stream: int | None = None) -> Info:
    """Read a sound file's header; ``stream`` as for `open_audio`.

    Raises:
        AudioError: the file is missing or no audio.
    """
    with open_audio(path, stream) as decoder:
        return decoder.info
