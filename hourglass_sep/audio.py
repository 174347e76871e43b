"""Sound files and sample rates: the only module that opens audio.

Waveforms are float32 tensors of shape (C, N) here, full scale at +-1.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from hourglass_sep.errors import AudioError

_LOUDEST = 1e6  # times full scale: no recording, and squares of much more overflow
_LARGEST_OGG_PAGE = 65307
_OGG_END = 4  # flag of the last page
_MP3_SLACK = 4 * 1152  # samples by which a header may be wrong


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole sound file (wav, flac, ogg, mp3).

    Returns:
        The waveform (C, N), float32, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, truncated, no audio, or holds values that are not finite.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not a sound file: name a file in it")
        if not path.exists():
            raise AudioError(f"{path} does not exist: check the name")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is an empty file (0 bytes): fetch or export it again")
        _refuse_truncated(path)
        samples, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        declared = soundfile.info(path).frames
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        raise AudioError(f"{path} cannot be read as audio ({reason}): damaged, or not wav, flac, ogg or mp3") from error
    except (OSError, ValueError) as error:  # ValueError: a name that the file system's encoding lacks
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{str(path)!r} cannot be opened ({reason}): check its name and permissions") from error
    if samples.shape[0] == 0:
        raise AudioError(f"{path} holds no samples: fetch or export it again")
    if declared - samples.shape[0] > _MP3_SLACK:
        raise AudioError(
            f"{path} is truncated ({samples.shape[0]} samples, its header says {declared}): fetch or export it again"
        )
    if not np.isfinite(samples).all() or np.abs(samples).max() > _LOUDEST:
        raise AudioError(f"{path} holds NaN, infinite or absurdly large samples: export it again")
    return torch.from_numpy(samples.T.copy()), int(sample_rate_hz)


class Info(NamedTuple):
    """What a sound file's header says; the length of compressed files may be an estimate."""

    n_samples: int
    sample_rate_hz: int
    channels: int


def info(path: str | Path) -> Info:
    """Read a sound file's header.

    Raises:
        AudioError: the file is missing or no audio.
    """
    try:
        found = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(f"{path} cannot be read as audio ({reason}): damaged, or not wav, flac, ogg or mp3") from error
    return Info(found.frames, found.samplerate, found.channels)


def _refuse_truncated(path: Path) -> None:
    """Raise for RIFF files that are shorter than they say and Ogg streams without an end: libsndfile reads both."""
    found = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(12)
        file.seek(max(found - _LARGEST_OGG_PAGE, 0))
        tail = file.read() if header[:4] == b"OggS" else b""
    if header[:4] == b"RIFF" and header[8:12] == b"WAVE":
        declared = int.from_bytes(header[4:8], "little") + 8
        streamed = declared - 8 in (0, 0xFFFFFFFF)  # written to a pipe: the length was not known
        if not streamed and declared - found > 1:
            raise AudioError(
                f"{path} is truncated ({found} bytes, its header says {declared}): fetch or export it again"
            )
    last_page = tail.rfind(b"OggS")
    if tail and (last_page < 0 or not tail[last_page + 5 : last_page + 6][0] & _OGG_END):
        raise AudioError(f"{path} is truncated (its stream has no end): fetch or export it again")


def resample(waveform: Tensor, from_hz: int, to_hz: int, n_samples: int | None = None) -> Tensor:
    """Resample along the last axis with soxr, in high quality and without delay.

    Args:
        waveform: (..., N), any device; the work is done on the CPU.
        from_hz: its sample rate.
        to_hz: the wanted sample rate.
        n_samples: the wanted length; ceil(N * to_hz / from_hz) if not given.

    Returns:
        (..., n_samples), float32.
    """
    if n_samples is None:
        n_samples = -(-waveform.shape[-1] * to_hz // from_hz)
    if from_hz == to_hz and n_samples == waveform.shape[-1]:
        return waveform
    flat = waveform.detach().to("cpu", torch.float32).reshape(-1, waveform.shape[-1]).numpy()
    out = soxr.resample(flat.T, from_hz, to_hz, quality="HQ").T[:, :n_samples]
    out = np.pad(out, ((0, 0), (0, n_samples - out.shape[-1])))
    return torch.from_numpy(np.ascontiguousarray(out)).reshape(*waveform.shape[:-1], -1).to(waveform.device)


@contextmanager
def opened(
    paths: Sequence[Path], sample_rate_hz: int, channels: int, subtype: str = "PCM_16"
) -> Iterator[list[Writer]]:
    """Open WAV files for writing before there is anything to write, so that a bad folder is found at once.

    The samples go to ``NAME.wav.part``; the names proper appear, all together, when the block ends without an error.

    Args:
        paths: the files to write; their folders are made if need be.
        sample_rate_hz: their sample rate.
        channels: C.
        subtype: libsndfile's name of the sample format: PCM_16, PCM_24, FLOAT.

    Raises:
        AudioError: a folder or a file cannot be written.
    """
    parts = [path.with_name(path.name + ".part") for path in paths]
    made = [folder for folder in dict.fromkeys(path.parent for path in paths) if not folder.exists()]
    writers: list[Writer] = []
    done = False
    try:
        for path, part in zip(paths, parts, strict=True):
            with _writing(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                path.parent.mkdir(parents=True, exist_ok=True)
                file = soundfile.SoundFile(part, "w", sample_rate_hz, channels, subtype, format="WAV")
                writers.append(Writer(file, path))
        yield writers
        for writer in writers:
            writer.close()
        for path, part in zip(paths, parts, strict=True):
            with _writing(path):
                os.replace(part, path)
        done = True
    finally:
        if not done:
            with suppress(AudioError):
                for writer in writers:
                    writer.close()
            for part in parts:
                with suppress(OSError):
                    part.unlink()
            for folder in made:
                with suppress(OSError):  # not there, or not empty
                    folder.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing a file into one line."""
    try:
        yield
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", error)
        raise AudioError(f"{path} cannot be written to ({reason}): choose another folder or make room") from error


class Writer:
    """Appends waveforms (C, N) to an open sound file."""

    def __init__(self, file: soundfile.SoundFile, path: Path) -> None:
        self._file = file
        self._path = path

    def __call__(self, waveform: Tensor) -> int:
        """Append (C, N); return how many samples of an integer format had to be clipped.

        Raises:
            AudioError: the disk is full, for one.
        """
        samples = waveform.detach().to("cpu", torch.float32).T.contiguous().numpy()
        with _writing(self._path):
            self._file.write(samples)
        return int((np.abs(samples) > 1.0).sum()) if self._file.subtype.startswith("PCM") else 0

    def close(self) -> None:
        """Finish the file; `opened` does this."""
        with _writing(self._path):
            self._file.close()


def write(path: str | Path, waveform: Tensor, sample_rate_hz: int, subtype: str = "PCM_16") -> int:
    """Write (C, N) as WAV; return how many samples were clipped. See `opened`."""
    with opened([Path(path)], sample_rate_hz, waveform.shape[0], subtype) as (append,):
        return append(waveform)
