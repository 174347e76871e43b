"""Networks from their descriptions, and checks that weights match them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hourglass_sep.checkpoints.card import short
from hourglass_sep.networks.hourglass import StackedHourglass

_FORMER = {"growth": 0}
"""Removed arguments of the network in earlier cards (experiments/recipe), with the only value that is still built."""

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def current_arguments(model: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A card's ``model`` without removed arguments, and the reason why it cannot be built ('' if it can)."""
    for name, value in _FORMER.items():
        if model.get(name, value) != value:
            return dict(model), f"says model.{name}={short(model[name])}, which only earlier versions can build"
    return {name: value for name, value in model.items() if name not in _FORMER}, ""


def draw(model: Mapping[str, Any]) -> StackedHourglass:
    """The network that a card's ``model`` describes, without memory for its weights (torch's meta device).

    Raises:
        KeyError, TypeError, ValueError: invalid arguments.
    """
    with torch.device("meta"):
        return StackedHourglass(**model)


def network(model: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> StackedHourglass:
    """The network that a card's ``model`` describes, with its weights.

    Args:
        model: arguments of the network.
        weights: state dict of the network, without a `misfit`.
    """
    made = StackedHourglass(**model, channels_last=True)  # half as fast again on CPUs
    made.load_state_dict({name: value.float() for name, value in weights.items()})
    return made


def misfit(weights: Mapping[Any, Any], wanted: Mapping[str, torch.Tensor]) -> str:
    """The first difference of weights to a network's state dict, in words; '' if there is none.

    Args:
        weights: content of a checkpoint, names to tensors.
        wanted: state dict of the network; its tensors may be on the meta device.
    """
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            return f"holds {short(name)}, which is no tensor with a name"
        if value.layout != torch.strided or value.dtype not in _TYPES or value.is_meta:
            return f"holds {short(name)} in a form that no training writes"
        if name in wanted and value.shape != wanted[name].shape:
            return f"holds {short(name)} of shape {tuple(value.shape)}, expected {tuple(wanted[name].shape)}"
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            return f"holds {short(name)} with more numbers than there are"
    storages = {part.data_ptr(): part.nbytes() for part in (value.untyped_storage() for value in weights.values())}
    if sum(value.numel() * value.element_size() for value in weights.values()) > sum(storages.values()):
        return "holds weights that share their numbers"
    missing, strange = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or strange:
        return f"lacks {short(min(missing))}" if missing else f"holds {short(min(strange))}, which the network has not"
    if not all(bool(value.float().isfinite().all()) for value in weights.values()):
        return "holds NaN or infinite weights, its training diverged"
    return ""
