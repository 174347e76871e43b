"""The synthetic band: chords, lead, bass and drums in the key and tempo of a song."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 4, 3), (0, 2, 3, 4), (0, 5, 1, 4))
_STRUMS = ("x.x.x.x.x.x.x.x.", "x...x.x...x.x...", "x..x..x.x..x..x.", "x...x...x...x.x.", "x.......x.......")
_KICKS = ("x.......x.......", "x.....x.x.......", "x..x....x.x.....", "x...x...x...x...")
_SNARE = "....x.......x..."
_HATS = ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "..x...x...x...x.")
_BASSES = ("x.......x.......", "x...x...x...x...", "x.x.x.x.x.x.x.x.", "x.....x.x.....x.")

PLAYERS = ("strum", "pad", "lead", "bass", "kick", "snare", "hat")
"""The band's instruments and drums, in the order of `Style.levels_db`."""


def hertz(midi: float) -> float:
    """Frequency in Hz of a MIDI note number; note 69 is 440 Hz."""
    return float(440.0 * 2 ** ((midi - 69) / 12))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True)
class Instrument:
    """A pitched instrument of the band.

    Attributes:
        partials: linear amplitudes of the harmonics, the fundamental first.
        decay_per_second: exponential damping of the first harmonic in 1/s; harmonic k is damped k times as fast.
            0 is a sustained tone.
        attack_seconds: length of the attack.
        vibrato_cents: depth of the vibrato in cents.
    """

    partials: tuple[float, ...]
    decay_per_second: float
    attack_seconds: float
    vibrato_cents: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, sustained: bool, bright: float) -> Instrument:
        """Draw a random timbre.

        Args:
            rng: random number generator.
            sustained: True for a sustained tone, False for a plucked one.
            bright: exponent of the decrease of the harmonics' amplitudes with their order; larger is duller.
        """
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
        """Waveform (N,) of one note of ``seconds`` at sample rate ``rate`` in Hz, with a short release at its end."""
        n_samples, frequency_hz = max(int(seconds * rate), 2), hertz(midi)
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
    """Properties that all clips of one song share.

    Attributes:
        tonic: pitch class of the key; 0 is C.
        scale: ``major`` or ``minor``.
        tempo_bpm: beats per minute; a bar has four beats.
        chords: roots of the chords as scale degrees from 0, one per bar, repeated.
        patterns: rhythms of strum, kick, snare, hi-hat and bass; each is one bar of sixteen steps, ``x`` is a hit.
        instruments: strummed, sustained, lead and bass instrument.
        levels_db: seven levels in dB: those four instruments, then kick, snare and hi-hat.
        room_seconds: reverberation time (to -60 dB) of the room in s.
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
        """Draw a random song."""
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
        """MIDI note number of a scale degree; degree 0 is the tonic in octave 3, degree 7 an octave above."""
        return 48 + self.tonic + 12 * (degree // 7) + _SCALES[self.scale][degree % 7]


class Note(NamedTuple):
    """A note of the band.

    Attributes:
        player: one of `PLAYERS`.
        waveform: its samples (N,).
        start_seconds: its start in s.
    """

    player: str
    waveform: FloatArray
    start_seconds: float


def notes(rng: np.random.Generator, style: Style, seconds: float, rate: int) -> Iterator[Note]:
    """Draw and synthesise the notes: strummed and sustained chords, an intermittent lead, bass and drums.

    Args:
        rng: random number generator for timing, dynamics, lead and noise.
        style: the song.
        seconds: length in s; the notes fill whole bars.
        rate: sample rate in Hz.

    Yields:
        The notes, bar by bar.
    """
    step = 60 / style.tempo_bpm / 4  # s per sixteenth note
    gains = 10 ** (np.array(style.levels_db) / 20)
    strums, kicks, snares, hats, basses = style.patterns
    drums = {"kick": _kick(rate), "snare": _snare(rng, rate), "hat": _hat(rng, rate)}
    tone = cache(lambda k, midi, seconds: style.instruments[k].note(midi, seconds, rate))  # chords come again
    bar_seconds = 16 * step
    for bar in range(int(seconds / bar_seconds) + 1):
        start = bar * bar_seconds
        root = style.chords[bar % len(style.chords)]
        chord = [style.midi(root + third) for third in (0, 2, 4)]
        for midi in chord:
            yield Note("pad", tone(1, midi, bar_seconds) * gains[1], start)
        for i in range(16):
            time = start + i * step + rng.normal(0, 0.004)
            if strums[i] == "x":
                for k, midi in enumerate(chord):
                    note = tone(0, midi + 12 * (k == 0), 2.5 * step)
                    yield Note("strum", note * gains[0] * rng.uniform(0.7, 1.0), time + 0.008 * k)
            if i % 4 == 0 and rng.random() < 0.4:  # the lead is in the pitch range of the voice
                midi = style.midi(root + int(rng.choice([0, 2, 4, 7]))) + 12
                yield Note("lead", tone(2, midi, 4 * step) * gains[2], time)
            if basses[i] == "x":
                yield Note("bass", tone(3, chord[0] - 12, 3 * step) * gains[3], time)
            for (drum, hit), pattern, gain in zip(drums.items(), (kicks, snares, hats), gains[4:], strict=True):
                if pattern[i] == "x":
                    yield Note(drum, hit * gain * rng.uniform(0.7, 1.0), time)


def play(rng: np.random.Generator, style: Style, n_samples: int, rate: int) -> FloatArray:
    """Synthesise the band in one mono room.

    Args:
        rng: random number generator.
        style: the song.
        n_samples: length N.
        rate: sample rate in Hz.

    Returns:
        The waveform (N,).
    """
    out = np.zeros(n_samples + rate)
    for note in notes(rng, style, n_samples / rate, rate):
        _add(out, note, rate)
    return (out + 0.4 * reverberation(rng, out, style.room_seconds, rate))[:n_samples]


def play_apart(rng: np.random.Generator, style: Style, n_samples: int, rate: int) -> dict[str, FloatArray]:
    """Synthesise the notes of `play` without reverberation: waveforms (N,) by player, for all of `PLAYERS`.

    Args:
        rng: random number generator.
        style: the song.
        n_samples: length N.
        rate: sample rate in Hz.
    """
    lines = {player: np.zeros(n_samples) for player in PLAYERS}
    for note in notes(rng, style, n_samples / rate, rate):
        _add(lines[note.player], note, rate)
    return lines


def _add(out: FloatArray, note: Note, rate: int) -> None:
    """Add a note to ``out`` (N,) in place; samples beyond the end of ``out`` are dropped."""
    start = max(int(note.start_seconds * rate), 0)
    length = max(min(note.waveform.size, out.size - start), 0)
    out[start : start + length] += note.waveform[:length]


def _kick(rate: int) -> FloatArray:
    time = np.arange(int(0.25 * rate)) / rate
    return np.sin(2 * np.pi * (50 * time + 90 / 30 * (1 - np.exp(-30 * time)))) * np.exp(-14 * time)


def _snare(rng: np.random.Generator, rate: int) -> FloatArray:
    time = np.arange(int(0.2 * rate)) / rate
    return 0.5 * rng.standard_normal(time.size) * np.exp(-22 * time) + 0.5 * np.sin(380 * np.pi * time) * np.exp(
        -30 * time
    )


def _hat(rng: np.random.Generator, rate: int) -> FloatArray:
    noise = np.diff(rng.standard_normal(int(0.08 * rate) + 2), 2)  # second difference: a high-pass filter
    return 0.3 * noise * np.exp(-60 * np.arange(noise.size) / rate)


def reverberation(rng: np.random.Generator, dry: FloatArray, room_seconds: float, rate: int) -> FloatArray:
    """Reverberation (N,) of ``dry`` (N,) without ``dry``: convolution with noise that decays by 60 dB in a time."""
    tail = rng.standard_normal(int(room_seconds * rate))
    tail *= 10 ** (-3 * np.arange(tail.size) / tail.size) / np.sqrt(tail.size)
    n_fft = 1 << (dry.size + tail.size - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(dry, n_fft) * np.fft.rfft(tail, n_fft), n_fft)[: dry.size]
