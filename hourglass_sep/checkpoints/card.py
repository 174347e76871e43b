"""What a card may say: types and bounds, checked before anything is made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hourglass_sep.audio.decoder import RATES_HZ
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.support.terminal import clean

_BOUNDS = {
    "model": {
        **{"stacks": (1, 64), "channels": (4, 4096), "depth": (1, 12)},
        **{"sources": (len(SOURCES), len(SOURCES)), "fold": (1, 64)},
    },
    "audio": {"sample_rate_hz": RATES_HZ, "n_fft": (16, 1 << 16), "hop_length": (1, 1 << 15), "n_freq": (1, 1 << 15)},
    "inference": {"window_frames": (1, 1 << 14), "context_frames": (0, 1 << 13), "fade_frames": (0, 1 << 13)},
}
"""Least and most of every number that a separator is built from: nobody has trained a network beyond."""

_NAMES = ("scale", "masks", "high_band")
"""The other settings of ``inference``."""

_CARD_BYTES = 1 << 20


def problem(description: Any) -> str:
    """What keeps a description from being that of a separator; '' if nothing does."""
    if not isinstance(description, dict) or not all(isinstance(key, str) for key in description):
        return "is no description"
    for part in _BOUNDS:
        reason = _setting(part, description.get(part))
        if reason:
            return f"does not say its {part}" if part == reason else f"says {reason}"
    return ""


def inference_problem(settings: Any) -> str:
    """What keeps settings of inference, in another file than a card, from being possible; '' if nothing does."""
    return _setting("inference", settings)


def _setting(part: str, settings: Any) -> str:
    """The first of a part's settings that cannot be, and what can; the part's name for no settings; or ''."""
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        return part
    for key, (least, most) in _BOUNDS[part].items():
        if key not in settings or (key == "window_frames" and settings[key] is None):
            continue  # the constructor has a default, or will miss it
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
        ValueError: it is no JSON, nested too deeply, or larger than any card.
    """
    if path.stat().st_size > _CARD_BYTES:
        raise ValueError("too large")
    try:
        return json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def short(value: Any) -> str:
    """A value for a message, cut off after 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else text[:60] + "..."
