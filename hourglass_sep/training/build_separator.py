"""Builders of the separator, with the network that a config names, this package's or another's."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.options import GROUPS
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.base import build_network, evaluating, masks_of
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import SettingError
from hourglass_sep.support.terminal import complain
from hourglass_sep.training.ranks import is_further_rank


def build_separator(cfg: DictConfig, sources: Sequence[str] = SOURCES) -> Separator:
    """Build the separator of a training config, with newly initialised weights.

    Args:
        cfg: composed config ``train``.
        sources: names of the sources, in the order of the S axis.

    Raises:
        UserError: an unknown inference setting, or a network that cannot be made.
    """
    stft = instantiate(cfg.spectrogram)
    arguments: dict[str, Any] = OmegaConf.to_container(cfg.model, resolve=True)  # type: ignore[assignment]
    target = str(arguments.pop("_target_"))
    for name in ("sources", "audio_channels"):
        if name in arguments:
            raise SettingError(f"model.{name} is not allowed: it follows from sources=[...] and audio.channels")
    try:
        module, _, name = target.rpartition(".")
        make = getattr(importlib.import_module(module), name)
    except Exception as error:  # the class's own package runs
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SettingError(
            f"model._target_={target} cannot be imported ({reason}): correct the name, or install its package"
        ) from error
    network, unknown = build_network(make, arguments, len(sources), stft.channels)
    if unknown and not is_further_rank():
        complain(f"{target} takes no {', '.join(unknown)}: left out")
    if not isinstance(network, StackedHourglass):
        _try(network, stft, len(sources))
    return Separator(network, stft, sources=sources, **build_post(cfg), **cfg.inference)


def _try(network: nn.Module, stft: Spectrogram, n_sources: int) -> None:
    """Call a network of another package once, before data are read.

    Raises:
        SettingError: it fails, or returns something else than masks.
    """
    magnitude = torch.rand(2, stft.channels, stft.n_freq, 64)
    try:
        with evaluating(network):
            masks_of(network, magnitude, n_sources)
    except SettingError:
        raise
    except Exception as error:  # its own code
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SettingError(
            f"the network {type(network).__name__} fails on a magnitude {tuple(magnitude.shape)} ({reason}): it has to "
            f"take audio.channels={stft.channels} channels"
        ) from error


def trusted(cfg: DictConfig) -> list[str]:
    """Packages whose networks a training config names itself, so that its checkpoints can be loaded."""
    return [str(cfg.model._target_).partition(".")[0]]


def build_post(cfg: DictConfig) -> dict[str, Any]:
    """Build mask refinement and reconstruction, as keyword arguments of a `Separator`.

    Raises:
        UserError: an invalid setting.
    """
    return {group: instantiate(cfg[group]) for group in GROUPS}
