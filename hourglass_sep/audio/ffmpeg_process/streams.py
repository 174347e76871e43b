"""What is known of an audio stream before it is decoded."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import av

LOSSLESS = ("pcm", "alac", "flac", "ape", "tta", "wavpack", "truehd", "mlp")

LENGTHS = ("mov", "caf", "wav", "w64", "aiff", "au", "flac", "tta", "ape", "wv", "dsf")
"""FFmpeg's containers whose headers have the length of the sound itself."""

ENDS = ("matroska",)
"""Those whose headers have the time at which it ends, which is later than its length if it begins late."""

_LONGEST_SECONDS = 1e9  # tags may also say inf or nan

_kept: list[Any] = []


def kind(container: Any) -> str:
    """FFmpeg's first name for the format."""
    return container.format.name.split(",")[0]


def describe(stream: Any) -> str:
    """A stream in words: title, language, codec, channels. PyAV knows nothing of codecs that FFmpeg lacks."""
    names = {key.lower(): text for key, text in stream.metadata.items()}
    language = names.get("language", "")
    codec = stream.codec_context
    form = ["no decoder"] if codec is None else [codec.name, f"{_channels(stream)} channel(s)"]
    return ", ".join([*filter(None, [names.get("title", ""), "" if language == "und" else language]), *form])


def _channels(stream: Any) -> int:
    """How many channels a stream has; its layout is made one of FFmpeg's own before anything is decoded.

    Layouts that list their channels (QuickTime's) are freed twice by PyAV, once by each object that has seen one: the
    first stays alive here, and the decoder gets the usual layout of as many channels, in the file's order.
    """
    layout = stream.codec_context.layout
    _kept.append(layout)
    if " channels (" in layout.name:
        stream.codec_context.layout = f"{layout.nb_channels}c"
    return layout.nb_channels


def depth(codec: str, sample_format: str) -> str:
    """The bit depth that holds what a codec gives."""
    if not codec.startswith(LOSSLESS) or sample_format.startswith(("u8", "s16")):
        return "16"
    return "24" if sample_format.startswith("s32") and not codec.startswith("pcm_s32") else "float32"


def length(container: Any, stream: Any) -> tuple[float | None, bool]:
    """Seconds, and whether a header has them; with `ENDS`, where the sound ends."""
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
    """Where the last packet ends that mov's index lists: edit lists may name more sound than there is."""
    index = stream.index_entries
    if not stream.frames or len(index) < 2:
        return math.inf  # not all of fragmented files is listed in front
    return 2 * index[-1].timestamp - index[-2].timestamp
