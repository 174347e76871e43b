"""Parts of a separator from a checkpoint, checked before memory is allocated, and its description for one."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from hourglass_sep.checkpoints import rebuild, store
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.limits import excess
from hourglass_sep.inference.segments import SEGMENT_SECONDS
from hourglass_sep.inference.windows import Windows
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import CheckpointError


def describe(network: nn.Module, stft: Spectrogram, settings: dict[str, Any]) -> dict[str, Any]:
    """Description of a separator to store with its weights: network arguments, STFT and settings, in plain types."""
    assert isinstance(network, StackedHourglass)
    return {"format": store.FORMAT, "model": network.config, "audio": stft.config, "inference": settings}


def load_parts(path: str | Path) -> tuple[StackedHourglass, Spectrogram, dict[str, Any]]:
    """Network with its weights, STFT and settings of a checkpoint.

    Raises:
        CheckpointError: the file is missing, not one of this package's, or exceeds a limit.
    """
    description, weights = store.read(path)
    with store.described_by(Path(path)):
        stft = Spectrogram(**description["audio"])
        settings = description["inference"]
        windows = Windows(**{field.name: settings[field.name] for field in fields(Windows) if field.name in settings})
        refuse_excess(path, rebuild.draw(description["model"]), stft, windows)
        return rebuild.network(description["model"], weights), stft, settings


def refuse_excess(
    path: str | Path, network: nn.Module, stft: Spectrogram, windows: Windows, segment_seconds: float = SEGMENT_SECONDS
) -> None:
    """Check that memory and time stay within the limits of `hourglass_sep.inference.limits`.

    Args:
        path: file of the settings, for the error message.
        network: network of the separator; its weights may be on the meta device.
        stft: STFT of the separator.
        windows: windows of the separator.
        segment_seconds: length of its segments.

    Raises:
        CheckpointError: a limit is exceeded.
    """
    reason = excess(network.config, stft, windows, segment_seconds)  # type: ignore[arg-type]
    if reason:
        raise CheckpointError(f"{path} {reason}: give another file")
