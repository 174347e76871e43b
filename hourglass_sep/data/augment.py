"""Training augmentation of a pair of source signals: null object and remixing."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hourglass_sep.support.errors import SettingError

_MOST = 24  # dB or semitones; two octaves are more than any voice is apart from another


class Augmentation(Protocol):
    """What is drawn for a training patch: any object with these methods. Draw from ``rng`` and nothing else."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """The number of the clip that the voice is taken from, given the accompaniment's."""

    def speed(self, rng: np.random.Generator) -> float:
        """The speed, and pitch, that a clip is played at; 1.0 is its own."""

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """A factor for each source, float32 (S,)."""


class NoAugmentation:
    """The clips as they are (the paper's recipe)."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """The same clip."""
        return clip

    def speed(self, rng: np.random.Generator) -> float:
        """Its own."""
        return 1.0

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """All 1."""
        return np.ones(n_sources, dtype=np.float32)


class Remix:
    """Voice and accompaniment from different clips, each at a random level and speed.

    Args:
        probability: the share of patches whose voice comes from another clip than their accompaniment.
        gain_db: levels are drawn uniformly from +-gain_db.
        semitones: speeds are drawn such that pitches move by up to +-semitones, formants with them: other singers.

    Raises:
        ValueError: a probability outside [0, 1], or another number outside [0, 24].
    """

    def __init__(self, probability: float = 0.5, gain_db: float = 5.0, semitones: float = 0.0) -> None:
        if not (isinstance(probability, int | float) and 0 <= probability <= 1):
            raise SettingError(f"augment.probability={probability} is not allowed: give a number from 0 to 1")
        for name, value in {"gain_db": gain_db, "semitones": semitones}.items():
            if not (isinstance(value, int | float) and 0 <= value <= _MOST):
                raise SettingError(f"augment.{name}={value} is not allowed: give a number from 0 to {_MOST}")
        self.probability = probability
        self.gain_db = gain_db
        self.semitones = semitones

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Another clip in ``probability`` of the cases, possibly the same one by chance."""
        other = int(rng.integers(n_clips))
        return other if rng.random() < self.probability else clip

    def speed(self, rng: np.random.Generator) -> float:
        """A factor, uniform in semitones."""
        return float(2 ** (rng.uniform(-self.semitones, self.semitones) / 12)) if self.semitones else 1.0

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """Factors (S,) between -gain_db and +gain_db, uniform in dB."""
        return (10 ** (rng.uniform(-self.gain_db, self.gain_db, n_sources) / 20)).astype(np.float32)
