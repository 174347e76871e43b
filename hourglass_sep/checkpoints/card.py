"""What a card may say: types and bounds, checked before anything is made from it."""

from __future__ import annotations

import json
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hourglass_sep.audio.decoder import RATES_HZ
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.support.errors import CheckpointError
from hourglass_sep.support.terminal import clean

if TYPE_CHECKING:
    from hourglass_sep.inference.separator import Separator

_BOUNDS = {
    "model": {
        **{"stacks": (1, 64), "channels": (4, 4096), "depth": (1, 12)},
        **{"sources": (len(SOURCES), len(SOURCES)), "fold": (1, 64), "growth": (0, 4096)},
    },
    "audio": {"sample_rate_hz": RATES_HZ, "n_fft": (16, 1 << 16), "hop_length": (1, 1 << 15), "n_freq": (1, 1 << 15)},
    "inference": {"window_frames": (1, 1 << 14), "context_frames": (0, 1 << 13), "fade_frames": (0, 1 << 13)},
}
"""Least and most of every number that a separator is built from: nobody has trained a network beyond."""

_NAMES = ("scale", "masks", "high_band")
"""The other settings of ``inference``."""

_MOST_OVERLAP = 64
"""Frames that hold a sample, windows that hold a frame."""

_MOST_CELLS = 1 << 21
"""Of a spectrum, a second (ours: 16 thousand); 45 seconds of it are in memory at once."""

_MOST_WINDOWS = 200
"""That go through the network, a second (ours: fewer than one)."""

_MOST_ACTIVATIONS = 1 << 28
"""Numbers that a layer makes of one window (the paper's: 8 million)."""

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CARD_BYTES = 1 << 20
_PICKLE_BYTES = 1 << 24
_DIRECTORY_BYTES = 1 << 22  # tens of thousands of tensors
_PICKLE_STEPS = 1 << 19
_PICKLE_MAKERS = ("bytearray", "encode")
"""What `torch.load` trusts, and what makes much memory of few bytes. Checkpoints hold text and tensors."""


def problem(description: Any) -> str:
    """What keeps a description from being that of a separator; '' if nothing does."""
    if not isinstance(description, dict) or not all(isinstance(key, str) for key in description):
        return "is no description"
    for part in _BOUNDS:
        reason = _setting(part, description.get(part))
        if reason:
            return f"does not say its {part}" if part == reason else f"says {reason}"
    return ""


def refuse_settings(path: Path, settings: Any, separator: Separator) -> None:
    """Look at settings of inference in another file than a card, and at the separator that has them.

    Raises:
        CheckpointError: they are none, or would take more memory or time than any song is worth.
    """
    reason = _setting("inference", settings) or excess(separator)
    if reason:
        raise CheckpointError(f"{path} has inference settings that cannot be ({reason}): make it again")


def _setting(part: str, settings: Any) -> str:
    """The first of a part's settings that cannot be, and what can; the part's name for no settings; or ''."""
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        return part
    for key, (least, most) in _BOUNDS[part].items():
        if key not in settings or (key == "window_frames" and settings[key] is None):
            continue  # the constructor has a default, or will miss it
        value = settings[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            return f"{part}.{key}={_short(value)}, {least} to {most} can be"
    for key, value in settings.items() if part == "inference" else ():
        if key not in _BOUNDS[part] and not (key in _NAMES and isinstance(value, str)):
            return f"{part}.{clean(key)[:60]}={_short(value)}, which is no setting"
    return ""


def excess(separator: Separator) -> str:
    """What of a separator would take more memory or time than any song is worth; '' if nothing would.

    Every number of a card may be possible, and all of them together not. Nothing is computed: the network may be
    without memory.
    """
    stft, windows = separator.spectrogram, separator.windows
    size: Any = separator.network.config
    if stft.n_fft > stft.hop_length * _MOST_OVERLAP:
        least = stft.n_fft // _MOST_OVERLAP
        return f"says audio.hop_length={stft.hop_length}, at least {least} can be with audio.n_fft={stft.n_fft}"
    frames_a_second = stft.sample_rate_hz / stft.hop_length
    if frames_a_second * stft.n_fft / 2 > _MOST_CELLS:
        return (
            f"says audio.hop_length={stft.hop_length}, too little with audio.n_fft={stft.n_fft} at "
            f"{stft.sample_rate_hz} Hz"
        )
    window = windows.window_frames or round(frames_a_second * separator.segment_seconds)
    if windows.window_frames is not None:
        middle = window - 2 * windows.context_frames
        if window > middle * _MOST_OVERLAP or frames_a_second > middle * _MOST_WINDOWS:
            return f"says inference.context_frames={windows.context_frames}, which leaves {middle} of {window} frames"
    if window * stft.n_freq * (size["channels"] + size["growth"]) > _MOST_ACTIVATIONS * size["fold"] ** 2:
        return f"says inference.window_frames={windows.window_frames}, too much for its model and audio.n_freq"
    return ""


def misfit(weights: Mapping[Any, Any], wanted: Mapping[str, torch.Tensor]) -> str:
    """What keeps weights from being those of a network, whose tensors may have no memory; '' if nothing does."""
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            return f"holds {_short(name)}, which is no tensor with a name"
        if value.layout != torch.strided or value.dtype not in _TYPES or value.is_meta:
            return f"holds {_short(name)} in a form that no training writes"
        if name in wanted and value.shape != wanted[name].shape:
            return f"holds {_short(name)} of shape {tuple(value.shape)}, expected {tuple(wanted[name].shape)}"
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            return f"holds {_short(name)} with more numbers than there are"
    storages = {part.data_ptr(): part.nbytes() for part in (value.untyped_storage() for value in weights.values())}
    if sum(value.numel() * value.element_size() for value in weights.values()) > sum(storages.values()):
        return "holds weights that share their numbers"
    missing, strange = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or strange:
        return (
            f"lacks {_short(min(missing))}" if missing else f"holds {_short(min(strange))}, which the network has not"
        )
    if not all(bool(value.float().isfinite().all()) for value in weights.values()):
        return "holds NaN or infinite weights, its training diverged"
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
        grows = _directory_bytes(path) > _DIRECTORY_BYTES or _unpacks(path)
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that torch can read: give another file") from error
    if grows:
        raise CheckpointError(f"{path} is not a checkpoint that torch has written (it is packed): give another file")


def _unpacks(path: Path) -> bool:
    """Whether what is in an archive takes more memory than the archive."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        return (
            any(e.compress_type != zipfile.ZIP_STORED or e.file_size > e.compress_size for e in entries)
            or sum(entry.file_size for entry in entries) > path.stat().st_size
            or sum(entry.file_size for entry in pickles) > _PICKLE_BYTES
            or any(_grows(archive.read(entry)) for entry in pickles)
        )


def _directory_bytes(path: Path) -> int:
    """The size of an archive's directory, which `zipfile.ZipFile` reads at once; 0 where there is none."""
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined] # what ZipFile itself asks first
        return int(end[zipfile._ECD_SIZE]) if end else 0  # type: ignore[attr-defined]


def check_header(path: Path) -> None:
    """Look at the size of a safetensors file's header, of which a table of tensors is made.

    Raises:
        ValueError: it is no network's.
    """
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > _DIRECTORY_BYTES:
            raise ValueError("too large")


def _grows(pickle: bytes) -> bool:
    """Whether a pickle takes much more memory or time to read than its own.

    Raises:
        ValueError: it is none.
    """
    for step, (code, argument, _) in enumerate(pickletools.genops(pickle)):
        if step > _PICKLE_STEPS or (code.name == "GLOBAL" and str(argument).endswith(_PICKLE_MAKERS)):
            return True
    return False


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else text[:60] + "..."
