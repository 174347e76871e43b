"""Opening of sound files and choice of the decoder.

libsndfile reads, in this process, sound that is uncompressed or simply coded: wav, aiff, caf, au and the like. FFmpeg,
which PyAV includes, reads everything else: mp3, ogg, opus, flac, m4a, wma, and the sound of video. The reasons are in
docs/formats.md.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from hourglass_sep.audio.containers import refuse_truncated
from hourglass_sep.audio.decoder import Decoder, Info
from hourglass_sep.audio.ffmpeg import Ffmpeg
from hourglass_sep.audio.sndfile import Sndfile
from hourglass_sep.support.errors import AudioError

_HEAD_BYTES = 256
_SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b".snd", b"dns.", b"caff")


def open_audio(path: str | Path, stream: int | None = None) -> Decoder:
    """Open a sound file, or the sound of a video.

    Args:
        path: the file.
        stream: number of the audio stream, from 1; if None, the stream marked as default, or the first.

    Returns:
        The open decoder, to be closed by the caller or a ``with`` block.

    Raises:
        AudioError: the file is missing, empty, truncated or no audio, or has no such stream.
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
    except (OSError, ValueError) as error:  # ValueError: the name cannot be encoded for the file system
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{str(path)!r} cannot be opened ({reason}): check its name and permissions") from error


def _first_that_can(path: Path, stream: int | None) -> Decoder:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    form = head.find(b"fmt ")
    in_wav = form > 0 and head[form + 8 : form + 10] in (b"P\0", b"U\0")  # format tags of MPEG audio in wav
    is_mpeg = in_wav or head[:3] == b"ID3" or head[:1] == b"\xff" or path.suffix.lower() == ".mp3"
    if head[:4] in _SNDFILE_MAGIC and not is_mpeg:
        return _by_libsndfile(path, stream) or Ffmpeg(path, stream)
    try:
        return Ffmpeg(path, stream)
    except AudioError:
        other = None if is_mpeg else _by_libsndfile(path, stream)  # not for mp3: libmpg123 writes to standard error
        if other is None:
            raise
        return other


def _by_libsndfile(path: Path, stream: int | None) -> Decoder | None:
    """Open a file by libsndfile, or by FFmpeg if libsndfile finds no length.

    Returns:
        The decoder; None if libsndfile cannot read the file, or not as reliably as FFmpeg.

    Raises:
        AudioError: the file has no such stream, or see `Decoder`.
    """
    try:
        decoder = Sndfile(path)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: soundfile takes NAME.raw for raw samples
        return None
    if decoder.info.n_samples is None:  # libsndfile reads no samples of streams without a length
        with suppress(AudioError):
            other = Ffmpeg(path, stream)
            decoder.close()
            return other
    if stream not in (None, 1):
        decoder.close()
        raise AudioError(f"{path} has no audio stream {stream}: --stream can be 1 to 1")
    return decoder


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
    """Read the header of a sound file.

    Args:
        path: the file.
        stream: number of the audio stream, see `open_audio`.

    Raises:
        AudioError: the file is missing, empty, truncated or no audio, or has no such stream.
    """
    with open_audio(path, stream) as decoder:
        return decoder.info
