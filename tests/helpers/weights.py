"""Small untrained weights of any sources, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass

BAND = ("drums", "bass", "other", "vocals")


def separator_of(sources: Sequence[str], channels: int = 1, **settings: Any) -> Separator:
    """A separator with an untrained network whose masks differ from source to source, and are hardly ever 0."""
    torch.manual_seed(0)
    network = StackedHourglass(stacks=1, channels=4, depth=1, sources=len(sources), audio_channels=channels)
    torch.nn.init.uniform_(network.heads[0].bias, 0.2, 1.0)  # type: ignore[arg-type]
    return Separator(network, Spectrogram(channels=channels), sources=sources, **settings).eval()


def weights_of(
    path: Path, sources: Sequence[str], facts: dict[str, Any] | None = None, channels: int = 1, **settings: Any
) -> Path:
    """A file of weights: ``.safetensors`` with its card, or ``.ckpt`` as training writes it."""
    separator = separator_of(sources, channels, **settings)
    if path.suffix == ".safetensors":
        separator.save_weights(path, facts or {})
    else:
        separator.facts = facts or {}
        state = {f"separator.{name}": value for name, value in separator.state_dict().items()}
        torch.save({"state_dict": state, KEY: separator.description}, path)
    return path
