"""Synthetic songs as four stereo stems, as on a record: voice, drums, bass and the other instruments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hourglass_sep.data.synthetic.band import FloatArray, Style, play_apart, reverberation
from hourglass_sep.data.synthetic.synthesis import NOISE_FLOOR, PEAK, check_form
from hourglass_sep.data.synthetic.voice import Singer, draw_melody, sing
from hourglass_sep.dsp.stems import Stems

VERSION = 1
"""Version of the stems in manifests. Raise it when a seed gives other stems, so that sets on disk are replaced."""

STEMS = {
    "vocals": ("voice",),
    "drums": ("kick", "snare", "hat"),
    "bass": ("bass",),
    "other": ("strum", "pad", "lead"),
}
"""MUSDB's four stems, and who plays in each: the voice and `PLAYERS`."""

_WIDTH = {"voice": 0.1, "kick": 0.05, "snare": 0.3, "hat": 0.9, "bass": 0.05, "strum": 0.9, "pad": 0.7, "lead": 0.6}
"""Largest distance of a player from the centre; 1 is a loudspeaker."""

# Levels and widths are those of 42 excerpts of MUSDB18, within 3 dB but for the bass. Medians there: the mixture as the
# estimate of a stem scores -3.1, -7.6, -5.9 and -5.0 dB SDR; the side is 15, 14, 36 and 6 dB below the middle.
_LEVELS_DB = {"vocals": 1.5, "drums": -1.5, "bass": -1.0, "other": 0.0}
_SPREAD_DB = 2.5
_REVERBERATION = {"vocals": 1.0, "drums": 1.0, "bass": 0.1, "other": 1.0}  # gains


def synthesize_stems(
    seed: int | Sequence[int],
    seconds: float,
    sample_rate_hz: int = 44100,
    singer: Singer | None = None,
    style: Style | None = None,
) -> Stems:
    """Synthesise one song as four stereo stems: the notes of `synthesize_song` with equal arguments.

    Every player has a place between the loudspeakers, and the reverberations of the two channels are independent.

    Args:
        seed: seed of all random draws; equal arguments give identical samples.
        seconds: length in s, at least 1.
        sample_rate_hz: sample rate in Hz, 8000 or more; the notes do not depend on it.
        singer: the singer; drawn from the seed if not given.
        style: the song; drawn from the seed if not given.

    Returns:
        Waveforms (C=2, N) of `STEMS`, float32. Neither they nor their sum, the mixture, exceed `PEAK` (0.9).

    Raises:
        SettingError: the song is too short or the rate too low.
    """
    check_form(seconds, sample_rate_hz)
    rng = np.random.default_rng(seed)
    singer, style = singer or Singer.draw(rng), style or Style.draw(rng)
    score_rng, voice_rng, band_rng, noise_rng, desk_rng = rng.spawn(5)  # the first four as in `synthesize_song`
    syllables = draw_melody(score_rng, singer, style, seconds)
    n_samples = round(seconds * sample_rate_hz)
    lines = play_apart(band_rng, style, n_samples, sample_rate_hz)
    lines["voice"] = sing(voice_rng, singer, syllables, n_samples, sample_rate_hz)
    places = {player: width * desk_rng.choice([-1, 1]) * desk_rng.uniform(0.4, 1) for player, width in _WIDTH.items()}
    levels_db = {stem: level_db + _SPREAD_DB * desk_rng.uniform(-1, 1) for stem, level_db in _LEVELS_DB.items()}
    stems = np.empty((len(STEMS), 2, n_samples))
    for waveform, (stem, players) in zip(stems, STEMS.items(), strict=True):
        waveform[:] = sum(_pan(lines[player], places[player]) for player in players)
        send = waveform.mean(0)
        for channel in waveform:
            wet = reverberation(noise_rng, send, style.room_seconds, sample_rate_hz)
            channel += _REVERBERATION[stem] * wet
        waveform -= waveform.mean(1, keepdims=True)
        waveform /= max(np.sqrt(np.mean(waveform**2)), 1e-9)
        waveform += NOISE_FLOOR * noise_rng.standard_normal(waveform.shape)
        waveform *= 10 ** (levels_db[stem] / 20)
    stems *= PEAK / max(np.abs(stems).max(), np.abs(stems.sum(0)).max())
    return Stems(dict(zip(STEMS, torch.from_numpy(stems.astype(np.float32)), strict=True)), sample_rate_hz)


def _pan(line: FloatArray, place: float) -> FloatArray:
    """Waveforms (2, N) of a mono waveform (N,) at ``place``, from -1 (left) to 1 (right), at equal energy."""
    angle = (place + 1) * np.pi / 4
    return np.stack([np.cos(angle) * line, np.sin(angle) * line])
