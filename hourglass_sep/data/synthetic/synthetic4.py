"""Sets of four-stem synthetic songs in MUSDB18-HQ's layout, and the catalogue of such a set."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hourglass_sep.data.clips import Clip, Part, Split
from hourglass_sep.data.synthetic.band import Style
from hourglass_sep.data.synthetic.sets import Maker, SyntheticSet
from hourglass_sep.data.synthetic.stereo import STEMS, VERSION, synthesize_stems
from hourglass_sep.data.synthetic.synthesis import LOWEST_RATE_HZ
from hourglass_sep.data.synthetic.voice import Singer
from hourglass_sep.dsp.stems import MIXTURE, read_sources
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import DataError, SettingError
from hourglass_sep.support.paths import at_home

TRAIN = {"Larks": 4, "Nightferry": 4, "Oakhill": 4, "Tidewater": 2}
"""Default artists of the training folder, with their numbers of tracks."""

VALIDATION = ("Tidewater",)
"""Artists of `TRAIN` that are for validation."""

TEST = {"Coldharbour": 1, "Lanterns": 1}
"""Default artists of the test folder, with their numbers of tracks."""

ACCOMPANIMENT = "accompaniment=drums+bass+other"
"""What the source ``accompaniment`` stands for."""

_FILES = (MIXTURE, *sorted(STEMS))
_ARTIST = re.compile(r"[^\W_]([\w '&.()+-]{0,62}[\w)])?")
_MOST_TRACKS = 1000
_LONGEST_SECONDS = 600.0
_HIGHEST_RATE_HZ = 192000
_STEP = 1 << 15  # steps of 16 bit at full scale


def write_synthetic4(
    root: str | Path,
    train: Mapping[str, int],
    test: Mapping[str, int],
    seconds: tuple[float, float],
    seed: int,
    sample_rate_hz: int = 44100,
) -> list[Path]:
    """Write a set of synthetic songs in MUSDB18-HQ's layout.

    The files are ``root/{train,test}/ARTIST - TITLE/{mixture,drums,bass,other,vocals}.wav``, stereo, 16 bit; each
    mixture is exactly the sum of its stems. All songs of an artist have one singer.

    For existing sets and other processes see `SyntheticSet.write`.

    Args:
        root: the folder to write; its manifest, ``synthetic4.json``, holds the arguments that the set was made with.
        train: number of tracks in ``train`` by artist.
        test: number of tracks in ``test`` by artist.
        seconds: shortest and longest length of a track in s.
        seed: seed of the set; a track is determined by it, the artist's name and the track's number.
        sample_rate_hz: sample rate in Hz.

    Returns:
        The folders of the tracks, ``train`` first, in order of artist and number.

    Raises:
        SettingError: an argument is invalid, or an artist is on both sides.
        DataError: see `SyntheticSet.write`.
        FileError: the folder cannot be written.
    """
    root = at_home(root)
    shortest, longest = _check(train, test, seconds, seed, sample_rate_hz)
    sides = {"train": dict(sorted(train.items())), "test": dict(sorted(test.items()))}
    made_from = {
        "version": VERSION,
        **sides,
        "seconds": [shortest, longest],
        "seed": seed,
        "sample_rate_hz": sample_rate_hz,
    }
    plan: dict[tuple[Path, ...], Maker] = {}
    for side, artists in sides.items():
        for artist, number in _tracks(artists):
            folder = root / side / _name(artist, number)
            paths = tuple(folder / f"{name}.wav" for name in _FILES)
            plan[paths] = partial(_make, seed, artist, number, shortest, longest, sample_rate_hz)
    patterns = tuple(f"{side}/*/{name}.wav" for side in sides for name in _FILES)
    SyntheticSet(root, "synthetic4", json.dumps(made_from), patterns, plan, sample_rate_hz).write()
    return [paths[0].parent for paths in plan]


class Synthetic4:
    """Catalogue of four-stem synthetic songs, written to ``root`` before their first use.

    Args:
        root: the folder to write, see `write_synthetic4`.
        train: number of tracks by artist, for training and validation.
        test: number of tracks by artist, for testing.
        validation: the artists of ``train`` whose tracks are for validation.
        seconds: shortest and longest length of a track in s.
        data_seed: seed of the songs.
        sources: the sources, each a stem or a sum of stems, see `read_sources`; ``accompaniment`` is the sum of
            drums, bass and other.

    Raises:
        SettingError: an argument is invalid.
    """

    licence = "synthetic songs, no recordings: no restrictions"

    def __init__(
        self,
        root: str | Path,
        train: Mapping[str, int] = TRAIN,
        test: Mapping[str, int] = TEST,
        validation: Sequence[str] = VALIDATION,
        seconds: tuple[float, float] = (6.0, 10.0),
        data_seed: int = 0,
        sources: Sequence[str] = tuple(STEMS),
    ) -> None:
        self.root = at_home(root)
        self.seconds = _check(train, test, seconds, data_seed)
        self.train, self.test, self.data_seed = dict(train), dict(test), data_seed
        if not _is_list(validation) or any(artist not in train for artist in validation):
            raise SettingError(
                f"data.validation={validation!r} is not allowed: give a list of artists of data.train "
                f"({', '.join(train)})"
            )
        self.validation = set(validation)
        if _is_list(sources):
            sources = [ACCOMPANIMENT if text == "accompaniment" else text for text in sources]
        self._stems = read_sources(sources, "data.sources")
        for source, stems in self._stems.items():
            for stem in stems:
                if stem not in STEMS:
                    raise SettingError(
                        f"data.sources has {stem} in {source}, which synthetic songs do not have: choose from "
                        f"{', '.join(STEMS)}, or a sum such as {ACCOMPANIMENT}"
                    )
        self.sources = tuple(self._stems)

    def prepare(self) -> None:
        """Write the songs unless they exist, see `write_synthetic4`."""
        write_synthetic4(self.root, self.train, self.test, self.seconds, self.data_seed)

    def split(self) -> Split:
        """The tracks by part; their names are ARTIST - TITLE.

        Raises:
            DataError: a track is missing.
        """
        known = [self._clip("train", *track) for track in _tracks(self.train)]
        return Split(
            train=[clip for clip in known if clip.group not in self.validation],
            validation=[clip for clip in known if clip.group in self.validation],
            test=[self._clip("test", *track) for track in _tracks(self.test)],
        )

    def _clip(self, side: str, artist: str, number: int) -> Clip:
        folder = self.root / side / _name(artist, number)
        missing = [name for name in _FILES if not (folder / f"{name}.wav").exists()]
        if missing:
            raise DataError(f"{folder} has no {missing[0]}.wav: call prepare(), which writes the synthetic songs")
        stems = {source: tuple(Part(folder / f"{stem}.wav") for stem in stems) for source, stems in self._stems.items()}
        return Clip(folder.name, artist, stems, Part(folder / f"{MIXTURE}.wav"))


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _tracks(artists: Mapping[str, int]) -> list[tuple[str, int]]:
    """Artist and number of each track, in order."""
    return [(artist, number) for artist in sorted(artists) for number in range(1, artists[artist] + 1)]


def _name(artist: str, number: int) -> str:
    return f"{artist} - Song {number:02d}"


def _make(seed: int, artist: str, number: int, shortest: float, longest: float, sample_rate_hz: int) -> list[Tensor]:
    """The mixture and the stems of a track, (2, N) each, in the order of ``_FILES``, rounded to 16 bit.

    Only stems that are rounded before they are added up give a mixture of 16 bit that is exactly their sum.
    """
    root_seed = (seed, zlib.crc32(artist.encode()))
    singer = Singer.draw(np.random.default_rng(root_seed))
    style = Style.draw(np.random.default_rng((*root_seed, number)))
    length = np.random.default_rng((*root_seed, number, 0)).uniform(shortest, longest)
    stems = synthesize_stems((*root_seed, number, 1), length, sample_rate_hz, singer, style)
    rounded = {name: torch.round(stems[name] * _STEP) / _STEP for name in STEMS}
    return [torch.stack(list(rounded.values())).sum(0), *(rounded[name] for name in _FILES[1:])]


def _check(
    train: Mapping[str, int],
    test: Mapping[str, int],
    seconds: tuple[float, float],
    seed: int,
    sample_rate_hz: int = 44100,
) -> tuple[float, float]:
    """Check the arguments of `write_synthetic4`; returns ``seconds`` as floats.

    Raises:
        SettingError: an argument is invalid, or an artist is on both sides.
    """
    for side, artists in (("train", train), ("test", test)):
        if not isinstance(artists, Mapping):
            raise SettingError(f"data.{side}={artists!r} is not allowed: give numbers of tracks by artist")
        for artist, n_tracks in artists.items():
            if not isinstance(artist, str) or not _ARTIST.fullmatch(artist) or " - " in artist:
                raise SettingError(
                    f"data.{side} has the artist {artist!r}, which cannot begin a folder's name: use letters and digits"
                )
            check_whole(f"data.{side}.{artist}", n_tracks, most=_MOST_TRACKS)
    both = sorted(train.keys() & test.keys())
    if both:
        raise SettingError(f"the artist {both[0]} is in data.train and in data.test: remove one of them")
    check_whole("data.data_seed", seed, least=0)
    check_whole("sample_rate_hz", sample_rate_hz, LOWEST_RATE_HZ, _HIGHEST_RATE_HZ)
    try:
        shortest, longest = map(float, seconds)
    except (TypeError, ValueError):
        shortest = longest = 0.0
    if not 1 <= shortest <= longest <= _LONGEST_SECONDS:
        raise SettingError(
            f"data.seconds={seconds!r} is not allowed: give the shortest and the longest length, from 1 to "
            f"{_LONGEST_SECONDS:g} s"
        )
    return shortest, longest
