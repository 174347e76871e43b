"""The synthetic singer: harmonics shaped by moving formants, with glides, vibrato, consonants and rests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hourglass_sep.data.synthetic.band import FloatArray, Style, hertz

_FRAMES_PER_SECOND = 250

# (vowels, 2, formants): frequencies in Hz for a male voice (multiplied by Singer.formant_scale), and levels in dB
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
_BANDWIDTHS_HZ = (80.0, 100.0, 140.0, 190.0, 260.0)


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


@dataclass(frozen=True)
class Singer:
    """Properties that all songs of one singer share.

    Attributes:
        centre_midi: middle of the pitch range as a MIDI note number.
        formant_scale: factor on the formant frequencies; 1 is a male voice, larger is a shorter vocal tract.
        vibrato_hz: rate of the vibrato in Hz.
        vibrato_cents: depth of the vibrato in cents, reached 0.4 s after the onset of a vowel.
        breath_db: level of the breath noise in dB relative to the voiced sound.
        tilt: exponent of the decrease of amplitudes above 500 Hz; larger is duller.
    """

    centre_midi: float
    formant_scale: float
    vibrato_hz: float
    vibrato_cents: float
    breath_db: float
    tilt: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Singer:
        """Draw a random singer."""
        centre = rng.uniform(50, 69)
        return cls(
            centre_midi=centre,
            formant_scale=1.0 + 0.01 * (centre - 52) + rng.uniform(-0.04, 0.04),
            vibrato_hz=rng.uniform(4.8, 6.6),
            vibrato_cents=rng.uniform(15, 70),
            breath_db=rng.uniform(-38, -26),
            tilt=rng.uniform(0.0, 0.5),
        )


class Syllable(NamedTuple):
    """A sung syllable.

    Attributes:
        start_seconds: start in s, with the consonant.
        seconds: length in s.
        midi: pitch as a MIDI note number.
        vowel: index into ``_VOWELS``.
        consonant: index into ``_CONSONANTS``, or their number for no consonant.
    """

    start_seconds: float
    seconds: float
    midi: int
    vowel: int
    consonant: int


def draw_melody(rng: np.random.Generator, singer: Singer, style: Style, seconds: float) -> list[Syllable]:
    """Draw ``seconds`` or more of phrases of syllables, on notes of the song's key, with rests between phrases."""
    step = 60 / style.tempo_bpm / 4
    notes = [midi for midi in map(style.midi, range(-7, 28)) if abs(midi - singer.centre_midi) < 9]
    place = len(notes) // 2
    syllables: list[Syllable] = []
    time = rng.uniform(0.0, 0.3)
    while time < seconds:
        for _ in range(rng.integers(4, 10)):
            length = step * rng.choice([1, 2, 2, 3, 4, 6])
            place = int(np.clip(place + rng.integers(-2, 3), 0, len(notes) - 1))
            consonant = int(rng.integers(len(_CONSONANTS) + 1))
            syllables.append(Syllable(time, length, notes[place], int(rng.integers(len(_VOWELS))), consonant))
            time += length
        time += rng.uniform(0.25, 0.8)
    return syllables


def sing(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], n_samples: int, rate: int) -> FloatArray:
    """Synthesise the voice: harmonics with the amplitudes of the moving formants, breath noise and noise consonants.

    Args:
        rng: random number generator.
        singer: the singer.
        syllables: the melody, at least one syllable.
        n_samples: length N.
        rate: sample rate in Hz.

    Returns:
        The waveform (N,).
    """
    n_frames = int(n_samples / rate * _FRAMES_PER_SECOND) + 2
    time = np.arange(n_frames) / _FRAMES_PER_SECOND
    midi = np.full(n_frames, float(syllables[0].midi))
    level = np.zeros(n_frames)
    formants = np.repeat(_VOWELS[syllables[0].vowel][None], n_frames, axis=0)  # (frames, 2, formants)
    noise = np.zeros(n_samples)
    for syllable in syllables:
        consonant = _CONSONANTS[syllable.consonant] if syllable.consonant < len(_CONSONANTS) else None
        onset = syllable.start_seconds
        if consonant is not None:
            onset += min(consonant.closure_seconds + consonant.noise_seconds, 0.5 * syllable.seconds)
            _add_burst(rng, noise, consonant, syllable.start_seconds, rate)
        end = syllable.start_seconds + syllable.seconds
        inside = (time >= onset) & (time < end)
        since = time[inside] - onset
        vibrato = (
            singer.vibrato_cents / 100 * np.clip(since / 0.4, 0, 1) * np.sin(2 * np.pi * singer.vibrato_hz * since)
        )
        midi[time >= syllable.start_seconds] = syllable.midi
        midi[inside] = syllable.midi + vibrato
        level[inside] = np.clip(since / 0.03, 0, 1) * np.clip((end - time[inside]) / 0.04, 0, 1) * rng.uniform(0.6, 1.0)
        formants[time >= onset] = _VOWELS[syllable.vowel]
    midi = _smooth(midi, 0.06) + 0.08 * _smooth(rng.standard_normal(n_frames) * 5, 0.05)
    formants = np.stack([_smooth(column, 0.05) for column in formants.reshape(n_frames, -1).T], -1).reshape(
        formants.shape
    )
    voiced = _harmonics(singer, hertz(0) * 2 ** (midi / 12), level, formants, n_samples, rate)
    sample_times = np.arange(n_samples) / rate
    breath = 10 ** (singer.breath_db / 20) * rng.standard_normal(n_samples) * np.interp(sample_times, time, level)
    return voiced / max(np.sqrt(np.mean(voiced**2)), 1e-9) + breath + 0.5 * noise


def _harmonics(
    singer: Singer, pitch_hz: FloatArray, level: FloatArray, formants: FloatArray, n_samples: int, rate: int
) -> FloatArray:
    """Sum (N,) of harmonics up to 10 kHz; pitch_hz and level are (frames,), formants (frames, 2, formants)."""
    frame_times = np.arange(pitch_hz.size) / _FRAMES_PER_SECOND
    times = np.arange(n_samples) / rate
    pitch = np.interp(times, frame_times, pitch_hz)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    limit_hz = min(0.47 * rate, 10000.0)
    out = np.zeros(n_samples)
    for k in range(1, int(limit_hz / pitch_hz.min()) + 1):
        frequency = k * pitch_hz  # (frames,)
        amplitude = _envelope(singer, frequency, formants) * level * (frequency < limit_hz)
        if amplitude.max() > 1e-5:
            out += np.interp(times, frame_times, amplitude) * np.sin(k * phase)
    return out


def _envelope(singer: Singer, frequency_hz: FloatArray, formants: FloatArray) -> FloatArray:
    """Gain (frames,) of the voice at one frequency per frame: a resonance for each formant, and a spectral tilt."""
    gain = np.zeros_like(frequency_hz)
    for k, bandwidth_hz in enumerate(_BANDWIDTHS_HZ):
        centre_hz = formants[:, 0, k] * singer.formant_scale
        detune = (frequency_hz - centre_hz) / bandwidth_hz
        gain += 10 ** (formants[:, 1, k] / 20) / np.sqrt(1 + detune**2)
    return gain * np.maximum(frequency_hz / 500, 1.0) ** -singer.tilt


def _add_burst(rng: np.random.Generator, out: FloatArray, consonant: _Consonant, seconds: float, rate: int) -> None:
    """Add the noise of a consonant that starts at ``seconds``, band-limited around its centre frequency, in place."""
    start = int((seconds + consonant.closure_seconds) * rate)
    length = min(int(consonant.noise_seconds * rate), out.size - start)
    if length < 8:
        return
    spectrum = np.fft.rfft(rng.standard_normal(length))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(length, 1 / rate), 20.0) / consonant.centre_hz)
    burst = np.fft.irfft(spectrum * np.exp(-((octaves / consonant.octaves) ** 2)), length)
    burst /= max(np.sqrt(np.mean(burst**2)), 1e-9)
    out[start : start + length] += 10 ** ((consonant.noise_db - 6) / 20) * burst * np.hanning(length)


def _smooth(values: FloatArray, seconds: float) -> FloatArray:
    """Moving average of values (frames,) with a Hann window of ``seconds``."""
    window = np.hanning(max(int(seconds * _FRAMES_PER_SECOND), 1) + 2)
    padded = np.pad(values, window.size // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), "same")[window.size // 2 : window.size // 2 + values.size]
