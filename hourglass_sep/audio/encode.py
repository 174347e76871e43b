"""Writing of sound files block by block; only complete files get their final names."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import soundfile
from torch import Tensor

from hourglass_sep.audio.decoder import Info
from hourglass_sep.audio.sndfile import as_name
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import FileError, SettingError
from hourglass_sep.support.files import replacing, writing

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_WAV_LIMIT = 1 << 32  # bytes: size fields have 32 bits
_CAUTION = 0.5  # fraction of the limit: lengths of compressed files are estimates
_BLOCK_SAMPLES = 1 << 14  # libsndfile's Vorbis encoder keeps a block on the stack and crashes with large blocks
_SET_DOWNGRADE = 0x1210  # SFC_RF64_AUTO_DOWNGRADE: RF64 becomes plain wav if the file is small enough

_LONGEST_TAG = 4096  # characters; longer texts are not tags such as titles

_VORBIS_ORDER = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 4, 5, 3],
    7: [0, 2, 1, 5, 6, 4, 3],
    8: [0, 2, 1, 6, 7, 4, 5, 3],
}
"""Number of channels to the WAV channel index of each Vorbis channel (Vorbis I, section 4.3.9)."""


class Format(NamedTuple):
    """Limits and encoder settings of a file format."""

    container: str
    """libsndfile's name of the format."""
    subtypes: Mapping[str, str]
    """Bit depth to libsndfile's subtype; the key is ``""`` for formats without a bit depth."""
    max_channels: int
    """Largest number of channels."""
    rates_hz: Callable[[int], bool]
    """Whether the format supports a sample rate in Hz."""
    rates: str
    """The supported sample rates in words, for messages."""
    quality: Mapping[str, object] = {}
    """Encoder settings: keyword arguments of `soundfile.SoundFile`."""


FORMATS = {
    "wav": Format("WAV", {"16": "PCM_16", "24": "PCM_24", "float32": "FLOAT"}, 1024, lambda hz: True, "any"),
    "flac": Format(
        "FLAC",
        {"16": "PCM_16", "24": "PCM_24"},
        8,
        lambda hz: hz <= 65535 or (hz % 10 == 0 and hz <= 655350),
        "at most 65535, or tens to 655350",
    ),
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
"""File suffix, without the dot, to format."""

BIT_DEPTHS = tuple(dict.fromkeys(depth for form in FORMATS.values() for depth in form.subtypes if depth))


def choose_subtype(path: Path, info: Info, name: str, bit_depth: str | None = None) -> str:
    """Choose the sample format for writing sound with the properties of an input file.

    Args:
        path: the input file, for messages.
        info: its header.
        name: file format, a key of `FORMATS`.
        bit_depth: one of `BIT_DEPTHS`; if None, the input's, or 24 if the format does not have it.

    Returns:
        libsndfile's name of the sample format (subtype).

    Raises:
        SettingError: the name is unknown, or the format does not support the sample rate, the channels or the bit
            depth; the message then names a format that does.
    """
    check_choice("--format", name, tuple(FORMATS))
    form = FORMATS[name]
    if bit_depth is not None:
        check_choice("--bit-depth", bit_depth, BIT_DEPTHS)
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
    """Write waveforms (C, N) to a sound file, one after the other.

    For integer formats, samples are rounded to the nearest step: samples read from such a file and written unchanged
    are identical to the bit. The file is finished and checked when the ``with`` block ends without an error.

    Args:
        path: final path of the file, for messages.
        part: path under which the file is written.
        sample_rate_hz: sample rate in Hz.
        channels: number of channels C.
        subtype: libsndfile's name of the sample format, one of ``FORMATS[name].subtypes``.
        name: file format, a key of `FORMATS`.
        n_samples: length in samples, which may be an estimate; None if unknown. A wav file above 4 GiB becomes RF64.
        tags: tag name, one of `hourglass_sep.audio.decoder.TAGS`, to text.

    Raises:
        FileError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        part: Path,
        sample_rate_hz: int,
        channels: int,
        subtype: str = "PCM_16",
        name: str = "wav",
        n_samples: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self._part = part
        form = FORMATS[name]
        n_bytes = (n_samples or 0) * channels * {"PCM_16": 2, "PCM_24": 3}.get(subtype, 4)
        huge = n_bytes > _WAV_LIMIT - (1 << 16)
        large = n_samples is None or n_bytes > _CAUTION * _WAV_LIMIT
        container = "RF64" if large and name == "wav" else form.container
        options = dict(form.quality)
        with writing(path):
            self._file = soundfile.SoundFile(
                as_name(part, os.O_RDWR), "w", sample_rate_hz, channels, subtype, format=container, **options
            )
        if container == "RF64" and not huge:
            soundfile._snd.sf_command(self._file._file, _SET_DOWNGRADE, soundfile._ffi.NULL, True)
        for tag, text in (tags or {}).items():
            if 0 < len(text) <= _LONGEST_TAG:
                with suppress(soundfile.LibsndfileError, UnicodeEncodeError):  # tags that the format does not support
                    setattr(self._file, tag, text.replace("\0", ""))
        self._order = _VORBIS_ORDER.get(channels) if name == "ogg" else None
        self._scale = {"PCM_16": 1 << 15, "PCM_24": 1 << 23}.get(subtype)
        self._lossy = "" in form.subtypes
        self._bytes_left = _WAV_LIMIT - (1 << 16) if container == "WAV" else None
        self._written = 0

    def __call__(self, waveform: Tensor) -> int:
        """Append a waveform.

        Args:
            waveform: (C, N), full scale at +-1.

        Returns:
            Number of samples beyond full scale: clipped in integer formats, counted only in lossy ones; 0 for float32.

        Raises:
            FileError: the file cannot be written, as on a full disk, or a wav file would exceed 4 GiB.
        """
        waveform = waveform if self._order is None else waveform[self._order]
        samples = waveform.detach().cpu().T.contiguous().float().numpy()
        clipped = 0
        if self._scale is not None:
            steps = samples * np.float32(self._scale)  # exact: a power of two
            np.rint(steps, out=steps)
            if max(steps.max(initial=0), -steps.min(initial=0)) >= self._scale:
                clipped = int((np.abs(steps) > self._scale).sum())
                np.clip(steps, -self._scale, self._scale - 1, out=steps)
            samples = steps.astype("int16") if self._scale == 1 << 15 else steps.astype("int32") * 256
        elif self._lossy:
            clipped = int((np.abs(samples) > 1).sum())
        if self._bytes_left is not None:
            self._bytes_left -= samples.size * {"int16": 2, "int32": 3}.get(str(samples.dtype), 4)
            if self._bytes_left < 0:
                raise FileError(f"{self._path} would be larger than 4 GiB, which wav cannot be: use --format flac")
        with writing(self._path):
            for start in range(0, len(samples), _BLOCK_SAMPLES):
                self._write(samples[start : start + _BLOCK_SAMPLES])
        self._written += len(samples)
        return clipped

    def _write(self, block: np.ndarray) -> None:
        try:
            self._file.write(block)
        except AssertionError:  # soundfile asserts that all samples were written
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file and check its length by reading it; after an error, close it without the check."""
        if kind is not None:
            with suppress(Exception):
                self._file.close()
            return
        with writing(self._path):
            self._file.close()
            with soundfile.SoundFile(as_name(self._part)) as again:
                if again.frames != self._written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def opened(
    paths: Sequence[Path],
    sample_rate_hz: int,
    channels: int,
    subtype: str = "PCM_16",
    name: str = "wav",
    n_samples: int | None = None,
) -> Iterator[list[Writer]]:
    """Open several sound files for writing; they get their final names together, see `support.files.replacing`.

    The files are created on entry, so that an unwritable folder is found before any sound is computed.

    Args:
        paths: final paths of the files; missing folders are created.
        sample_rate_hz: sample rate in Hz.
        channels: number of channels C.
        subtype: sample format, see `Writer`.
        name: file format, a key of `FORMATS`.
        n_samples: length in samples, see `Writer`.

    Yields:
        List of writers, one per path.

    Raises:
        FileError: a folder or a file cannot be written.
    """
    with replacing(paths) as parts, ExitStack() as stack:
        form = sample_rate_hz, channels, subtype, name, n_samples
        yield [stack.enter_context(Writer(path, part, *form)) for path, part in zip(paths, parts, strict=True)]


def write(path: str | Path, waveform: Tensor, sample_rate_hz: int, subtype: str = "PCM_16") -> int:
    """Write a waveform as a wav file.

    Args:
        path: the file; missing folders are created.
        waveform: (C, N), full scale at +-1.
        sample_rate_hz: sample rate in Hz.
        subtype: sample format, see `Writer`.

    Returns:
        Number of clipped samples.

    Raises:
        FileError: the folder or the file cannot be written.
    """
    with opened([Path(path)], sample_rate_hz, waveform.shape[0], subtype, "wav", waveform.shape[-1]) as (append,):
        return append(waveform)
