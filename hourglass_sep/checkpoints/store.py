"""Reading and writing weights: shipped weights, cards with safetensors, and Lightning checkpoints, without pickles.

NAME.safetensors contains the network in half precision, except whole numbers, and tensors beyond the range of half
precision; its card NAME.json describes the separator and the origin of the weights.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from hourglass_sep.checkpoints import rebuild
from hourglass_sep.checkpoints.archive import check_archive, check_header
from hourglass_sep.checkpoints.card import FORMAT, problem, read_card, upgraded
from hourglass_sep.support.errors import CheckpointError
from hourglass_sep.support.paths import WEIGHTS_DIR, at_home

KEY = "hourglass_sep"
"""Key of a Lightning checkpoint for the separator's description."""


def _shipped() -> list[str]:
    """Names of the weights that ship."""
    return sorted(path.stem for path in WEIGHTS_DIR.glob("*.safetensors"))


def shipped_path(name: str) -> Path:
    """File of shipped weights.

    Raises:
        CheckpointError: no weights of that name.
    """
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if not path.exists():
        raise CheckpointError(f"no weights named {name!r} ship with this package: choose from {_shipped()}")
    return path


def located(name_or_path: str | Path) -> Path:
    """File of weights by its path (it has a dot or a slash), or of weights that ship by their name.

    Raises:
        CheckpointError: no weights of that name.
    """
    text = str(name_or_path)
    is_path = isinstance(name_or_path, Path) or "/" in text or "." in text
    return Path(text) if is_path else shipped_path(text)


def read(
    path: str | Path, trust: Collection[str] = (), network: nn.Module | None = None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The description of a checkpoint's separator, and its network's state dict.

    Args:
        path: file of the checkpoint.
        trust: packages whose networks may be imported, see `hourglass_sep.checkpoints.rebuild.network_class`.
        network: the network that the weights should match, in place of the described one.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint of this package, or its network is of a
            package that was not named.
    """
    path = at_home(path)
    description, weights = read_unbuilt(path)
    with described_by(path):
        drawn = network if network is not None else rebuild.draw(description["network"], trust)
        reason = rebuild.misfit(weights, drawn.state_dict())
    if reason:
        raise CheckpointError(f"{path} {reason}: give another file")
    return description, weights


def read_unbuilt(path: str | Path) -> tuple[dict[str, Any], dict[Any, Any]]:
    """The description of a checkpoint's separator and the file's weights, before any class is imported.

    Args:
        path: file of the checkpoint.

    Returns:
        A valid description, see `hourglass_sep.checkpoints.card.problem`, and weights that may not fit its network.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint of this package.
    """
    path = at_home(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: give a checkpoint, or a name that ships: {_shipped()}")
    description, weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_lightning(path)
    description = upgraded(description)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path} is of something else, or of another version of this package: give another file")
    reason = problem(description)
    if not reason:
        description["network"], reason = rebuild.current_arguments(description["network"])
    if reason:
        raise CheckpointError(f"{path} {reason}: give another file")
    return description, weights


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """Replace errors about a file's content by one line that names the file.

    Raises:
        CheckpointError: in place of them.
    """
    try:
        yield
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(str(path)) else f"{path} {text}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not describe a network of this version ({reason}): train again") from error


@contextmanager
def _named(path: Path) -> Iterator[str]:
    """A name of a file that can be encoded as UTF-8, for libraries that need it."""
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
        # Memory-mapped: other content is not read. Warnings concern files that are refused.
        with _named(path) as name, warnings.catch_warnings(action="ignore"):
            checkpoint = torch.load(name, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # unpickling other files may raise anything
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
    except Exception as error:  # includes torch's errors for invalid sizes
        raise CheckpointError(f"{path} or its card is damaged or cannot be opened: fetch both again") from error


def save(path: str | Path, description: dict[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """Write NAME.safetensors in half precision and its card NAME.json.

    Args:
        path: NAME.safetensors.
        description: description of the separator, see `Separator.description`.
        weights: state dict of the network.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors.torch.save({name: _halved(value) for name, value in weights.items()}))
    path.with_suffix(".json").write_text(json.dumps(description, indent=2) + "\n")


def _halved(value: torch.Tensor) -> torch.Tensor:
    """A tensor in half precision; unchanged if it is no float tensor, or beyond the range of half precision."""
    half = value.half() if value.is_floating_point() else value
    return (half if half.isfinite().all() else value).clone(memory_format=torch.contiguous_format)
