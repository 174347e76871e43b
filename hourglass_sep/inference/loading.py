"""Parts of a separator from a checkpoint, checked before memory is allocated, and its description for one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from hourglass_sep.checkpoints import rebuild, store
from hourglass_sep.checkpoints.card import FORMAT
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.limits import excess
from hourglass_sep.inference.segments import SEGMENT_SECONDS
from hourglass_sep.inference.windows import Windows
from hourglass_sep.networks.base import target_of
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import CheckpointError, SettingError


def describe(network: nn.Module, stft: Spectrogram, sources: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Description of a separator to store with its weights, in plain types.

    Raises:
        SettingError: the network does not say its arguments.
    """
    arguments = getattr(network, "config", None)
    if not isinstance(arguments, Mapping):
        raise SettingError(
            f"the network {type(network).__name__} has no config: give it an attribute of that name, the dict of "
            "arguments that make it again"
        )
    described = {"_target_": target_of(network), "arguments": dict(arguments)}
    parts = {"network": described, "sources": list(sources), "audio": dict(stft.config), "inference": settings}
    return {"format": FORMAT} | parts


def load_parts(
    path: str | Path, trust: Collection[str] = (), network: nn.Module | None = None
) -> tuple[nn.Module, Spectrogram, dict[str, Any], dict[str, Any]]:
    """Network with its weights, STFT, settings (``sources`` included) and facts of a checkpoint.

    Args:
        path: file of the checkpoint.
        trust: packages whose networks may be imported, see `hourglass_sep.checkpoints.rebuild.network_class`.
        network: the network to load the weights into, in place of the described one.

    Raises:
        CheckpointError: the file is missing, not one of this package's, or exceeds a limit.
    """
    description, weights = store.read(path, trust, network)
    with store.described_by(Path(path)):
        stft = Spectrogram(**description["audio"])
        settings = description["inference"]
        windows = Windows(**{field.name: settings[field.name] for field in fields(Windows) if field.name in settings})
        settings = settings | {"sources": description["sources"]}
        if network is not None:
            return rebuild.filled(network, weights), stft, settings, description.get("facts", {})
        refuse_excess(path, rebuild.draw(description["network"], trust), stft, windows)
        made = rebuild.network(description["network"], weights, trust)
        return made, stft, settings, description.get("facts", {})


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
    sizes = network.config if isinstance(network, StackedHourglass) else {}
    reason = excess(sizes, stft, windows, segment_seconds)
    if reason:
        raise CheckpointError(f"{path} {reason}: give another file")
