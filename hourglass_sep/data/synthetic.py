"""Singing-like songs with a band, made from a seed: MIR-1K's stand-in for tests and for the demonstration.

`hourglass_sep.data.voice` sings and `hourglass_sep.data.band` plays in the same key, so that harmonics collide as they
do in real songs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.constants import SOURCES
from hourglass_sep.data.band import Style, play
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.data.voice import Singer, draw_melody, sing
from hourglass_sep.errors import DataError, SettingError

VERSION = 1
"""Part of the manifest; raise it when the same seed makes other songs, so that sets on disk are made again."""

LOWEST_RATE_HZ = 8000

PEAK = 0.9
"""Largest sample of a song's sources and of their sum."""

_NOISE_FLOOR = 10 ** (-60 / 20)  # of every recording: rests are quiet, not digital zero


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
        raise SettingError(f"seconds={seconds!r} is not allowed: give 1 or more")
    if sample_rate_hz < LOWEST_RATE_HZ:
        raise SettingError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: give {LOWEST_RATE_HZ} or more")
    rng = np.random.default_rng(seed)
    singer, style = singer or Singer.draw(rng), style or Style.draw(rng)
    score_rng, voice_rng, band_rng, noise_rng = rng.spawn(4)  # so that no part moves when another needs more numbers
    syllables = draw_melody(score_rng, singer, style, seconds)
    n_samples = round(seconds * sample_rate_hz)
    parts = {
        "accompaniment": play(band_rng, style, n_samples, sample_rate_hz),
        "vocals": sing(voice_rng, singer, syllables, n_samples, sample_rate_hz),
    }
    sources = np.stack([parts[name] for name in SOURCES])
    sources -= sources.mean(axis=1, keepdims=True)
    sources /= np.sqrt(np.mean(sources**2, axis=1, keepdims=True))
    sources += _NOISE_FLOOR * noise_rng.standard_normal(sources.shape)
    sources *= PEAK / max(np.abs(sources).max(), np.abs(sources.sum(axis=0)).max())
    return torch.from_numpy(sources.astype(np.float32))


def write_synthetic_mir1k(
    root: str | Path, songs: Mapping[str, int], clips_per_song: int, seconds: tuple[float, float], seed: int
) -> list[Path]:
    """Write ``root/Wavfile/SINGER_SONG_CLIP.wav``, 16 kHz, 16 bit, left accompaniment, right voice, as MIR-1K has it.

    A set that is there already, made with the same arguments, is left as it is; one that was cut short is completed;
    one that was made with others is replaced.

    Args:
        root: the folder to write; ``synthetic.json`` in it says what was made.
        songs: singer's name to number of songs.
        clips_per_song: clips of each song.
        seconds: shortest and longest clip.
        seed: with the singer's name, the song's and the clip's number, everything follows from it.

    Returns:
        The files, in order.

    Raises:
        DataError: the folder holds clips that are not synthetic.
    """
    root = Path(root)
    manifest = root / "synthetic.json"
    made_from = json.dumps(
        {
            "version": VERSION,
            "songs": dict(songs),
            "clips_per_song": clips_per_song,
            "seconds": list(seconds),
            "seed": seed,
        }
    )
    plan = {
        root / "Wavfile" / f"{singer}_{song}_{clip:02d}.wav": (singer, song, clip)
        for singer, n_songs in songs.items()
        for song in range(1, n_songs + 1)
        for clip in range(1, clips_per_song + 1)
    }
    made_before = manifest.read_text() if manifest.exists() else ""
    there = set((root / "Wavfile").glob("*.wav"))
    if there and not made_before:
        raise DataError(f"{root} holds other clips: give data=synthetic a folder of its own with data.root")
    if made_before != made_from:
        for path in there:
            path.unlink()
        root.mkdir(parents=True, exist_ok=True)
        manifest.write_text(made_from)
    for path, (name, song, clip) in plan.items():
        if path.exists():
            continue
        root_seed = (seed, zlib.crc32(name.encode()))
        singer = Singer.draw(np.random.default_rng(root_seed))
        style = Style.draw(np.random.default_rng((*root_seed, song)))
        length = np.random.default_rng((*root_seed, song, clip, 0)).uniform(*seconds)
        sources = synthesize_song((*root_seed, song, clip, 1), length, SAMPLE_RATE_HZ, singer, style)
        audio.write(path, sources, SAMPLE_RATE_HZ)
    return list(plan)
