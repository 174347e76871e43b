"""Decoding of one file by FFmpeg (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from parts import Part, next_ogg
from streams import depth, describe, kind, length

BLOCK_BYTES = 1 << 19
_PATIENCE = 1000  # times in a row that a demuxer may return EAGAIN


class Reader:
    """One open file and its decoder.

    Args:
        path: the file.
        number: number of the audio stream, from 1; if None, the first stream marked as default, else the first stream,
            of those with a decoder: telephones record a second stream that only they can read.
        behind: length in bytes of the tags at the beginning of the file. Some taggers put them before formats that do
            not support them: if FFmpeg cannot open the file, it is opened again without these bytes.

    Attributes:
        facts: ``rate`` (Hz), ``channels``, bit ``depth``, length in ``seconds`` (None if unknown), whether a header
            gives that length (``exact``), ``format`` (FFmpeg's name), ``tags``, ``streams`` (a description of every
            audio stream) and ``place`` (number of the stream that is read, from 1).
        end: complete at the end: end time of the sound on the container's clock (``seconds``), number of packets left
            out (``left_out``), whether the last packet was left out (``undecoded``) or truncated (``corrupt``), and
            ``changes`` of rate or channels, each [seconds, rate in Hz, channels].

    Raises:
        OSError: the file cannot be opened.
        FFmpegError: FFmpeg cannot read the file.
        ValueError: the file has no audio, no such stream, or no stream that can be decoded.
    """

    def __init__(self, path: str, number: int | None = None, behind: int = 0) -> None:
        self._file = open(path, "rb")  # not by name: FFmpeg would take it for a URL # noqa: SIM115
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
        # Without the whitelist, playlists and the like could open other files; tags may not be UTF-8.
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
        """Yield packets to the end of the file, or to an error from which the demuxer does not recover."""
        tries, place = 0, 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    tries, place = 0, max(place, packet.pos or 0)
                    yield packet
                return
            except BlockingIOError:  # EAGAIN: no packet found so far
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
        """Open the next of several joined Ogg files; FFmpeg reads past a boundary only if the formats are equal.

        Args:
            place: offset in bytes, relative to the current Ogg file, behind which the next one begins.

        Returns:
            Whether there is another one with an audio stream.
        """
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
        """Yield decoded frames; damaged packets are left out and counted, as in players."""
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
        """Yield interleaved float32 samples, all converted to the sample rate and layout of the first frame.

        They are interleaved because PyAV reads beyond its buffers with more than six planes.
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
            frame.pts = None  # with timestamps, the resampler would refuse gaps
            yield from _bytes(convert.resample(frame))
            frame = next(self._frames, None)
        if convert is not None:
            yield from _bytes(convert.resample(None))

    def read(self) -> bytes:
        """Return the next samples as bytes: interleaved float32; empty at the end."""
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
