"""One open file, as FFmpeg decodes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from parts import Part, next_ogg
from streams import depth, describe, kind, length

BLOCK_BYTES = 1 << 19
_PATIENCE = 1000  # times in a row that a demuxer may ask to be called again


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
                self._first_byte = behind
                self._container = self._open(Part(self._file, behind))
            self._begin(number)
        except BaseException:
            self.close()
            raise

    def _open(self, file: Any) -> Any:
        # Playlists and the like would open other files; tags need not be UTF-8.
        return av.open(file, options={"protocol_whitelist": "none"}, metadata_errors="replace")

    def _begin(self, number: int | None) -> None:
        streams = list(self._container.streams.audio)
        names = [describe(stream) for stream in streams]
        if not streams:
            raise ValueError("no sound in it")
        if number is not None and not 1 <= number <= len(streams):
            raise ValueError(f"no stream {number}: {len(streams)}")
        known = [k for k, stream in enumerate(streams) if stream.codec_context is not None]
        marked = [k for k in known if streams[k].disposition & av.stream.Disposition.default]
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
        seconds, exact = length(self._container, self._stream)
        self.facts = {
            "rate": first.sample_rate,
            "channels": first.layout.nb_channels,
            "depth": depth(self._stream.codec_context.name, first.format.name),
            "seconds": seconds,
            "exact": exact,
            "format": kind(self._container),
            "tags": {key.lower(): text for key, text in (self._container.metadata | self._stream.metadata).items()},
            "streams": names,
            "place": place + 1,
        }
        self._blocks = self._read()

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
            except av.error.FFmpegError:
                if not self._go_on(place):
                    self.end["left_out"] += 1
                    self.end["undecoded"] = True
                    return
                place = 0

    def _go_on(self, place: int) -> bool:
        """Open the next of joined Ogg files, behind a byte of this one: FFmpeg reads on only if all are alike."""
        if self._container.format.name != "ogg":
            return False
        self._first_byte = first = next_ogg(self._file, self._first_byte + place + 1) or -1
        if first < 0:
            return False
        container = self._open(Part(self._file, first))
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
            except av.error.FFmpegError:
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
                convert, form = av.AudioResampler(format="flt", layout=layout, rate=rate), now
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
