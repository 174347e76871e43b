"""Writing sound files block by block, so that a whole file or none appears under its name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from torch import Tensor

from hourglass_sep.audio.decode import Info
from hourglass_sep.audio.ogg import set_serial
from hourglass_sep.checks import check_choice
from hourglass_sep.errors import AudioError, SettingError

DEPTHS = ("16", "24", "float32")

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_WAV_LIMIT = 1 << 32  # bytes: sizes are 32 bits wide
_CAUTION = 0.9  # lengths of compressed files are estimates
_BLOCK_SAMPLES = 1 << 14  # libsndfile's Vorbis encoder keeps a block on the stack and crashes with large ones
_NO_PEAK_CHUNK = 0x1050  # libsndfile's SFC_SET_ADD_PEAK_CHUNK: it has a time stamp, files would differ every second


class Format(NamedTuple):
    """What a file format can hold."""

    container: str
    """libsndfile's name."""
    subtypes: Mapping[str, str]
    """Bit depth to libsndfile's subtype; one under ``""`` where there is no depth."""
    max_channels: int
    rates_hz: Callable[[int], bool]
    rates: str
    """The same in words."""
    quality: Mapping[str, object] = {}


FORMATS = {
    "wav": Format("WAV", {"16": "PCM_16", "24": "PCM_24", "float32": "FLOAT"}, 1024, lambda hz: True, "any"),
    "flac": Format("FLAC", {"16": "PCM_16", "24": "PCM_24"}, 8, lambda hz: hz <= 655350, "at most 655350"),
    "mp3": Format(
        "MP3",
        {"": "MPEG_LAYER_III"},
        2,
        lambda hz: hz in _MP3_RATES,
        ", ".join(map(str, _MP3_RATES)),
        {"bitrate_mode": "CONSTANT", "compression_level": 0.0},  # 320 kbit/s at 44.1 kHz
    ),
    "ogg": Format("OGG", {"": "VORBIS"}, 255, lambda hz: hz <= 200000, "at most 200000", {"compression_level": 0.2}),
}
"""By the suffix of the files."""


def choose_subtype(path: Path, info: Info, name: str, bit_depth: str | None = None) -> str:
    """The sample format for a sound like another one.

    Args:
        path: the other one, for messages.
        info: its header.
        name: a key of `FORMATS`.
        bit_depth: one of `DEPTHS`; by default the other's, or the nearest that the format can hold.

    Returns:
        libsndfile's name of it.

    Raises:
        SettingError: the format cannot hold the rate, the channels or the depth; the message names one that can.
    """
    check_choice("--format", name, tuple(FORMATS))
    form = FORMATS[name]
    if bit_depth is not None:
        check_choice("--bit-depth", bit_depth, DEPTHS)
        if bit_depth not in form.subtypes:
            able = next(other for other, each in FORMATS.items() if bit_depth in each.subtypes)
            held = ", ".join(form.subtypes) if "" not in form.subtypes else "no bit depth at all"
            raise SettingError(f"--bit-depth {bit_depth} is not possible in {name} ({held}): use --format {able}")
    if info.channels > form.max_channels:
        raise SettingError(
            f"{path} has {info.channels} channels, {name} holds {form.max_channels} at most: use --format wav"
        )
    if not form.rates_hz(info.sample_rate_hz):
        raise SettingError(
            f"{path} has {info.sample_rate_hz} Hz, which {name} cannot hold ({form.rates}): use --format wav"
        )
    if "" in form.subtypes:
        return form.subtypes[""]
    depth = bit_depth or info.bit_depth
    return form.subtypes.get(depth, form.subtypes["24"])


class Writer:
    """Appends waveforms (C, N) to an open sound file.

    Samples of integer formats are rounded to the nearest step, so that what was read from such a file and is written
    unchanged is the same to the bit.
    """

    def __init__(
        self, path: Path, part: Path, sample_rate_hz: int, channels: int, subtype: str, name: str, large: bool
    ) -> None:
        self._path = path
        self._part = part
        form = FORMATS[name]
        container = "RF64" if large and name == "wav" else form.container
        options = dict(form.quality)
        self._file = soundfile.SoundFile(part, "w", sample_rate_hz, channels, subtype, format=container, **options)
        if subtype == "FLOAT":
            soundfile._snd.sf_command(self._file._file, _NO_PEAK_CHUNK, soundfile._ffi.NULL, 0)
        self._scale = {"PCM_16": 1 << 15, "PCM_24": 1 << 23}.get(subtype)
        self._lossy = "" in form.subtypes
        self._bytes_left = _WAV_LIMIT - (1 << 16) if container == "WAV" else None
        self._written = 0

    def __call__(self, waveform: Tensor) -> int:
        """Append (C, N); return how many samples were beyond full scale and had to be clipped.

        Raises:
            AudioError: the disk is full, for one.
        """
        samples = waveform.detach().cpu().T.contiguous().float().numpy()
        clipped = 0
        if self._scale is not None:
            steps = np.rint(samples * np.float64(self._scale))
            clipped = int((steps > self._scale).sum() + (steps < -self._scale).sum())
            steps = steps.clip(-self._scale, self._scale - 1)
            samples = steps.astype("int16") if self._scale == 1 << 15 else steps.astype("int32") * 256
        elif self._lossy:
            clipped = int((np.abs(samples) > 1).sum())
        if self._bytes_left is not None:
            self._bytes_left -= samples.size * {"int16": 2, "int32": 3}.get(str(samples.dtype), 4)
            if self._bytes_left < 0:
                raise AudioError(f"{self._path} would be larger than 4 GiB, which wav cannot be: use --format flac")
        with writing(self._path):
            for start in range(0, len(samples), _BLOCK_SAMPLES):
                self._write(samples[start : start + _BLOCK_SAMPLES])
        self._written += len(samples)
        return clipped

    def _write(self, block: np.ndarray) -> None:
        try:
            self._file.write(block)
        except AssertionError:  # soundfile's own check
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    def close(self) -> None:
        """Finish the file and look whether all of it is there; `opened` does this."""
        with writing(self._path):
            self._file.close()
            with soundfile.SoundFile(self._part) as again:
                if again.frames != self._written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._file.format == "OGG":
                set_serial(self._part)

    def abandon(self) -> None:
        """Close the file in whatever state."""
        with suppress(Exception):
            self._file.close()


@contextmanager
def opened(
    paths: Sequence[Path],
    sample_rate_hz: int,
    channels: int,
    subtype: str = "PCM_16",
    name: str = "wav",
    n_samples: int | None = None,
) -> Iterator[list[Writer]]:
    """Open sound files for writing before there is anything to write, so that a bad folder is found at once.

    The samples go to ``NAME.wav.part``; the names proper appear, all together, when the block ends without an error.

    Args:
        paths: the files to write; their folders are made if need be.
        sample_rate_hz: their sample rate.
        channels: C.
        subtype: libsndfile's name of the sample format, one of the format's.
        name: of the format, a key of `FORMATS`.
        n_samples: their length, as far as it is known: wav becomes RF64 where it would pass 4 GiB.

    Raises:
        AudioError: a folder or a file cannot be written.
    """
    bytes_each = {"PCM_16": 2, "PCM_24": 3}.get(subtype, 4) * channels
    large = (n_samples or 0) * bytes_each > _CAUTION * _WAV_LIMIT
    writers: list[Writer] = []
    with replacing(paths) as parts:
        try:
            for path, part in zip(paths, parts, strict=True):
                with writing(path):
                    writers.append(Writer(path, part, sample_rate_hz, channels, subtype, name, large))
            yield writers
            for writer in writers:
                writer.close()
        finally:
            for writer in writers:
                writer.abandon()


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Names to write files under that get their own names, all together, when the block ends without an error.

    Args:
        paths: the final names; their folders are made if need be.

    Yields:
        ``NAME.part`` for each of them. After an error neither these nor new folders are left.

    Raises:
        AudioError: a folder cannot be made, or a name is a folder's.
    """
    parts = [path.with_name(path.name + ".part") for path in paths]
    folders = [folder for path in paths for folder in (path.parent, *path.parent.parents)]
    made = [folder for folder in dict.fromkeys(folders) if not folder.exists()]
    done = False
    try:
        for path in paths:
            with writing(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                path.parent.mkdir(parents=True, exist_ok=True)
        yield parts
        for path, part in zip(paths, parts, strict=True):
            with writing(path):
                os.replace(part, path)
        done = True
    finally:
        if not done:
            for part in parts:
                with suppress(OSError):
                    part.unlink()
            for folder in sorted(made, key=lambda folder: -len(folder.parts)):
                with suppress(OSError):  # not there, or not empty
                    folder.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing a file into one line."""
    try:
        yield
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or getattr(error, "error_string", error))
        if reason.startswith("System error"):  # libsndfile says no more of a write that failed
            reason = os.strerror(errno.ENOSPC)
        raise AudioError(f"{path} cannot be written to ({reason}): choose another folder or make room") from error


def write(path: str | Path, waveform: Tensor, sample_rate_hz: int, subtype: str = "PCM_16") -> int:
    """Write (C, N) as WAV; return how many samples were clipped. See `opened`."""
    with opened([Path(path)], sample_rate_hz, waveform.shape[0], subtype, "wav", waveform.shape[-1]) as (append,):
        return append(waveform)
