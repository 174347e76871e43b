"""Compressed audio and video files for tests, made with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def encode(
    path: Path, samples: np.ndarray | None, rate: int, codec: str, container: str | None = None, video: bool = False
) -> Path:
    """Encode samples with an FFmpeg codec, optionally with a second of grey video.

    Args:
        path: file to write.
        samples: (C, N) float; None writes no audio stream.
        rate: sample rate in Hz.
        codec: FFmpeg's name of the audio codec.
        container: FFmpeg's name of the container; by default chosen by the suffix of ``path``.
        video: whether a video stream is added.

    Returns:
        ``path``.
    """
    options = {"movflags": "faststart"} if path.suffix in (".m4a", ".mp4", ".mov") else {}
    with av.open(str(path), "w", format=container, options=options) as file:
        sound = picture = None
        if samples is not None:
            sound = file.add_stream(codec, rate=rate, layout=LAYOUTS[len(samples)], bit_rate=192_000)
        if video:
            picture = file.add_stream("mpeg4", rate=5)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        if picture is not None:
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
                file.mux(picture.encode(frame))
            file.mux(picture.encode(None))
        if sound is not None and samples is not None:
            _encode_sound(file, sound, samples, rate)
    return path


def _encode_sound(file: Any, stream: Any, samples: np.ndarray, rate: int) -> None:
    if not stream.codec_context.is_open:
        stream.codec_context.open()
    layout = LAYOUTS[len(samples)]
    size = stream.codec_context.frame_size or 4096
    convert = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate, frame_size=size)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for part in [*convert.resample(frame), *convert.resample(None)]:
        file.mux(stream.encode(part))
    file.mux(stream.encode(None))


def with_two_streams(source: Path, path: Path) -> Path:
    """Copy the audio stream of a file twice into another file, as in a video with two languages."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as file:
        sound = whole.streams.audio[0]
        streams = [file.add_stream_from_template(sound) for _ in range(2)]
        for packet in list(whole.demux(sound)):
            if packet.dts is None:
                continue
            for stream in streams:
                packet.stream = stream
                file.mux(packet)
    return path
