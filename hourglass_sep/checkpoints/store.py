"""Shipped weights and every way to load or save some: what a Separator needs, and nothing to unpickle.

NAME.safetensors holds the network in half precision; NAME.json, its card, says how to rebuild the separator and where
the weights come from.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from hourglass_sep.checkpoints.card import check_archive, check_header, excess, misfit, problem, read_card
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.signal.stft import Spectrogram
from hourglass_sep.support.errors import CheckpointError
from hourglass_sep.support.paths import WEIGHTS_DIR, at_home

FORMAT = "hourglass_sep/1"
"""Says that a checkpoint is one of ours, and how its description is to be read."""

_LATER = {"growth": 0}
"""Settings of the network that earlier checkpoints do not have, and what they were then."""

KEY = "hourglass_sep"
"""Where a Lightning checkpoint keeps its `describe`."""


def describe(separator: Separator) -> dict[str, Any]:
    """Everything but the weights: network, STFT and settings, in plain types."""
    assert isinstance(separator.network, StackedHourglass)
    return {
        "format": FORMAT,
        "model": separator.network.config,
        "audio": separator.spectrogram.config,
        "inference": separator.settings,
    }


def build(description: dict[str, Any], weights: dict[str, torch.Tensor], **changes: Any) -> Separator:
    """The separator that `describe` described, with its weights.

    Args:
        description: see `describe`.
        weights: the network's state dict.
        changes: settings to override, ``refine`` and ``reconstruct``.
    """
    network = StackedHourglass(**description["model"], channels_last=True)  # half as fast again on CPUs
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    settings = description["inference"] | changes
    return Separator(network, Spectrogram(**description["audio"]), **settings).eval()


def _shipped() -> list[str]:
    """The names of the weights that ship."""
    return sorted(path.stem for path in WEIGHTS_DIR.glob("*.safetensors"))


def load_pretrained(name: str = "default", **changes: Any) -> Separator:
    """See `Separator.from_pretrained`."""
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if not path.exists():
        raise CheckpointError(f"no weights named {name!r} ship with this package: choose from {_shipped()}")
    return load_checkpoint(path, **changes)


def load_checkpoint(path: str | Path, **changes: Any) -> Separator:
    """See `Separator.from_checkpoint`."""
    description, weights = read(path)
    try:
        separator = build(description, weights, **changes)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not describe a network of this version ({reason}): train again") from error
    separator.origin = str(path)
    return separator


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `describe` said of a checkpoint's separator, and the network's weights.

    Raises:
        CheckpointError: the file is missing, damaged, or of something else.
    """
    path = at_home(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: give a checkpoint, or a name that ships: {_shipped()}")
    description, weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_lightning(path)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path} is of something else, or of another version of this package: give another file")
    reason = problem(description)
    if not reason:
        description["model"] = _LATER | description["model"]
        drawn = _draw(path, description)
        reason = excess(drawn) or misfit(weights, drawn.network.state_dict())
    if reason:
        raise CheckpointError(f"{path} {reason}: give another file")
    return description, weights


def _draw(path: Path, description: dict[str, Any]) -> Separator:
    """The separator that is described, without memory for the numbers of its network."""
    try:
        with torch.device("meta"):
            network = StackedHourglass(**description["model"])
        return Separator(network, Spectrogram(**description["audio"]), **description["inference"])
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not describe a network of this version ({reason}): train again") from error


@contextmanager
def _named(path: Path) -> Iterator[str]:
    """A name of a file for libraries that take text only."""
    with path.open("rb") as file:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            yield f"/dev/fd/{file.fileno()}"
        else:
            yield str(path)


def _read_lightning(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    check_archive(path)
    try:
        # Mapped: of what else is in the file, nothing is read. Warnings are about files that are refused.
        with _named(path) as name, warnings.catch_warnings(action="ignore"):
            checkpoint = torch.load(name, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # there is no end to what unpickling another file may raise
        raise CheckpointError(f"{path} is not a checkpoint that torch can read: give another file") from error
    if not isinstance(checkpoint, dict) or not {KEY, "state_dict"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is a checkpoint of something else: give one that hourglass_sep.train wrote")
    prefix, state = "separator.network.", checkpoint["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} holds no weights by name: give a checkpoint that hourglass_sep.train wrote")
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return checkpoint[KEY], weights


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    card = path.with_suffix(".json")
    if not card.is_file():
        raise CheckpointError(f"{path} has no card: put {card.name} beside it")
    try:
        check_header(path)
        with _named(path) as name:
            return read_card(card), safetensors.torch.load_file(name)
    except Exception as error:  # torch's own, too, of sizes that are none
        raise CheckpointError(f"{path} or its card is damaged or cannot be opened: fetch both again") from error


def save_weights(separator: Separator, path: str | Path, card: dict[str, Any]) -> None:
    """Write NAME.safetensors in half precision and its card NAME.json.

    Args:
        separator: whose network and settings to keep.
        path: NAME.safetensors.
        card: where the weights come from: data, recipe, steps, commit, scores.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in separator.network.state_dict().items()}
    path.write_bytes(safetensors.torch.save(weights))
    path.with_suffix(".json").write_text(json.dumps(describe(separator) | card, indent=2) + "\n")
