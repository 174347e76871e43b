"""Training augmentation of a pair of source signals: no augmentation, and remixing."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hourglass_sep.support.errors import SettingError

_MOST = 24  # dB or semitones; two octaves is more than the pitch difference between any two voices


class Augmentation(Protocol):
    """Interface of augmentations: random draws for one training patch, with ``rng`` as the only random source."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Draw the clip number of the voice, given ``clip``, that of the accompaniment."""

    def speed(self, rng: np.random.Generator) -> float:
        """Draw the factor by which a clip's speed and pitch are multiplied; 1.0 leaves the clip unchanged."""

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """Draw a linear gain for each source, float32 (S,)."""


def check_augmentation(augment: object) -> None:
    """Check that an object has the methods of `Augmentation`.

    Raises:
        SettingError: one is missing; it names the method.
    """
    for method in ("partner", "speed", "gains"):
        if isinstance(augment, type) or not callable(getattr(augment, method, None)):
            raise SettingError(
                f"augment={augment!r} has no method {method}: see hourglass_sep.data.augment.Augmentation"
            )


class NoAugmentation:
    """No augmentation: clips remain unchanged (the paper's recipe)."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Return ``clip``: the voice comes from the clip of the accompaniment."""
        return clip

    def speed(self, rng: np.random.Generator) -> float:
        """Return 1.0: speed and pitch remain unchanged."""
        return 1.0

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """Return gains of 1, float32 (S,)."""
        return np.ones(n_sources, dtype=np.float32)


class Remix:
    """Voice and accompaniment from different clips, each at a random level and speed.

    Args:
        probability: share of patches whose voice is taken from a randomly drawn clip.
        gain_db: largest gain in dB; gains are uniform in dB from -gain_db to +gain_db.
        semitones: largest pitch change; speeds are uniform in semitones from -semitones to +semitones. Formants move
            with the pitch, which resembles other singers.

    Raises:
        ValueError: probability outside [0, 1], or gain_db or semitones outside [0, 24].
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
        """Draw any clip with ``probability``, which may be ``clip`` by chance; otherwise return ``clip``."""
        other = int(rng.integers(n_clips))
        return other if rng.random() < self.probability else clip

    def speed(self, rng: np.random.Generator) -> float:
        """Draw a speed factor, uniform in semitones."""
        return float(2 ** (rng.uniform(-self.semitones, self.semitones) / 12)) if self.semitones else 1.0

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """Draw linear gains, float32 (S,), uniform in dB between -gain_db and +gain_db."""
        return (10 ** (rng.uniform(-self.gain_db, self.gain_db, n_sources) / 20)).astype(np.float32)
