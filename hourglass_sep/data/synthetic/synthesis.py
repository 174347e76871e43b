"""Synthetic songs of voice and band, generated from a seed: a substitute for MIR-1K in tests and the demonstration.

`voice` and `band` use the same key, so that their harmonics overlap as they do in real songs.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.data.synthetic.band import Style, play
from hourglass_sep.data.synthetic.voice import Singer, draw_melody, sing
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.support.errors import DataError, SettingError
from hourglass_sep.support.files import write_all, writing
from hourglass_sep.support.locks import lock, unlock
from hourglass_sep.support.terminal import complain

VERSION = 1
"""Version of the songs in the manifest. Raise it when a seed gives other songs, so that sets on disk are replaced."""

LOWEST_RATE_HZ = 8000

MANIFEST = "synthetic.json"
LOCK = "synthetic.lock"
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 2.0

PEAK = 0.9
"""Largest absolute sample value over the sources of a song and their sum."""

_NOISE_FLOOR = 10 ** (-60 / 20)  # RMS relative to the source; real recordings have noise in rests


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
    if not seconds >= 1.0:
        raise SettingError(f"seconds={seconds!r} is not allowed: give 1 or more")
    if sample_rate_hz < LOWEST_RATE_HZ:
        raise SettingError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: give {LOWEST_RATE_HZ} or more")
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
    sources += _NOISE_FLOOR * noise_rng.standard_normal(sources.shape)
    sources *= PEAK / max(np.abs(sources).max(), np.abs(sources.sum(axis=0)).max())
    return torch.from_numpy(sources.astype(np.float32))


def write_synthetic_mir1k(
    root: str | Path, songs: Mapping[str, int], clips_per_song: int, seconds: tuple[float, float], seed: int
) -> list[Path]:
    """Write a set of synthetic songs in MIR-1K's format.

    The files are ``root/Wavfile/SINGER_SONG_CLIP.wav``, 16 kHz, 16 bit, accompaniment left, voice right.

    An existing set made with equal arguments is kept, and completed if clips are missing. A set made with other
    arguments is replaced, unless another process uses it. Of several processes one writes the set while the others
    wait. This process counts as a user of the set until it calls `release` or ends.

    Args:
        root: the folder to write; its manifest, ``synthetic.json``, holds the arguments that the set was made with.
        songs: number of songs by singer's name.
        clips_per_song: number of clips of each song.
        seconds: shortest and longest length of a clip in s.
        seed: seed of the set; a clip is determined by it, the singer's name and the numbers of song and clip.

    Returns:
        The paths of the clips, in order of singer, song and clip.

    Raises:
        DataError: the folder holds clips that are not synthetic, or another process uses a set made with other
            arguments.
        FileError: the folder cannot be written.
    """
    root = Path(root)
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
    if _manifest(root) is None and any((root / "Wavfile").glob("*.wav")):
        raise DataError(f"{root} holds other clips: give data=synthetic a folder of its own with data.root")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)

    def whole() -> bool:
        return _manifest(root) == made_from and all(path.exists() for path in plan)

    if _may_make(root, whole):
        _make(root, made_from, plan, seconds, seed)
        lock(root / LOCK, shared=True)
    return list(plan)


def release(root: str | Path) -> None:
    """Release this process's lock on a set, so that another process may replace the set."""
    unlock(Path(root) / LOCK)


def _may_make(root: Path, whole: Callable[[], bool]) -> bool:
    """Wait until this process holds a shared lock on a complete set or an exclusive lock on the folder.

    Args:
        root: the folder of the set.
        whole: returns whether the folder holds the complete set.

    Returns:
        True if the lock is exclusive and the set has to be written; False if the set is complete.

    Raises:
        DataError: another process uses a set made with other arguments in this folder.
    """
    told, patience = False, _PATIENCE_SECONDS
    while True:
        shared = lock(root / LOCK, shared=True)
        if shared and whole():
            return False
        unlock(root / LOCK)  # avoids a deadlock: two sharing processes would each wait for the other
        if lock(root / LOCK):
            return not (whole() and lock(root / LOCK, shared=True))
        unlock(root / LOCK)
        if shared:  # no process writes a set, but one uses a set made with other arguments
            patience -= _POLL_SECONDS
        else:
            patience = _PATIENCE_SECONDS
            if not told:
                complain(f"{root}: waiting for another process that makes synthetic songs there")
            told = True
        if patience <= 0:
            raise DataError(
                f"{root} is in use by another process, with other settings of data=synthetic: choose another data.root"
            )
        time.sleep(_POLL_SECONDS)


def _make(
    root: Path,
    made_from: str,
    plan: Mapping[Path, tuple[str, int, int]],
    seconds: tuple[float, float],
    seed: int,
) -> None:
    """Write the missing clips.

    Clips of another manifest are deleted before the new manifest is written, so clips always match the manifest.

    Args:
        root: the folder of the set.
        made_from: content of the manifest.
        plan: singer's name, song number and clip number by path.
        seconds: shortest and longest length of a clip in s.
        seed: seed of the set.
    """
    if _manifest(root) != made_from:
        with writing(root / "Wavfile"):
            for path in (root / "Wavfile").glob("*.wav"):
                path.unlink()
        write_all(root, {MANIFEST: made_from.encode()})
    for path, (name, song, clip) in plan.items():
        if path.exists():
            continue
        root_seed = (seed, zlib.crc32(name.encode()))
        singer = Singer.draw(np.random.default_rng(root_seed))
        style = Style.draw(np.random.default_rng((*root_seed, song)))
        length = np.random.default_rng((*root_seed, song, clip, 0)).uniform(*seconds)
        sources = synthesize_song((*root_seed, song, clip, 1), length, SAMPLE_RATE_HZ, singer, style)
        audio.write(path, sources, SAMPLE_RATE_HZ)


def _manifest(root: Path) -> str | None:
    """Content of the manifest of the set in a folder; None if there is no manifest."""
    path = root / MANIFEST
    return path.read_text(errors="replace") if path.exists() else None
