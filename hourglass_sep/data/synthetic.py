"""Singing-like songs with a band, made from a seed: MIR-1K's stand-in for tests and for the demonstration.

The voice is a pulse train through moving formants, with glides, vibrato, consonants, breaths and rests; the band
plays chords, bass and drums in the same key, so that harmonics collide as they do in real songs.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.constants import SOURCES
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.errors import DataError

VERSION = 1
"""Part of the manifest; raise it when the same seed makes other songs, so that sets on disk are made again."""

FloatArray = NDArray[np.float64]

_FRAMES_PER_SECOND = 250
_PEAK = 0.9
_NOISE_FLOOR_DB = -60.0  # of the voice's recording: its rests are quiet, not digital zero
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 4, 3), (0, 2, 3, 4), (0, 5, 1, 4))
_STRUMS = ("x.x.x.x.x.x.x.x.", "x...x.x...x.x...", "x..x..x.x..x..x.", "x...x...x...x.x.", "x.......x.......")
_KICKS = ("x.......x.......", "x.....x.x.......", "x..x....x.x.....", "x...x...x...x...")
_SNARE = "....x.......x..."
_HATS = ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "..x...x...x...x.")
_BASSES = ("x.......x.......", "x...x...x...x...", "x.x.x.x.x.x.x.x.", "x.....x.x.....x.")

# Formants of a man in Hz (the singer's formant_scale moves them) and their levels in dB
_VOWELS = np.array(
    [
        [[730, 1150, 2600, 3400, 4300], [0, -5, -14, -17, -26]],
        [[530, 1800, 2550, 3450, 4300], [0, -10, -13, -16, -25]],
        [[310, 2200, 2900, 3500, 4400], [0, -16, -16, -18, -26]],
        [[480, 880, 2500, 3300, 4200], [0, -6, -19, -21, -30]],
        [[340, 800, 2350, 3250, 4200], [0, -11, -23, -24, -33]],
        [[500, 1450, 2450, 3350, 4250], [0, -8, -15, -18, -27]],
    ],
    dtype=np.float64,
)
_NASAL = np.array([[270, 1100, 2150, 3200, 4100], [0, -18, -22, -26, -34]], dtype=np.float64)
_BANDWIDTHS_HZ = (80.0, 100.0, 140.0, 190.0, 260.0)
_VOICE_BAR_HZ = 220.0  # the low end of the glottal flow, below the first formant


class _Consonant(NamedTuple):
    closure_seconds: float
    noise_seconds: float
    centre_hz: float
    octaves: float
    noise_db: float


_CONSONANTS = (
    _Consonant(0.01, 0.11, 6800, 0.5, 3),  # s
    _Consonant(0.01, 0.10, 3300, 0.6, 1),  # sh
    _Consonant(0.01, 0.07, 1700, 1.6, -14),  # h
    _Consonant(0.05, 0.03, 4500, 0.9, 6),  # t
    _Consonant(0.05, 0.035, 1900, 0.7, 4),  # k
    _Consonant(0.06, 0.02, 800, 1.0, 2),  # p
)
_NASAL_ONSET, _VOWEL_ONSET = len(_CONSONANTS), len(_CONSONANTS) + 1


@dataclass(frozen=True)
class Singer:
    """What all songs of one singer have in common.

    Attributes:
        centre_midi: middle of the pitch range, a MIDI note number.
        formant_scale: length of the vocal tract; 1 is a man's, larger is shorter.
        vibrato_hz: rate of the vibrato.
        vibrato_cents: its depth once it has grown.
        breath_db: level of the breath in the voice.
        tilt: exponent of the fall above 500 Hz; larger is duller.
    """

    centre_midi: float
    formant_scale: float
    vibrato_hz: float
    vibrato_cents: float
    breath_db: float
    tilt: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Singer:
        """Draw a singer."""
        centre = rng.uniform(50, 69)
        return cls(
            centre_midi=centre,
            formant_scale=1.0 + 0.01 * (centre - 52) + rng.uniform(-0.04, 0.04),
            vibrato_hz=rng.uniform(4.8, 6.6),
            vibrato_cents=rng.uniform(15, 70),
            breath_db=rng.uniform(-38, -26),
            tilt=rng.uniform(0.0, 0.5),
        )


@dataclass(frozen=True)
class Instrument:
    """A pitched instrument of the band.

    Attributes:
        partials: amplitudes of the harmonics.
        decay_per_second: damping of the first harmonic, the k-th has k times it; 0 is sustained.
        attack_seconds: length of the attack.
        vibrato_cents: depth of its vibrato.
    """

    partials: tuple[float, ...]
    decay_per_second: float
    attack_seconds: float
    vibrato_cents: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, sustained: bool, bright: float) -> Instrument:
        """Draw a timbre; ``bright`` is the exponent of the fall of the harmonics, larger is duller."""
        order = np.arange(1, 25)
        partials = order ** -(bright + rng.uniform(-0.2, 0.3)) * 10 ** (rng.normal(0, 4, order.size) / 20)
        partials[1::2] *= rng.uniform(0.2, 1.0)
        return cls(
            partials=tuple(partials.tolist()),
            decay_per_second=0.0 if sustained else rng.uniform(0.8, 2.0),
            attack_seconds=rng.uniform(0.03, 0.12) if sustained else rng.uniform(0.002, 0.008),
            vibrato_cents=rng.choice([0.0, 12.0, 25.0]) if sustained else 0.0,
        )

    def note(self, midi: float, seconds: float, rate: int) -> FloatArray:
        """One note, (N,), with a short release."""
        n_samples, frequency_hz = max(int(seconds * rate), 2), _hz(midi)
        time = np.arange(n_samples) / rate
        phase = 2 * np.pi * frequency_hz * time
        if self.vibrato_cents:
            swing_hz = frequency_hz * (2 ** (self.vibrato_cents / 1200) - 1)
            phase += swing_hz / 5.3 * np.sin(2 * np.pi * 5.3 * time)
        rotor = np.exp(1j * phase - self.decay_per_second * time)
        total = np.zeros_like(rotor)  # sum of partial_k * rotor^k, by Horner's rule
        for amplitude in self.partials[: max(int(0.48 * rate / frequency_hz), 1)][::-1]:
            total += amplitude
            total *= rotor
        edges = np.minimum(time / self.attack_seconds, (n_samples / rate - time) / 0.03)
        return total.imag * np.clip(edges, 0.0, 1.0)


@dataclass(frozen=True)
class Style:
    """What all clips of one song have in common.

    Attributes:
        tonic: pitch class of the key, 0 is C.
        scale: ``major`` or ``minor``.
        tempo_bpm: beats per minute, four to the bar.
        chords: scale degrees from 0, one a bar, repeated.
        patterns: strum, kick, snare, hi-hat and bass, sixteen steps a bar each.
        instruments: strummed, sustained, lead and bass.
        levels_db: of those four, then of kick, snare and hi-hat.
        room_seconds: reverberation time of the band's room.
    """

    tonic: int
    scale: str
    tempo_bpm: float
    chords: tuple[int, ...]
    patterns: tuple[str, str, str, str, str]
    instruments: tuple[Instrument, Instrument, Instrument, Instrument]
    levels_db: tuple[float, ...]
    room_seconds: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """Draw a song."""
        levels_db = np.array([0, -10, -6, 3, 8, 6, -6]) + rng.uniform(-3, 3, 7)
        return cls(
            tonic=int(rng.integers(12)),
            scale=str(rng.choice(list(_SCALES))),
            tempo_bpm=rng.uniform(72, 132),
            chords=_PROGRESSIONS[rng.integers(len(_PROGRESSIONS))],
            patterns=(_pick(rng, _STRUMS), _pick(rng, _KICKS), _SNARE, _pick(rng, _HATS), _pick(rng, _BASSES)),
            instruments=(
                Instrument.draw(rng, sustained=False, bright=1.0),
                Instrument.draw(rng, sustained=True, bright=1.2),
                Instrument.draw(rng, sustained=bool(rng.integers(2)), bright=1.2),
                Instrument.draw(rng, sustained=False, bright=1.5),
            ),
            levels_db=tuple(levels_db.tolist()),
            room_seconds=rng.uniform(0.2, 0.7),
        )

    def midi(self, degree: int) -> int:
        """MIDI note of a scale degree; degree 0 is the tonic of octave 3, 7 the one above."""
        return 48 + self.tonic + 12 * (degree // 7) + _SCALES[self.scale][degree % 7]


def synthesize_song(
    seed: int | Sequence[int],
    seconds: float,
    sample_rate_hz: int = 16000,
    singer: Singer | None = None,
    style: Style | None = None,
) -> Tensor:
    """Make one clip of a song, voice and band equally loud.

    Args:
        seed: everything follows from it: the same seed gives the same bytes.
        seconds: length, at least 1.
        sample_rate_hz: 8000 or more; the notes do not depend on it.
        singer: drawn from the seed if not given.
        style: the song; drawn from the seed if not given.

    Returns:
        The sources (S=2, N) in the order of `SOURCES`, float32. Their energies are equal, and neither they nor
        the mixture exceed 0.9.

    Raises:
        ValueError: the clip is too short or the rate too low.
    """
    if not seconds >= 1.0:
        raise ValueError(f"seconds={seconds!r} is not allowed: give 1 or more")
    if sample_rate_hz < 8000:
        raise ValueError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: give 8000 or more")
    rng = np.random.default_rng(seed)
    singer, style = singer or Singer.draw(rng), style or Style.draw(rng)
    score_rng, voice_rng, band_rng = rng.spawn(3)  # so that no part moves when another needs more numbers
    syllables = _draw_melody(score_rng, singer, style, seconds)
    n_samples = round(seconds * sample_rate_hz)
    parts = {
        "accompaniment": _play(band_rng, style, n_samples, sample_rate_hz),
        "vocals": _sing(voice_rng, singer, syllables, n_samples, sample_rate_hz),
    }
    sources = np.stack([parts[name] for name in SOURCES])
    sources -= sources.mean(axis=1, keepdims=True)
    sources /= np.sqrt(np.mean(sources**2, axis=1, keepdims=True))
    sources *= _PEAK / max(np.abs(sources).max(), np.abs(sources.sum(axis=0)).max())
    return torch.from_numpy(sources.astype(np.float32))
