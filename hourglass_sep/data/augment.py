"""Training augmentation of a pair of source signals: null object and remixing."""

from __future__ import annotations

import numpy as np

from hourglass_sep.errors import SettingError

_COLOUR_POINTS = 9  # every 500 Hz at 8 kHz: about as dense as formants


class NoAugmentation:
    """The clips as they are (the paper's recipe)."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Which clip the voice is taken from, given the accompaniment's."""
        return clip

    def speed(self, rng: np.random.Generator) -> float:
        """How much faster, and higher, a clip is played."""
        return 1.0

    def gains(self, rng: np.random.Generator, n_sources: int, n_bins: int) -> np.ndarray:
        """A factor for each source and frequency bin, float32 (S, n_bins)."""
        return np.ones((n_sources, n_bins), dtype=np.float32)


class Remix(NoAugmentation):
    """Voice and accompaniment from different clips, each at a random level, speed and colour.

    Args:
        probability: the share of patches whose voice comes from another clip than their accompaniment.
        gain_db: levels are drawn uniformly from +-gain_db.
        semitones: speeds are drawn such that pitches move by up to +-semitones, formants with them: other singers.
        colour_db: standard deviation of a random filter's gain at `_COLOUR_POINTS` frequencies, straight lines (in
            dB) between them: other voices, instruments and microphones.

    Raises:
        ValueError: a probability outside [0, 1] or a negative number.
    """

    def __init__(
        self, probability: float = 0.5, gain_db: float = 5.0, semitones: float = 0.0, colour_db: float = 0.0
    ) -> None:
        if not 0 <= probability <= 1:
            raise SettingError(f"augment.probability={probability} is not allowed: give a number from 0 to 1")
        for name, value in {"gain_db": gain_db, "semitones": semitones, "colour_db": colour_db}.items():
            if value < 0:
                raise SettingError(f"augment.{name}={value} is not allowed: give a number from 0 on")
        self.probability = probability
        self.gain_db = gain_db
        self.semitones = semitones
        self.colour_db = colour_db

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Another clip in ``probability`` of the cases, possibly the same one by chance."""
        other = int(rng.integers(n_clips))
        return other if rng.random() < self.probability else clip

    def speed(self, rng: np.random.Generator) -> float:
        """A factor, uniform in semitones."""
        return float(2 ** (rng.uniform(-self.semitones, self.semitones) / 12)) if self.semitones else 1.0

    def gains(self, rng: np.random.Generator, n_sources: int, n_bins: int) -> np.ndarray:
        """Level times filter, float32 (S, n_bins)."""
        gains_db = np.repeat(rng.uniform(-self.gain_db, self.gain_db, (n_sources, 1)), n_bins, axis=1)
        if self.colour_db:
            points = np.linspace(0, n_bins - 1, _COLOUR_POINTS)
            for row in gains_db:
                row += np.interp(np.arange(n_bins), points, rng.normal(0, self.colour_db, _COLOUR_POINTS))
        return (10 ** (gains_db / 20)).astype(np.float32)
