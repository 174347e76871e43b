"""Training augmentation of a pair of source signals: null object and remixing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.constants import SOURCES
from hourglass_sep.errors import SettingError

_ENVELOPE_CEPSTRA = 16
"""At 8 kHz: ripples of 500 Hz and more, formants but hardly partials."""

_MOST_NEPERS = 2.0
"""17 dB, the most that moving formants changes any cell."""

_MOST = 24  # dB or semitones; two octaves are more than any voice is apart from another


class NoAugmentation:
    """The clips as they are (the paper's recipe)."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        """Which clip the voice is taken from, given the accompaniment's."""
        return clip

    def speed(self, rng: np.random.Generator) -> float:
        """How much faster, and higher, a clip is played."""
        return 1.0

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        """A factor for each source, float32 (S,)."""
        return np.ones(n_sources, dtype=np.float32)

    def timbre(self, rng: np.random.Generator, spectra: Tensor) -> Tensor:
        """The spectra (S, bins, T) of the sources, complex, as if of other voices."""
        return spectra


class Remix(NoAugmentation):
    """Voice and accompaniment from different clips, each at a random level and speed.

    Args:
        probability: the share of patches whose voice comes from another clip than their accompaniment.
        gain_db: levels are drawn uniformly from +-gain_db.
        semitones: speeds are drawn such that pitches move by up to +-semitones, formants with them: other singers.
        formant_semitones: formants of the voice are moved by up to +-formant_semitones more, without the pitch.

    Raises:
        ValueError: a probability outside [0, 1], or another number outside [0, 24].
    """

    def __init__(
        self, probability: float = 0.5, gain_db: float = 5.0, semitones: float = 0.0, formant_semitones: float = 0.0
    ) -> None:
        if not 0 <= probability <= 1:
            raise SettingError(f"augment.probability={probability} is not allowed: give a number from 0 to 1")
        ranges = {"gain_db": gain_db, "semitones": semitones, "formant_semitones": formant_semitones}
        for name, value in ranges.items():
            if not 0 <= value <= _MOST:
                raise SettingError(f"augment.{name}={value} is not allowed: give a number from 0 to {_MOST}")
        self.probability = probability
        self.gain_db = gain_db
        self.semitones = semitones
        self.formant_semitones = formant_semitones

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

    def timbre(self, rng: np.random.Generator, spectra: Tensor) -> Tensor:
        """The voice with its formants moved, at the same level."""
        if not self.formant_semitones:
            return spectra
        factor = 2 ** (rng.uniform(-self.formant_semitones, self.formant_semitones) / 12)
        vocals = SOURCES.index("vocals")
        moved = move_formants(spectra[vocals], factor)
        return torch.stack([moved if s == vocals else source for s, source in enumerate(spectra)])


def move_formants(spectrum: Tensor, factor: float) -> Tensor:
    """Stretch the envelope of every frame of a spectrum along the frequencies; partials stay where they are.

    The envelope is the part of the log magnitude that `_ENVELOPE_CEPSTRA` cepstral coefficients hold.

    Args:
        spectrum: (bins, T) complex.
        factor: 1.1 moves formants up by a tenth.

    Returns:
        The same shape, of the same energy.
    """
    n_bins = spectrum.shape[0]
    power = spectrum.real.square() + spectrum.imag.square()
    cepstra = torch.fft.irfft(power.clamp_min(1e-10).log().T / 2)  # (T, n_fft)
    cepstra[:, _ENVELOPE_CEPSTRA : cepstra.shape[1] - _ENVELOPE_CEPSTRA + 1] = 0
    envelope = torch.fft.rfft(cepstra).real.T  # (bins, T)
    position = (torch.arange(n_bins) / factor).clamp_max(n_bins - 1)
    below = position.long().clamp_max(n_bins - 2)
    moved = torch.lerp(envelope[below], envelope[below + 1], (position - below)[:, None])
    gain = (moved - envelope).clamp(-_MOST_NEPERS, _MOST_NEPERS).exp()
    level = (power.sum() / (power * gain.square()).sum().clamp_min(1e-10)).sqrt()
    return spectrum * (gain * level)
