"""Cards: descriptions of separators in JSON, checked for types and bounds before anything is built from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hourglass_sep.audio.decoder import RATES_HZ
from hourglass_sep.dsp.stems import MOST_SOURCES, SOURCES, read_sources
from hourglass_sep.dsp.stft import MOST_CHANNELS
from hourglass_sep.support.errors import SettingError
from hourglass_sep.support.terminal import clean

FORMAT = "hourglass_sep/2"
"""Format and version of descriptions."""

_FORMER = "hourglass_sep/1"
"""Format without names of sources and class of the network, which are those of `upgraded`."""

OWN_NETWORK = "hourglass_sep.networks.hourglass.StackedHourglass"

_BOUNDS = {
    "network": {
        **{"stacks": (1, 64), "channels": (4, 4096), "depth": (1, 12)},
        **{"sources": (1, MOST_SOURCES), "fold": (1, 64), "audio_channels": (1, MOST_CHANNELS)},
    },
    "audio": {
        **{"sample_rate_hz": RATES_HZ, "n_fft": (16, 1 << 16), "hop_length": (1, 1 << 15), "n_freq": (1, 1 << 15)},
        "channels": (1, MOST_CHANNELS),
    },
    "inference": {"window_frames": (1, 1 << 14), "context_frames": (0, 1 << 13), "fade_frames": (0, 1 << 13)},
}
"""Least and largest value of every number of a description; far beyond those of trained networks."""

_NAMES = ("scale", "masks", "high_band")
"""Settings of ``inference`` that are names."""

_CARD_BYTES = 1 << 20


def upgraded(description: Any) -> Any:
    """A description in the current format; others than the former one are returned unchanged."""
    if not isinstance(description, dict) or description.get("format") != _FORMER:
        return description
    facts = {key: value for key, value in description.items() if key not in ("format", "model", "audio", "inference")}
    model, audio = description.get("model"), description.get("audio")
    if isinstance(model, dict):
        model = {"_target_": OWN_NETWORK, "arguments": {"audio_channels": 1} | model}
    if isinstance(audio, dict):
        audio = {"channels": 1, "stereo": "mid_side"} | audio
    inference = description.get("inference")
    parts = {"network": model, "sources": list(SOURCES), "audio": audio, "inference": inference}
    return {"format": FORMAT} | parts | {"facts": facts}


def problem(description: Any) -> str:
    """The first error in a description, in words for a message; '' if it is valid."""
    if not isinstance(description, dict) or not all(isinstance(key, str) for key in description):
        return "is no description"
    network = description.get("network")
    if not isinstance(network, dict) or not isinstance(network.get("_target_"), str):
        return "does not say its network"
    arguments = network.get("arguments")
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        return "does not say its network"
    is_own = network["_target_"] == OWN_NETWORK
    for part, settings in (
        ("network", arguments if is_own else {}),
        ("audio", description.get("audio")),
        ("inference", description.get("inference")),
    ):
        reason = _setting(part, settings)
        if reason:
            return f"does not say its {part}" if part == reason else f"says {reason}"
    sources = description.get("sources")
    if not isinstance(sources, list) or not all(isinstance(name, str) and "=" not in name for name in sources):
        return "does not say its sources"
    try:
        read_sources(sources)
    except SettingError as error:
        return f"says sources that cannot be ({clean(str(error))[:200]})"
    if is_own and arguments.get("sources", len(SOURCES)) != len(sources):
        return f"says network.sources={short(arguments.get('sources'))} for {len(sources)} names of sources"
    channels = description["audio"].get("channels", 1)
    if is_own and arguments.get("audio_channels", 1) != channels:
        return f"says network.audio_channels={short(arguments.get('audio_channels'))} for audio.channels={channels}"
    if not isinstance(description.get("facts", {}), dict):
        return "has facts that are none"
    return ""


def inference_problem(settings: Any) -> str:
    """The first error in inference settings of another file than a card, in words; '' if they are valid."""
    return _setting("inference", settings)


def _setting(part: str, settings: Any) -> str:
    """The first invalid setting of a part with its allowed values; the part's name if it has no settings; or ''."""
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        return part
    for key, (least, most) in _BOUNDS[part].items():
        if key not in settings or (key == "window_frames" and settings[key] is None):
            continue  # the constructor has a default, or complains
        value = settings[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            return f"{part}.{key}={short(value)}, {least} to {most} can be"
    for key, value in settings.items() if part == "inference" else ():
        if key not in _BOUNDS[part] and not (key in _NAMES and isinstance(value, str)):
            return f"{part}.{clean(key)[:60]}={short(value)}, which is no setting"
    return ""


def read_card(path: Path) -> Any:
    """The content of a JSON card.

    Raises:
        ValueError: not JSON, nested too deeply, or too large.
    """
    if path.stat().st_size > _CARD_BYTES:
        raise ValueError("too large")
    try:
        return json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def short(value: Any) -> str:
    """A value as text for messages, at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else text[:60] + "..."
