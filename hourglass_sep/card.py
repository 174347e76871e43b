"""What a card may say: types and bounds, checked before anything is made from it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hourglass_sep.audio.decode import RATES_HZ
from hourglass_sep.errors import CheckpointError

_BOUNDS = {
    "model": {
        **{"stacks": (1, 64), "channels": (4, 4096), "depth": (1, 12)},
        **{"sources": (1, 64), "fold": (1, 64), "growth": (0, 4096)},
    },
    "audio": {"sample_rate_hz": RATES_HZ, "n_fft": (16, 1 << 16), "hop_length": (1, 1 << 15), "n_freq": (1, 1 << 15)},
    "inference": {"window_frames": (1, 1 << 14), "context_frames": (0, 1 << 13), "fade_frames": (0, 1 << 13)},
}
"""Least and most of every number that a separator is built from: nobody has trained a network beyond."""

_MOST_OVERLAP = 64  # frames that hold a sample
_CARD_BYTES = 1 << 24
_PICKLE_BYTES = 1 << 26


def problem(description: Any) -> str:
    """What keeps a description from being that of a separator; '' if nothing does."""
    if not isinstance(description, dict) or not all(isinstance(key, str) for key in description):
        return "is no description"
    for part, bounds in _BOUNDS.items():
        settings = description.get(part)
        if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
            return f"does not say its {part}"
        for key, (least, most) in bounds.items():
            if key not in settings or (key == "window_frames" and settings[key] is None):
                continue  # the constructor has a default, or will miss it
            value = settings[key]
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                return f"says {part}.{key}={_short(value)}, {least} to {most} can be"
    for key, value in description["inference"].items():
        if not isinstance(value, int | float | str | None):
            return f"says inference.{key}={_short(value)}, which is no setting"
    n_fft, hop = (description["audio"].get(key) for key in ("n_fft", "hop_length"))
    if n_fft is not None and hop is not None and n_fft > hop * _MOST_OVERLAP:
        return f"says audio.hop_length={hop}, at least {n_fft // _MOST_OVERLAP} can be with audio.n_fft={n_fft}"
    return ""


def misfit(weights: Mapping[Any, Any], wanted: Mapping[str, torch.Tensor]) -> str:
    """What keeps weights from being those of a network, whose tensors may have no memory; '' if nothing does."""
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            return f"holds {_short(name)}, which is no tensor with a name"
        if value.layout != torch.strided or value.is_quantized or not value.is_floating_point() or value.is_meta:
            return f"holds {_short(name)} in a form that no training writes"
        if name in wanted and value.shape != wanted[name].shape:
            return f"holds {_short(name)} of shape {tuple(value.shape)}, expected {tuple(wanted[name].shape)}"
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            return f"holds {_short(name)} with more numbers than there are"
    missing, strange = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or strange:
        return (
            f"lacks {_short(min(missing))}" if missing else f"holds {_short(min(strange))}, which the network has not"
        )
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


def check_archive(path: Path) -> None:
    """Look into a checkpoint's archive before it is unpacked.

    Raises:
        CheckpointError: it is none that torch writes: another kind of file, or one that grows when it is unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that torch can read: give another file") from error
    grows = any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > entry.compress_size for entry in entries)
    pickled = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if grows or sum(entry.file_size for entry in entries) > path.stat().st_size or pickled > _PICKLE_BYTES:
        raise CheckpointError(f"{path} is not a checkpoint that torch has written (it is packed): give another file")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else text[:60] + "..."
