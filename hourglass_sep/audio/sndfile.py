"""Decoder by libsndfile, in this process, for sound that is uncompressed or simply coded (ADPCM, A-law, ALAC)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from hourglass_sep.audio.decoder import TAGS, Decoder, Info, unreadable
from hourglass_sep.support.errors import AudioError

_BLOCK_SAMPLES = 1 << 16
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
"""Prefixes of the libsndfile subtypes for which it reads length and channel order as reliably as FFmpeg."""
_UNKNOWN = 1 << 60  # libsndfile gives lengths from here on if the header has none
_LONGEST_NAME = 1000  # bytes: libsndfile takes paths of up to 1023
_UNRECOGNISED = 1  # libsndfile's error number
_SYNCS = tuple(map(bytes.fromhex, ("72f81f4e", "fe7f0180", "7ffe8001", "ff1f00e8", "1fffe800")))
"""Sync words of S/PDIF bursts and DTS frames."""
_SYNC_BYTES = 1 << 16
_DEPTHS = dict.fromkeys(("PCM_24", "ALAC_20", "ALAC_24"), "24")
_DEPTHS |= dict.fromkeys(("PCM_32", "ALAC_32", "FLOAT", "DOUBLE"), "float32")


class Sndfile(Decoder):
    """Decoder by libsndfile.

    Args:
        path: the file.

    Raises:
        LibsndfileError: libsndfile cannot read the file, or not as reliably as FFmpeg.
        AudioError: see `Decoder`.
    """

    def __init__(self, path: Path) -> None:
        self._file = soundfile.SoundFile(as_name(path))
        linear = self._file.format not in ("MP3", "OGG", "FLAC") and self._file.subtype.startswith(_LINEAR)
        if not linear or (self._file.subtype == "PCM_16" and _may_be_compressed(path)):
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
        """See `Decoder`."""
        self._file.close()


def _may_be_compressed(path: Path) -> bool:
    """Whether a file declared as PCM may hold DTS or AC3, as copies of DTS discs do: it has a sync word of `_SYNCS`.

    FFmpeg detects the codec, and reads PCM equally well if there is none.
    """
    with path.open("rb") as file:
        beginning = file.read(_SYNC_BYTES)
    return any(sync in beginning for sync in _SYNCS)


def as_name(path: Path, flags: int = os.O_RDONLY) -> str | bytes | int:
    """Convert a path to a form that soundfile accepts.

    Args:
        path: the file.
        flags: flags of `os.open`, for paths that are opened here.

    Returns:
        The path as a string; as bytes if it cannot be encoded as UTF-8; for long paths, an open file descriptor, which
        soundfile closes.
    """
    if len(os.fsencode(path)) > _LONGEST_NAME:
        return os.open(path, flags)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)
