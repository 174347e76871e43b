"""The process in which FFmpeg decodes: a file that crashes a decoder ends this process, not the program's.

A script on its own, with nothing of this package and no numpy in it, so that it starts in a sixth of a second. It reads
requests from standard input and answers on standard output: a line of JSON, then as many bytes as its ``bytes`` says.

    {"open": PATH, "stream": NUMBER or null, "behind": BYTES}   what `Reader.facts` has
    {"read": true}                             samples; none at the end, and what `Reader.end` has
    {"close": true}                            nothing

A request that fails is answered with ``error``.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

BLOCK_BYTES = 1 << 19
LOSSLESS = ("pcm", "alac", "flac", "ape", "tta", "wavpack", "truehd", "mlp")

LENGTHS = ("mov", "caf", "wav", "w64", "aiff", "au", "flac", "tta", "ape", "wv", "dsf")
"""FFmpeg's containers whose headers have the length of the sound itself."""

ENDS = ("matroska",)
"""Those whose headers have the time at which it ends, which is later than its length if it begins late."""

_LONGEST_SECONDS = 1e9  # tags may also say inf or nan
_PATIENCE = 1000  # times in a row that a demuxer may ask to be called again


_kept: list[Any] = []


def _channels(stream: Any) -> int:
    """How many channels a stream has, whose layout is made one of FFmpeg's own before anything is decoded.

    0 if FFmpeg has no decoder for it.

    Layouts that list their channels (QuickTime's) are freed twice by PyAV, once by each object that has seen one: the
    first stays alive here, and the decoder gets the usual layout of as many channels, in the file's order.
    """
    if stream.codec_context is None:
        return 0
    layout = stream.codec_context.layout
    _kept.append(layout)
    if " channels (" in layout.name:
        stream.codec_context.layout = f"{layout.nb_channels}c"
    return layout.nb_channels


class _Part:
    """A file from some byte on."""

    def __init__(self, file: Any, first: int) -> None:
        self._file, self._first, self.name = file, first, "part"
        file.seek(first)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._first

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place + (self._first if whence == 0 else 0), whence) - self._first


def _next_ogg(file: Any, first: int) -> int | None:
    """Where the next chained Ogg stream begins: at a first page, somewhere behind a byte."""
    file.seek(first)
    block, place = b"", first
    while more := file.read(BLOCK_BYTES):
        block += more
        found = block.find(b"OggS\0\x02")
        if found >= 0:
            return place + found
        place, block = place + len(block) - 8, block[-8:]
    return None


class Reader:
    """One open file.

    Args:
        path: the file.
        number: of the stream, the first is 1; None for the one that is marked as the default, or the first, of those
            that can be decoded: telephones put a second one beside it that only they can read.
        behind: the length of tags in front, which taggers put before formats that have no place for them: where FFmpeg
            knows no file that begins so, it is given what is behind them.

    Attributes:
        facts: sample rate, channels, bit depth, length in seconds (None if unknown), whether that is in the header,
            tags, a line about every audio stream, and which is read.
        end: at the end, where the sound ended on the container's clock, how many packets were left out, whether the
            last one was among them (``undecoded``) or shorter than it says (``corrupt``), and where rate or channels
            changed.
    """

    def __init__(self, path: str, number: int | None = None, behind: int = 0) -> None:
        import av

        self._av = av
        self._file = open(path, "rb")  # and not its name, which FFmpeg would take for a URL # noqa: SIM115
        self._container: Any = None
        self._others: list[Any] = []
        self._first_byte = 0
        self.end: dict[str, Any] = {"seconds": 0.0, "left_out": 0, "undecoded": False, "corrupt": False, "changes": []}
        try:
            try:
                self._container = self._open(self._file)
            except av.error.FFmpegError:
                if not behind:
                    raise
                self._container = self._open(_Part(self._file, behind))
            self._begin(number)
        except BaseException:
            self.close()
            raise

    def _open(self, file: Any) -> Any:
        # Playlists and the like would open other files; tags need not be UTF-8.
        return self._av.open(file, options={"protocol_whitelist": "none"}, metadata_errors="replace")

    def _begin(self, number: int | None) -> None:
        streams = list(self._container.streams.audio)
        names = [_describe(stream, _channels(stream)) for stream in streams]
        if not streams:
            raise ValueError("no sound in it")
        if number is not None and not 1 <= number <= len(streams):
            raise ValueError(f"no stream {number}: {len(streams)}")
        known = [k for k, stream in enumerate(streams) if stream.codec_context is not None]
        marked = [k for k in known if streams[k].disposition & self._av.stream.Disposition.default]
        place = number - 1 if number is not None else min(marked or known, default=0)
        if place not in known:
            raise ValueError("no decoder")
        self._stream = streams[place]
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            raise ValueError("no sound that can be decoded")
        self._first = first
        self._form = (first.layout, first.sample_rate)
        seconds, exact = self._length()
        self.facts = {
            "rate": first.sample_rate,
            "channels": first.layout.nb_channels,
            "depth": _depth(self._stream.codec_context.name, first.format.name),
            "seconds": seconds,
            "exact": exact,
            "format": self._container.format.name.split(",")[0],
            "tags": {key.lower(): text for key, text in (self._container.metadata | self._stream.metadata).items()},
            "streams": names,
            "place": place + 1,
        }
        self._blocks = self._read()

    def _length(self) -> tuple[float | None, bool]:
        """Seconds, and whether a header has them; with `ENDS`, where the sound ends."""
        kind = self._container.format.name.split(",")[0]
        alone = len(self._container.streams) == 1
        whole = (self._container.duration or 0) / self._av.time_base or None
        if kind in ENDS:
            with suppress(ValueError):
                hours, minutes, rest = (float(part) for part in self._stream.metadata.get("DURATION", "").split(":"))
                if 0 <= (seconds := 3600 * hours + 60 * minutes + rest) < _LONGEST_SECONDS:
                    return seconds, True
            return whole, alone
        if self._stream.duration:
            return float(min(self._stream.duration, self._listed()) * self._stream.time_base), kind in LENGTHS
        return whole, alone and kind in LENGTHS

    def _listed(self) -> float:
        """Where the last packet ends that mov's index lists: edit lists may name more sound than there is."""
        index = self._stream.index_entries
        if self._container.format.name.split(",")[0] != "mov" or not self._stream.frames or len(index) < 2:
            return math.inf  # not all of fragmented files is listed in front
        return 2 * index[-1].timestamp - index[-2].timestamp

    def _packets(self) -> Iterator[Any]:
        """Packets to the end, or to what no demuxer gets past, which is an end as well."""
        tries, place = 0, 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    tries, place = 0, max(place, packet.pos or 0)
                    yield packet
                return
            except BlockingIOError:  # EAGAIN: nothing found so far
                tries += 1
                if tries > _PATIENCE:
                    return
            except self._av.error.FFmpegError:
                if not self._go_on(place):
                    self.end["left_out"] += 1
                    self.end["undecoded"] = True
                    return
                place = 0

    def _go_on(self, place: int) -> bool:
        """Open the next of joined Ogg files, behind a byte of this one: FFmpeg reads on only if all are alike."""
        if self._container.format.name != "ogg":
            return False
        self._first_byte = first = _next_ogg(self._file, self._first_byte + place + 1) or -1
        if first < 0:
            return False
        container = self._open(_Part(self._file, first))
        self._others.append(self._container)
        self._container, self._stream = container, container.streams.best("audio")
        return self._stream is not None

    def _decode(self) -> Iterator[Any]:
        """Frames; packets that are damaged are left out, as players do."""
        for packet in self._packets():
            if packet.size:
                self.end["corrupt"] = packet.is_corrupt
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self.end["left_out"] += 1
                self.end["undecoded"] = True
            else:
                self.end["undecoded"] = self.end["undecoded"] and not frames
                yield from frames

    def _read(self) -> Iterator[bytes]:
        """Interleaved float32 samples of the first frame's rate and layout, whatever comes later.

        Interleaved, since PyAV reads beyond its buffers where there are more than six planes.
        """
        convert: Any = None
        form = None
        frame: Any = self._first
        while frame is not None:
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != form:
                if convert is not None:
                    yield from _bytes(convert.resample(None))
                    other = (frame.sample_rate, frame.layout.nb_channels)
                    if other != (self._form[1], self._form[0].nb_channels):
                        self.end["changes"].append([self.end["seconds"], *other])
                layout, rate = self._form
                convert, form = self._av.AudioResampler(format="flt", layout=layout, rate=rate), now
            if frame.pts is not None and frame.time_base:
                self.end["seconds"] = float(frame.pts * frame.time_base) + frame.samples / frame.sample_rate
            frame.pts = None  # or gaps would be refused
            yield from _bytes(convert.resample(frame))
            frame = next(self._frames, None)
        if convert is not None:
            yield from _bytes(convert.resample(None))

    def read(self) -> bytes:
        """The next samples; nothing at the end."""
        parts, size = [], 0
        while size < BLOCK_BYTES and (part := next(self._blocks, None)) is not None:
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        for container in [*self._others, self._container]:
            if container is not None:
                container.close()
        self._file.close()


def _bytes(frames: list[Any]) -> Iterator[bytes]:
    for frame in frames:
        if frame.samples:
            yield bytes(memoryview(frame.planes[0])[: frame.samples * frame.layout.nb_channels * 4])


def _depth(codec: str, sample_format: str) -> str:
    if not codec.startswith(LOSSLESS) or sample_format.startswith(("u8", "s16")):
        return "16"
    return "24" if sample_format.startswith("s32") and not codec.startswith("pcm_s32") else "float32"


def _describe(stream: Any, channels: int) -> str:
    """A stream in words: title, language, codec, channels."""
    names = {key.lower(): text for key, text in stream.metadata.items()}
    language = names.get("language", "")
    parts = [names.get("title", ""), "" if language == "und" else language]
    if stream.codec_context is None:
        return ", ".join([*filter(None, parts), "no decoder"])
    parts.append(stream.codec_context.name)
    return ", ".join([*filter(None, parts), f"{channels} channel(s)"])


def _answer(request: dict[str, Any], reader: Reader | None) -> tuple[dict[str, Any], bytes, Reader | None]:
    if "open" in request:
        reader = Reader(request["open"], request["stream"], request["behind"])
        return reader.facts, b"", reader
    if "read" in request and reader is not None:
        samples = reader.read()
        return reader.end if not samples else {}, samples, reader
    if reader is not None:
        reader.close()
    return {}, b"", None


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which closes this
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    reader: Reader | None = None
    for line in sys.stdin.buffer:
        try:
            answer, samples, reader = _answer(json.loads(line), reader)
        except Exception as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            answer, samples = {"error": text, "kind": type(error).__name__}, b""
        answers.write(json.dumps(answer | {"bytes": len(samples)}).encode() + b"\n" + samples)
        answers.flush()


if __name__ == "__main__":
    main()
