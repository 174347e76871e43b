"""Stems by name: waveforms with one sample rate, and the names of sources, which data sets and weights choose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hourglass_sep.support.errors import SettingError

if TYPE_CHECKING:  # importable without torch, for help texts
    import numpy as np
    from torch import Tensor

SOURCES = ("accompaniment", "vocals")
"""The default sources: MIR-1K's left and right channel."""

MIXTURE = "mixture"
"""Name of the unprocessed mixture among scored systems, and of its file among stems."""

ESTIMATE = "model"
"""Name of the separator's estimates among scored systems."""

MOST_SOURCES = 64
_NAME = re.compile(r"[^\W_][\w .()&'+-]{0,63}")


class Stems(Mapping[str, Any]):
    """Waveforms by source name, with their sample rate; cannot be changed.

    Args:
        waveforms: waveforms (..., C, N) or (N) of one shape by name.
        sample_rate_hz: sample rate of all waveforms in Hz.
    """

    def __init__(self, waveforms: Mapping[str, Tensor | np.ndarray], sample_rate_hz: int) -> None:
        self._waveforms = dict(waveforms)
        self._sample_rate_hz = sample_rate_hz

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of all waveforms in Hz."""
        return self._sample_rate_hz

    def __getitem__(self, name: str) -> Any:
        return self._waveforms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._waveforms)

    def __len__(self) -> int:
        return len(self._waveforms)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.items())
        return f"Stems({shapes}; {self.sample_rate_hz} Hz)"

    def stacked(self, sources: Sequence[str]) -> Tensor:
        """The waveforms of these sources in this order, (S, ..., N).

        Raises:
            ValueError: a source is missing; it names those that there are.
        """
        import torch

        missing = [name for name in sources if name not in self]
        if missing:
            raise ValueError(f"there is no stem {', '.join(missing)}: there are {', '.join(self)}")
        return torch.stack([torch.as_tensor(self[name]) for name in sources])

    def summed(self, sums: Mapping[str, Sequence[str]]) -> Stems:
        """Stems in which parts are replaced by their sum: ``{"accompaniment": ["drums", "bass", "other"]}``.

        Raises:
            ValueError: a part is missing.
        """
        made = {name: self.stacked(parts).sum(0) for name, parts in sums.items()}
        parts = {part for of in sums.values() for part in of}
        return Stems({name: value for name, value in self.items() if name not in parts} | made, self.sample_rate_hz)


def read_sources(texts: Sequence[str], key: str = "sources") -> dict[str, tuple[str, ...]]:
    """Parse names of sources: ``vocals`` is the stem of that name, ``accompaniment=drums+bass+other`` a sum of stems.

    Args:
        texts: the names, in the order of the S axis.
        key: config key, for messages.

    Returns:
        Source to the names of the stems that it is the sum of.

    Raises:
        SettingError: no source, an invalid name, or a name or stem that occurs twice.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise SettingError(f"{key}={texts!r} is not allowed: give a list of names, [vocals,drums,bass,other]")
    if len(texts) > MOST_SOURCES:
        raise SettingError(f"{key} has {len(texts)} names: {MOST_SOURCES} can be")
    found: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}
    for text in texts:
        name, equals, parts = (part.strip() for part in str(text).partition("="))
        stems = tuple(part.strip() for part in parts.split("+")) if equals else (name,)
        for each in (name, *stems):
            if not isinstance(text, str) or not _NAME.fullmatch(each) or each == MIXTURE:
                raise SettingError(
                    f"{key} has {str(text)!r}, which is no source: give the name of a stem, or NAME=STEM+STEM for a sum"
                )
        if name in found:
            raise SettingError(f"{key} has {name} twice: leave one out")
        for stem in stems:
            if stem in owners:
                raise SettingError(f"{key} has the stem {stem} twice, in {owners[stem]} and in {name}: leave one out")
            owners[stem] = name
        found[name] = stems
    return found
