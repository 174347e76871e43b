"""Effects of single sources: which sources an effect changes, how often, and the random numbers of each."""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.support.errors import SettingError


class Effect(Protocol):
    """Interface of effects. One that works on two channels only has the attribute ``needs_stereo = True``."""

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """Change a waveform (C, N), float32, and return it as a new one of this shape.

        The argument itself stays as it is, and ``rng`` is the only random source.
        """


class PerSource:
    """An effect that changes some sources of some patches.

    Args:
        effect: class or function that makes the effect from ``settings``.
        sources: names of the sources that it changes; None for all.
        probability: share of the patches in which it changes a source; drawn for each source.
        settings: arguments of ``effect``.

    Raises:
        ValueError: probability outside [0, 1], sources that are no list of names, or an effect that is not callable.
    """

    def __init__(
        self,
        effect: Callable[..., Effect],
        sources: Sequence[str] | None = None,
        probability: float = 1.0,
        **settings: Any,
    ) -> None:
        self.effect = effect(**settings)
        if not callable(self.effect):
            raise SettingError(f"{self.effect!r} is no effect: see hourglass_sep.data.effects.Effect")
        # ChannelSwap -> effects.channel_swap, as in conf/effect
        key = "effects." + re.sub(r"(?<!^)(?=[A-Z][a-z])", "_", type(self.effect).__name__).lower()
        if isinstance(probability, bool) or not (isinstance(probability, int | float) and 0 <= probability <= 1):
            raise SettingError(f"{key}.probability={probability!r} is not allowed: give a number from 0 to 1")
        self.probability = probability
        listed = isinstance(sources, Sequence) and not isinstance(sources, str) and len(sources) > 0
        if sources is not None and not (listed and all(isinstance(name, str) for name in sources)):
            raise SettingError(
                f"{key}.sources={sources!r} is not allowed: give a list of names, or null for all sources"
            )
        self.sources = None if sources is None else tuple(sources)

    @property
    def needs_stereo(self) -> bool:
        """Whether the effect works on two channels only."""
        return bool(getattr(self.effect, "needs_stereo", False))


def check_effects(effects: Mapping[str, PerSource], names: Sequence[str], channels: int | None = None) -> None:
    """Check effects against the sources that they are for.

    Args:
        effects: effects by name.
        names: names of all sources.
        channels: number of channels C of the waveforms; not checked if None.

    Raises:
        SettingError: an entry that is no `PerSource`, an effect of an unknown source, or one that needs two channels.
    """
    for key, each in effects.items():
        if not isinstance(each, PerSource):
            raise SettingError(f"effects.{key}={each!r} is no hourglass_sep.data.effects.PerSource: see conf/effect")
        for source in each.sources or ():
            if source not in names:
                close = difflib.get_close_matches(source, names, 1)
                remedy = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}, or null for all"
                raise SettingError(f"effects.{key}.sources has {source!r}, which is no source: {remedy}")
        if each.needs_stereo and channels not in (None, 2):
            raise SettingError(
                f"effect={key} needs 2 channels and there are {channels}: leave {key} out of effect=[...]"
            )


def apply_effects(
    effects: Mapping[str, PerSource],
    sources: Tensor,
    names: Sequence[str],
    sample_rate_hz: int,
    seed: int,
    index: int,
) -> Tensor:
    """Apply effects to the sources of a patch, in the order of ``effects``.

    Each effect draws for each source from a generator of its own, seeded by (seed, index, CRC-32 of the effect's name,
    number of the source): effects that are added or left out change no other draw.

    Args:
        effects: effects by name, checked by `check_effects`.
        sources: waveforms (S, C, N), float32; not changed.
        names: names of the S sources.
        sample_rate_hz: their sample rate in Hz.
        seed: seed of the patches.
        index: number of the patch.

    Returns:
        Waveforms (S, C, N): ``sources`` itself without effects.

    Raises:
        SettingError: an effect returned another shape or type.
    """
    if not effects:
        return sources
    changed = list(sources)
    for key, each in effects.items():
        word = zlib.crc32(key.encode())
        for number, (name, source) in enumerate(zip(names, changed, strict=True)):
            if each.sources is not None and name not in each.sources:
                continue
            rng = np.random.default_rng((seed, index, word, number))
            if rng.random() >= each.probability:
                continue
            made = each.effect(source, sample_rate_hz, rng)
            if not isinstance(made, Tensor) or (made.shape, made.dtype) != (sources.shape[1:], sources.dtype):
                found = f"{tuple(made.shape)} {made.dtype}" if isinstance(made, Tensor) else type(made).__name__
                raise SettingError(
                    f"effects.{key} returned {found}: return a tensor {tuple(sources.shape[1:])} {sources.dtype}"
                )
            changed[number] = made
    return torch.stack(changed)
