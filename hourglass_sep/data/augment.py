"""Training augmentation of a pair of source signals: null object and remixing."""

from __future__ import annotations

import numpy as np

from hourglass_sep.errors import SettingError


class NoAugmentation:
    """The clips as they are (the paper's recipe)."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Which clip the voice is taken from, given the accompaniment's."""
        return clip

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """A factor for each source, float32 (S,)."""
        return np.ones(n_sources, dtype=np.float32)


class Remix(NoAugmentation):
    """Voice and accompaniment from different clips, and a random level for each.

    Args:
        probability: the share of patches whose voice comes from another clip than their accompaniment.
        gain_db: levels are drawn uniformly from +-gain_db.

    Raises:
        ValueError: a probability outside [0, 1] or a negative gain.
    """

    def __init__(self, probability: float = 0.5, gain_db: float = 5.0) -> None:
        if not 0 <= probability <= 1:
            raise SettingError(f"augment.probability={probability} is not allowed: give a number from 0 to 1")
        if gain_db < 0:
            raise SettingError(f"augment.gain_db={gain_db} is not allowed: give a number from 0 on")
        self.probability = probability
        self.gain_db = gain_db

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Another clip in ``probability`` of the cases, possibly the same one by chance."""
        other = int(rng.integers(n_clips))
        return other if rng.random() < self.probability else clip

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """Factors (S,) between -gain_db and +gain_db, uniform in dB."""
        return (10 ** (rng.uniform(-self.gain_db, self.gain_db, n_sources) / 20)).astype(np.float32)
