"""Starting a new training from existing weights: the layers that fit are taken, the rest is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hourglass_sep.checkpoints.card import OWN_NETWORK
from hourglass_sep.checkpoints.store import located, read
from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import CheckpointError

_MOST_NAMED = 6
_STARTED = "; started from "
_SOURCE_AXES = {"heads": 0, "mask_links": 1}
"""Layers of `StackedHourglass` with an axis of sources, and that axis of their weights."""


def start_from(separator: Separator, name_or_path: str, trust: Collection[str] = ()) -> tuple[str, str]:
    """Copy weights into a separator's network wherever name and shape are equal, also for other numbers of sources.

    Masks are matched by the names of their sources where both networks are this package's; new sources start anew.

    Args:
        separator: the separator to be trained; its network is changed.
        name_or_path: a name that ships, or the file of a checkpoint.
        trust: packages whose networks may be imported, see `Separator.from_checkpoint`.

    Returns:
        What was taken and what was not, one line; and the weights with the licence of their data, for `with_origin`.

    Raises:
        CheckpointError: the checkpoint cannot be read, or nothing of it fits.
    """
    description, weights = read(located(name_or_path), trust)
    own = separator.network.state_dict()
    sources, now = description["sources"], separator.description
    match = {description["network"]["_target_"], now["network"]["_target_"]} == {OWN_NETWORK}
    taken: dict[str, Tensor] = {}
    for name in own.keys() & weights.keys():
        if match and name.partition(".")[0] in _SOURCE_AXES and sources != now["sources"]:
            matched = _by_source(name, weights[name].to(own[name]), own[name], sources, separator.sources)
            if matched is not None:
                taken[name] = matched
        elif weights[name].shape == own[name].shape:
            taken[name] = weights[name].to(own[name])
    if not any(value.dim() > 1 and not name.startswith(tuple(_SOURCE_AXES)) for name, value in taken.items()):
        arguments = description["network"]["arguments"]
        wanted = " ".join(f"model.{key}={value}" for key, value in arguments.items() if _differs(key, value, now))
        raise CheckpointError(
            f"init_from={name_or_path}: no layer has the size of this network's: its own options are {wanted}"
        )
    separator.network.load_state_dict(taken, strict=False)
    missing = [name for name in own if name not in taken]
    text = f"init_from={name_or_path}: {len(taken)} of {len(own)} tensors taken"
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        text += f", newly drawn: {', '.join(missing[:_MOST_NAMED])}{more}"
    new = [source for source in separator.sources if source not in sources]
    if match and new:
        text += f"; masks of {', '.join(new)} are newly drawn"
    elif sources != now["sources"] and not match:
        text += f"; its masks are those of {', '.join(sources)}"
    audio, config = description["audio"], separator.spectrogram.config
    other = [f"audio.{key}={audio.get(key)}" for key in config if audio.get(key) != config[key]]
    licence = description.get("facts", {}).get("data_licence") or "not known"
    return text + (f"; they were trained with {' '.join(other)}" if other else ""), f"{name_or_path}: {licence}"


def _differs(key: str, value: Any, now: Mapping[str, Any]) -> bool:
    return key not in ("sources", "audio_channels") and now["network"]["arguments"].get(key) != value


def _by_source(name: str, value: Tensor, own: Tensor, before: Sequence[str], now: Sequence[str]) -> Tensor | None:
    """A layer's own tensor with the parts of sources that another one has, too; None if their sizes do not fit.

    Args:
        name: name of the tensor, of a layer of `_SOURCE_AXES`.
        value: the other network's tensor.
        own: the network's own tensor.
        before: sources of the other network.
        now: sources of the network.
    """
    layer, kind = name.partition(".")[0], name.rpartition(".")[2]
    if layer == "mask_links" and kind == "bias":  # has no axis of sources
        return value if value.shape == own.shape else None
    axis = _SOURCE_AXES[layer]
    if value.dim() != own.dim() or value.shape[axis] * len(now) != own.shape[axis] * len(before):
        return None
    size = own.shape[axis] // len(now)
    rest = [shape[:axis] + shape[axis + 1 :] for shape in (tuple(value.shape), tuple(own.shape))]
    if rest[0] != rest[1] or not set(before) & set(now):
        return None
    blocks = dict(zip(before, value.split(size, axis), strict=True))
    parts = zip(now, own.split(size, axis), strict=True)
    return torch.cat([blocks.get(source, part) for source, part in parts], axis)


def with_origin(facts: Mapping[str, str], origin: str) -> dict[str, str]:
    """Facts whose licence of the data names the weights that a training was started from, with theirs; '' for none."""
    licence = facts.get("data_licence", "")
    return dict(facts) | ({"data_licence": f"{licence or 'not known'}{_STARTED}{origin}"} if origin else {})


def origin_of(facts: Mapping[str, Any]) -> str:
    """The weights that a training was started from, of facts made by `with_origin`; '' for none."""
    return str(facts.get("data_licence", "")).partition(_STARTED)[2]
