"""Synthetic songs of voice and band, generated from a seed: a substitute for MIR-1K in tests and the demonstration.

`voice` and `band` use the same key, so that their harmonics overlap as they do in real songs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.data.synthetic.band import Style, play
from hourglass_sep.data.synthetic.sets import Maker, SyntheticSet
from hourglass_sep.data.synthetic.voice import Singer, draw_melody, sing
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.support.errors import SettingError

VERSION = 1
"""Version of the songs in the manifest. Raise it when a seed gives other songs, so that sets on disk are replaced."""

LOWEST_RATE_HZ = 8000

PEAK = 0.9
"""Largest absolute sample value over the sources of a song and their sum."""

NOISE_FLOOR = 10 ** (-60 / 20)
"""RMS of the noise in a source relative to the source; real recordings have noise in rests."""


def synthesize_song(
    seed: int | Sequence[int],
    seconds: float,
    sample_rate_hz: int = 16000,
    singer: Singer | None = None,
    style: Style | None = None,
) -> Tensor:
    """Synthesise one clip of a song, with voice and band at equal energy.

    Args:
        seed: seed of all random draws; equal arguments give identical samples.
        seconds: length in s, at least 1.
        sample_rate_hz: sample rate in Hz, 8000 or more; the notes do not depend on it.
        singer: the singer; drawn from the seed if not given.
        style: the song; drawn from the seed if not given.

    Returns:
        The sources (S=2, N) in the order of `SOURCES`, float32. Their energies are equal, and neither they nor
        the mixture exceed `PEAK` (0.9).

    Raises:
        ValueError: the clip is too short or the rate too low.
    """
    check_form(seconds, sample_rate_hz)
    rng = np.random.default_rng(seed)
    singer, style = singer or Singer.draw(rng), style or Style.draw(rng)
    score_rng, voice_rng, band_rng, noise_rng = rng.spawn(4)  # independent: a part may draw more numbers
    syllables = draw_melody(score_rng, singer, style, seconds)
    n_samples = round(seconds * sample_rate_hz)
    parts = {
        "accompaniment": play(band_rng, style, n_samples, sample_rate_hz),
        "vocals": sing(voice_rng, singer, syllables, n_samples, sample_rate_hz),
    }
    sources = np.stack([parts[name] for name in SOURCES])
    sources -= sources.mean(axis=1, keepdims=True)
    sources /= np.sqrt(np.mean(sources**2, axis=1, keepdims=True))
    sources += NOISE_FLOOR * noise_rng.standard_normal(sources.shape)
    sources *= PEAK / max(np.abs(sources).max(), np.abs(sources.sum(axis=0)).max())
    return torch.from_numpy(sources.astype(np.float32))


def check_form(seconds: float, sample_rate_hz: int) -> None:
    """Check the length in s and the sample rate in Hz of a song.

    Raises:
        SettingError: less than 1 s, or less than `LOWEST_RATE_HZ`.
    """
    if not seconds >= 1.0:
        raise SettingError(f"seconds={seconds!r} is not allowed: give 1 or more")
    if sample_rate_hz < LOWEST_RATE_HZ:
        raise SettingError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: give {LOWEST_RATE_HZ} or more")


def write_synthetic_mir1k(
    root: str | Path, songs: Mapping[str, int], clips_per_song: int, seconds: tuple[float, float], seed: int
) -> list[Path]:
    """Write a set of synthetic songs in MIR-1K's format.

    The files are ``root/Wavfile/SINGER_SONG_CLIP.wav``, 16 kHz, 16 bit, accompaniment left, voice right.

    For existing sets and other processes see `SyntheticSet.write`.

    Args:
        root: the folder to write; its manifest, ``synthetic.json``, holds the arguments that the set was made with.
        songs: number of songs by singer's name.
        clips_per_song: number of clips of each song.
        seconds: shortest and longest length of a clip in s.
        seed: seed of the set; a clip is determined by it, the singer's name and the numbers of song and clip.

    Returns:
        The paths of the clips, in order of singer, song and clip.

    Raises:
        DataError: see `SyntheticSet.write`.
        FileError: the folder cannot be written.
    """
    root = Path(root)
    made_from = {
        "version": VERSION,
        "songs": dict(songs),
        "clips_per_song": clips_per_song,
        "seconds": list(seconds),
        "seed": seed,
    }

    plan: dict[tuple[Path, ...], Maker] = {
        (root / "Wavfile" / f"{singer}_{song}_{clip:02d}.wav",): partial(_make, seed, singer, song, clip, seconds)
        for singer, n_songs in songs.items()
        for song in range(1, n_songs + 1)
        for clip in range(1, clips_per_song + 1)
    }
    SyntheticSet(root, "synthetic", json.dumps(made_from), ("Wavfile/*.wav",), plan, SAMPLE_RATE_HZ).write()
    return [path for (path,) in plan]


def _make(seed: int, name: str, song: int, clip: int, seconds: tuple[float, float]) -> list[Tensor]:
    """The sources (S=2, N) of a clip, as the only element; see `write_synthetic_mir1k` for the arguments."""
    root_seed = (seed, zlib.crc32(name.encode()))
    singer = Singer.draw(np.random.default_rng(root_seed))
    style = Style.draw(np.random.default_rng((*root_seed, song)))
    length = np.random.default_rng((*root_seed, song, clip, 0)).uniform(*seconds)
    return [synthesize_song((*root_seed, song, clip, 1), length, SAMPLE_RATE_HZ, singer, style)]
