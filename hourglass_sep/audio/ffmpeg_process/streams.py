"""Properties of audio streams: description, channels, bit depth, length."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import av

LOSSLESS = ("pcm", "alac", "flac", "ape", "tta", "wavpack", "truehd", "mlp")

LENGTHS = ("mov", "caf", "wav", "w64", "aiff", "au", "flac", "tta", "ape", "wv", "dsf")
"""FFmpeg's containers whose headers give the length of the sound."""

ENDS = ("matroska",)
"""FFmpeg's containers whose headers give the end time of the sound, which exceeds its length if it begins late."""

_LONGEST_SECONDS = 1e9  # larger values, inf and nan in tags are ignored

_kept: list[Any] = []


def kind(container: Any) -> str:
    """FFmpeg's first name of the container format."""
    return container.format.name.split(",")[0]


def describe(stream: Any) -> str:
    """Description of a stream: title, language, codec, channels.

    PyAV gives no codec and no channels for codecs without a decoder in FFmpeg.
    """
    names = {key.lower(): text for key, text in stream.metadata.items()}
    language = names.get("language", "")
    codec = stream.codec_context
    form = ["no decoder"] if codec is None else [codec.name, f"{_channels(stream)} channel(s)"]
    return ", ".join([*filter(None, [names.get("title", ""), "" if language == "und" else language]), *form])


def _channels(stream: Any) -> int:
    """Number of channels of a stream; as a side effect, a custom channel layout is replaced before decoding.

    PyAV frees layouts that list their channels (QuickTime's) twice, once for each object that refers to one: the first
    is kept alive here, and the decoder gets a layout of the same number of channels, in the file's order.
    """
    layout = stream.codec_context.layout
    _kept.append(layout)
    if " channels (" in layout.name:
        stream.codec_context.layout = f"{layout.nb_channels}c"
    return layout.nb_channels


def depth(codec: str, sample_format: str) -> str:
    """Bit depth that holds the samples of a codec: ``16``, ``24`` or ``float32``; ``16`` for lossy codecs.

    Args:
        codec: FFmpeg's name of the codec.
        sample_format: FFmpeg's name of the sample format of the decoded frames.
    """
    if not codec.startswith(LOSSLESS) or sample_format.startswith(("u8", "s16")):
        return "16"
    return "24" if sample_format.startswith("s32") and not codec.startswith("pcm_s32") else "float32"


def length(container: Any, stream: Any) -> tuple[float | None, bool]:
    """Length of a stream in seconds, and whether a header gives it.

    Returns:
        The length, None if unknown; the end time of the sound for containers of `ENDS`. True if it is from a header,
        False for an estimate.
    """
    name = kind(container)
    alone = len(container.streams) == 1
    whole = (container.duration or 0) / av.time_base or None
    if name in ENDS:
        with suppress(ValueError):
            hours, minutes, rest = (float(part) for part in stream.metadata.get("DURATION", "").split(":"))
            if 0 <= (seconds := 3600 * hours + 60 * minutes + rest) < _LONGEST_SECONDS:
                return seconds, True
        return whole, alone
    if stream.duration:
        listed = _listed(stream) if name == "mov" else math.inf
        return float(min(stream.duration, listed) * stream.time_base), name in LENGTHS
    return whole, alone and name in LENGTHS


def _listed(stream: Any) -> float:
    """End of the last packet in mov's index, in units of the stream's time base; infinity if the index is incomplete.

    Edit lists may declare more sound than the file holds.
    """
    index = stream.index_entries
    if not stream.frames or len(index) < 2:
        return math.inf  # the index at the beginning of fragmented files is incomplete
    return 2 * index[-1].timestamp - index[-2].timestamp
