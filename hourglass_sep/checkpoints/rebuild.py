"""Networks from their descriptions, and checks that weights match them.

This package's networks are built without asking. The class of another package is imported only if that package was
named, or declares networks as entry points of the group ``hourglass_sep.networks``: importing a package runs its code.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from hourglass_sep.checkpoints.card import OWN_NETWORK, short
from hourglass_sep.networks import base
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import CheckpointError
from hourglass_sep.support.terminal import clean

ENTRY_POINTS = "hourglass_sep.networks"
"""Entry points of installed packages whose networks are built without asking."""

_FORMER = {"growth": 0}
"""Removed arguments of the network in earlier cards (experiments/recipe), with the only value that is still built."""

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def current_arguments(network: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A card's ``network`` without removed arguments, and the reason why it cannot be built ('' if it can)."""
    arguments = network["arguments"]
    if network["_target_"] != OWN_NETWORK:
        return dict(network), ""
    for name, value in _FORMER.items():
        if arguments.get(name, value) != value:
            reason = f"says network.{name}={short(arguments[name])}, which only earlier versions can build"
            return dict(network), reason
    kept = {name: value for name, value in arguments.items() if name not in _FORMER}
    return {"_target_": OWN_NETWORK, "arguments": kept}, ""


def network_class(target: str, trust: Collection[str] = ()) -> type[nn.Module]:
    """The class of a network by its dotted name.

    Args:
        target: ``package.module.Class``.
        trust: packages of which networks may be imported, besides this one and those with `ENTRY_POINTS`.

    Raises:
        CheckpointError: the package was not named, cannot be imported, or has no such network; nothing is imported in
            the first case.
    """
    if target == OWN_NETWORK:
        return StackedHourglass
    shown = clean(short(target)).strip("'")
    module, _, name = target.rpartition(".")
    package = target.partition(".")[0]
    if not all(part.isidentifier() for part in target.split(".")) or not module or package == base.PACKAGE:
        raise CheckpointError(f"has the network {shown}, which this version does not have")
    if package not in ([trust] if isinstance(trust, str) else trust) and package not in _declared():
        raise CheckpointError(
            f"has the network {shown} of another package, whose code loading it would run: allow it with "
            f"trust=[{package}], --trust {package} in separate, or give an instance with network="
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # the package's own code runs
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"has the network {shown}, which cannot be imported ({reason})") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)) or found.__module__.partition(".")[0] != package:
        raise CheckpointError(f"has the network {shown}, which is no torch.nn.Module defined in {package}")
    return found


def _declared() -> set[str]:
    """Packages that declare networks as entry points."""
    return {
        point.value.partition(".")[0].partition(":")[0] for point in importlib.metadata.entry_points(group=ENTRY_POINTS)
    }


def draw(network: Mapping[str, Any], trust: Collection[str] = ()) -> nn.Module:
    """The network that a card's ``network`` describes; this package's without memory for its weights (meta device).

    Raises:
        CheckpointError: see `network_class`.
        KeyError, TypeError, ValueError: invalid arguments.
    """
    made = network_class(network["_target_"], trust)
    if made is StackedHourglass:
        with torch.device("meta"):
            return StackedHourglass(**network["arguments"])
    json.dumps(network["arguments"], allow_nan=False)  # plain values only
    try:
        drawn = made(**network["arguments"])
    except Exception as error:  # the class's own code
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(getattr(drawn, "config", None), Mapping):
        drawn.config = dict(network["arguments"])  # type: ignore[assignment]
    return drawn


def network(
    described: Mapping[str, Any], weights: Mapping[str, torch.Tensor], trust: Collection[str] = ()
) -> nn.Module:
    """The network that a card's ``network`` describes, with its weights.

    Args:
        described: class and arguments of the network.
        weights: state dict of the network, without a `misfit`.
        trust: see `network_class`.
    """
    if described["_target_"] == OWN_NETWORK:
        made: nn.Module = StackedHourglass(**described["arguments"], channels_last=True)  # half as fast again on CPUs
    else:
        made = draw(described, trust)
    return filled(made, weights)


def filled(made: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """A network with these weights, which have no `misfit`, in its own types."""
    made.load_state_dict(weights)
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
        own = wanted.get(name, value)
        types = _TYPES if own.is_floating_point() else (own.dtype,)  # counters of another package's network
        if value.layout != torch.strided or value.dtype not in types or value.is_meta:
            return f"holds {short(name)} in a form that no training writes"
        if name in wanted and value.shape != wanted[name].shape:
            return f"holds {short(name)} of shape {tuple(value.shape)}, expected {tuple(wanted[name].shape)}"
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            return f"holds {short(name)} with more numbers than there are"
    missing, strange = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or strange:
        return f"lacks {short(min(missing))}" if missing else f"holds {short(min(strange))}, which the network has not"
    storages = {part.data_ptr(): part.nbytes() for part in (value.untyped_storage() for value in weights.values())}
    # Weights that the network itself shares count once; those on the meta device have no address.
    apart = {wanted[name].data_ptr() or name: value for name, value in weights.items()}
    if sum(value.numel() * value.element_size() for value in apart.values()) > sum(storages.values()):
        return "holds weights that share their numbers"
    if not all(bool(value.to(wanted[name].dtype).isfinite().all()) for name, value in weights.items()):
        return "holds NaN or infinite weights, its training diverged"
    return ""
