"""Mask networks: the interface that separator and training use, and their construction from a class and arguments.

A network of another package needs no base class: any `torch.nn.Module` of this form is one, see docs/extending.md.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hourglass_sep.support.errors import SettingError

PACKAGE = __name__.partition(".")[0]


class MaskNetwork(Protocol):
    """Interface of mask networks.

    Attributes:
        config: arguments that rebuild the network, in plain types; stored in checkpoints. `build_network` adds it to
            networks that lack it.
    """

    config: Mapping[str, Any]

    def __call__(self, magnitude: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            magnitude: the mixture's magnitude (B, C, F, T), scaled to a maximum of about 1. C is 1, or 2 for
                ``audio.channels=2``; any B and T.

        Returns:
            Masks (K, B, S, C, F, T) of K stacks (1 for networks without); inference clamps them at 0 and uses the last
            stack's. An axis C of 1 is one mask for all channels, and may be left out: (K, B, S, F, T).
        """


def masks_of(network: Callable[[Tensor], Tensor], magnitude: Tensor, n_sources: int) -> Tensor:
    """A network's masks (K, B, S, 1|C, F, T) for a magnitude (B, C, F, T).

    Args:
        network: the network, or a compiled version of it.
        magnitude: its input.
        n_sources: number of sources S that it should give.

    Raises:
        SettingError: it returned something else; the message names the network.
    """
    masks = network(magnitude)
    n_batch, n_channels, n_freq, n_frames = magnitude.shape
    if isinstance(masks, Tensor) and masks.dim() == 5:
        masks = masks.unsqueeze(3)
    wanted = (n_batch, n_sources, n_freq, n_frames)
    if (
        not isinstance(masks, Tensor)
        or masks.dim() != 6
        or (masks.shape[1], masks.shape[2], *masks.shape[4:]) != wanted
        or masks.shape[3] not in (1, n_channels)
        or not len(masks)
    ):
        found = f"shape {tuple(masks.shape)}" if isinstance(masks, Tensor) else f"a {type(masks).__name__}"
        expected = f"(K, {n_batch}, {n_sources}, {n_channels}, {n_freq}, {n_frames})"
        raise SettingError(
            f"the network {type(network).__name__} returned {found} for a magnitude {tuple(magnitude.shape)}: return "
            f"masks {expected} for {n_sources} sources, K stacks"
        )
    return masks


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode and without gradients, within the block."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def target_of(network: nn.Module) -> str:
    """Dotted name of a network's class."""
    return f"{type(network).__module__}.{type(network).__qualname__}"


def build_network(
    make: type[nn.Module], arguments: Mapping[str, Any], n_sources: int, audio_channels: int = 1
) -> tuple[nn.Module, list[str]]:
    """Build a network from its class and arguments.

    ``sources`` and ``audio_channels`` are passed if the class takes arguments of these names, and left out otherwise:
    such a class has its own numbers. Arguments that another package's class does not take are left out, as they come
    from a config of this package's network.

    Args:
        make: the class.
        arguments: its arguments.
        n_sources: number of sources S.
        audio_channels: number of channels C of the magnitude.

    Returns:
        The network, whose ``config`` holds its arguments, and the names of arguments that were left out.

    Raises:
        SettingError: the class is no network or refuses its arguments, or they are no plain values.
    """
    if not (isinstance(make, type) and issubclass(make, nn.Module)):
        raise SettingError(f"model._target_={make!r} is not allowed: give a class that is a torch.nn.Module")
    parameters = inspect.signature(make).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    own = {"sources": n_sources, "audio_channels": audio_channels}
    given = {**arguments, **{name: value for name, value in own.items() if name in parameters}}
    is_ours = make.__module__.partition(".")[0] == PACKAGE
    unknown = [] if is_ours or takes_any else [name for name in given if name not in parameters]
    given = {name: value for name, value in given.items() if name not in unknown}
    name = f"{make.__module__}.{make.__qualname__}"
    try:
        plain = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"{name} has arguments that are no plain values ({error}): give numbers and names"
        ) from error
    try:
        network = make(**given)
    except SettingError:
        raise
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SettingError(f"{name} cannot be made ({reason}): see conf/model for its arguments") from error
    if not isinstance(getattr(network, "config", None), Mapping):
        network.config = plain
    return network, unknown
