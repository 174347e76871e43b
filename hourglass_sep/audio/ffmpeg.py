"""Reading what libsndfile does not know, by PyAV."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np

from hourglass_sep.audio.decode import Decoder, Info, unreadable
from hourglass_sep.errors import AudioError

_LOSSLESS = ("pcm", "alac", "flac", "ape", "tta", "wavpack", "truehd", "mlp")

_WITH_LENGTHS = ("mov", "asf", "avi", "wav", "caf", "ape", "wv", "tta", "flac")
"""FFmpeg's containers whose headers say how long a stream is."""


class Ffmpeg(Decoder):
    """By PyAV."""

    def __init__(self, path: Path) -> None:
        self._cut = False
        self._container: Any = None
        self._errors = (av.error.FFmpegError, ValueError)  # ValueError: rate or channels change on the way
        self._file = path.open("rb")  # and not its name, which FFmpeg would take for a URL
        try:
            # Playlists and the like would open other files.
            self._container = av.open(self._file, options={"protocol_whitelist": "none"})
            self._stream: Any = self._container.streams.best("audio")
            if self._stream is None:
                raise AudioError(f"{path} has no sound in it: damaged, or a file without an audio track")
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise AudioError(f"{path} holds no sound that can be decoded: fetch or export it again")
            self._frames = itertools.chain([first], self._frames)
            seconds, exact = self._duration()
            n_samples = None if seconds is None else round(seconds * first.sample_rate)
            depth = _ffmpeg_depth(self._stream.codec_context.name, first.format.name)
            super().__init__(path, Info(n_samples, first.sample_rate, len(first.layout.channels), depth))
        except self._errors as error:
            self.close()
            raise unreadable(path, error) from error
        except AudioError:
            self.close()
            raise
        self._slack = max(first.sample_rate // 2, (n_samples or 0) // 200) if exact else sys.maxsize
        self._convert = av.AudioResampler(format="fltp", layout=first.layout, rate=first.sample_rate)

    def _duration(self) -> tuple[float | None, bool]:
        """Seconds, and whether they are the sound's own and no guess from the bit rate or the picture's."""
        tag = self._stream.metadata.get("DURATION", "")  # Matroska
        with suppress(ValueError):
            hours, minutes, rest = (float(part) for part in tag.split(":"))
            return 3600 * hours + 60 * minutes + rest, True
        known = self._container.format.name.split(",")[0] in _WITH_LENGTHS
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base), known
        return (self._container.duration or 0) / av.time_base or None, known and len(self._container.streams) == 1

    def _decode(self) -> Iterator[Any]:
        """Frames; packets that are damaged are left out, as players do."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self._cut = isinstance(error, av.error.InvalidDataError)
            else:
                self._cut = self._cut and not frames
                yield from frames

    def _check_end(self, position: int) -> None:
        super()._check_end(position)
        if self._cut:
            raise AudioError(f"{self.path} is truncated (its last packet is damaged): fetch or export it again")

    def _seek(self, sample: int) -> int:
        return 0  # not exact in most formats; decoding is a thousand times as fast as playing

    def _read(self) -> Iterator[np.ndarray]:
        try:
            for frame in itertools.chain(self._frames, [None]):
                if frame is not None:
                    frame.pts = None  # or gaps would be refused
                for part in self._convert.resample(frame):
                    if part.samples:
                        yield part.to_ndarray().T
        except self._errors as error:
            raise unreadable(self.path, error) from error

    def close(self) -> None:
        """See `Decoder`."""
        if self._container is not None:
            self._container.close()
        self._file.close()


def _ffmpeg_depth(codec: str, sample_format: str) -> str:
    if not codec.startswith(_LOSSLESS) or sample_format.startswith(("u8", "s16")):
        return "16"
    return "24" if sample_format.startswith("s32") else "float32"
