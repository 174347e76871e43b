"""Files of stems by track, and clips made from them: what every data set of stems has in common.

Names of stems are compared without regard to case. Headers are not read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hourglass_sep import audio
from hourglass_sep.data.clips import Clip, Part
from hourglass_sep.data.splits import same, some, suggestion
from hourglass_sep.dsp.stems import MIXTURE, read_sources
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import DataError, SettingError

MISSING = ("refuse", "silence", "skip")
"""What becomes of a track without one of the stems."""

ACCOMPANIMENT = {"accompaniment": ("bass", "drums", "other")}
"""The sum that MUSDB's and DSD100's tools know by this name."""

STREAMS_SUFFIX = ".stem.mp4"
"""Suffix of files with all stems of a track as streams, as in MUSDB18; all others have one stem."""

PART_NAMES = {"train": "train", "valid": "validation", "validation": "validation", "val": "validation", "test": "test"}
"""Names of parts in folders and tables, to those in `hourglass_sep.data.splits.PARTS`."""


@dataclass(frozen=True)
class TrackFiles:
    """The files of a track.

    Attributes:
        name: name of the track, unique in its data set.
        stems: stem to file.
        mixture: file of the mixture, if there is one.
        part: ``train``, ``validation`` or ``test`` if the data set says so.
        group: artist or singer if the data set says so.
    """

    name: str
    stems: Mapping[str, Part]
    mixture: Part | None = None
    part: str | None = None
    group: str | None = None

    def find(self, stem: str) -> Part | None:
        """The file of a stem, in upper or lower case; None if there is none."""
        return next((part for name, part in self.stems.items() if name.casefold() == stem.casefold()), None)


def entries(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted by name, without hidden ones and macOS's archive leftovers.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read as a folder ({error.strerror}): set data.root to the data set"
        ) from error
    return [folder / name for name in sorted(names, key=same) if not name.startswith(".") and name != "__MACOSX"]


def sound_files(paths: Collection[Path]) -> list[Path]:
    """The files of stems among paths, by suffix."""
    return [
        path
        for path in paths
        if path.suffix.lower() in audio.SUFFIXES and not path.name.endswith(STREAMS_SUFFIX) and not path.is_dir()
    ]


def read_track(folder: Path, part: str | None = None) -> TrackFiles:
    """List the stems of one track, ``STEM.ext``; a file called mixture is the mixture.

    Raises:
        DataError: there are no stems, or there are two files for one.
    """
    found: dict[str, Path] = {}
    for path in sound_files(entries(folder)):
        twin = found.setdefault(same(path.stem).casefold(), path)
        if twin is not path:
            raise DataError(f"{same(folder.name)} has two files for one stem, {twin} and {path.name}: remove one")
    mixture = found.pop(MIXTURE, None)
    if not found:
        raise DataError(
            f"{same(folder.name)} has no stems: set data.root to the folder of TRACK/STEM.wav, or remove {folder}"
        )
    stems = {same(path.stem): Part(path) for path in found.values()}
    return TrackFiles(same(folder.name), stems, None if mixture is None else Part(mixture), part)


def stem_names(tracks: Sequence[TrackFiles]) -> list[str]:
    """The names of all stems, sorted; in lower case where tracks spell one differently."""
    spellings: dict[str, str] = {}
    for track in tracks:
        for stem in track.stems:
            key = stem.casefold()
            spellings[key] = stem if spellings.setdefault(key, stem) == stem else key
    return sorted(spellings.values())


def choose_sources(
    stems: Sequence[str], sources: Sequence[str] | None, known: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Find out which stems the sources of a data set are.

    Args:
        stems: names of the data set's stems.
        sources: names as `read_sources` has them; None for all stems, sorted.
        known: sums by name that need not be written out, used where there is no stem of that name.

    Returns:
        Source to the names of the stems that it is the sum of.

    Raises:
        SettingError: there is no such stem, or one occurs twice.
        DataError: with ``sources`` None, a stem's name cannot be a source's.
    """
    if sources is None:
        try:
            return read_sources(stems)
        except SettingError as error:
            raise DataError(
                f"the stems {some(stems)} cannot all be sources: set data.sources, or rename one ({error})"
            ) from error
    folded = {stem.casefold() for stem in stems}
    chosen = {
        source: tuple((known or {}).get(source, parts))
        if parts == (source,) and source.casefold() not in folded
        else parts
        for source, parts in read_sources(list(sources)).items()
    }
    asked: dict[str, str] = {}
    for source, parts in chosen.items():
        for stem in parts:
            if stem.casefold() not in folded:
                raise SettingError(
                    f"sources has {source}, but no track has a stem {stem}{suggestion(stem, stems)}: choose from "
                    f"{some(stems)}, or give a sum as NAME=STEM+STEM"
                )
            if stem.casefold() in asked:
                raise SettingError(
                    f"sources has the stem {stem} in {asked[stem.casefold()]} and in {source}: leave one out"
                )
            asked[stem.casefold()] = source
    return chosen


def unused(stems: Sequence[str], sources: Mapping[str, Sequence[str]]) -> list[str]:
    """The stems that are in none of the sources, see `choose_sources`: they are left out of mixtures that are sums."""
    used = {stem.casefold() for parts in sources.values() for stem in parts}
    return [stem for stem in stems if stem.casefold() not in used]


def make_clips(
    tracks: Sequence[TrackFiles],
    sources: Mapping[str, Sequence[str]],
    group_of: Callable[[str], str],
    missing: str = "refuse",
    remedy: str = "add it, or set data.missing=silence if it is silent, or data.missing=skip to leave such tracks out",
) -> list[Clip]:
    """Make the clips of a data set.

    Args:
        tracks: the tracks.
        sources: source to the names of its stems, see `choose_sources`.
        group_of: gives the group of a track that has none, by its name.
        missing: what becomes of a track without one of the stems, from `MISSING`.
        remedy: what to do about missing stems, for the message.

    Raises:
        DataError: stems are missing, or no track has any.
    """
    check_choice("data.missing", missing, MISSING)
    clips = []
    lacking: dict[str, list[TrackFiles]] = {}
    for track in tracks:
        found = {source: [(stem, track.find(stem)) for stem in stems] for source, stems in sources.items()}
        absent = [stem for parts in found.values() for stem, part in parts if part is None]
        for stem in absent:
            lacking.setdefault(stem, []).append(track)
        if absent and missing == "skip":
            continue
        stems = {source: tuple(part for _, part in parts if part is not None) for source, parts in found.items()}
        if not any(stems.values()):
            raise DataError(f"{track.name} has none of the stems of {', '.join(sources)}: remove it")
        files = [part for parts in stems.values() for part in parts]
        twice = [part for number, part in enumerate(files) if part in files[:number]]
        if twice:
            raise DataError(f"{track.name} has {twice[0].path} as two of its stems: give each its own file")
        group = group_of(track.name) if track.group is None else track.group
        clips.append(Clip(track.name, same(group), stems, track.mixture))
    if lacking and missing == "refuse":
        for stem, without in lacking.items():
            near = suggestion(stem, [name for name in lacking if name != stem])
            if near and 2 * len(without) > len(tracks):  # a misspelt name
                odd = next(track for track in tracks if track.find(stem) is not None)
                raise DataError(
                    f"{odd.name} has a stem {stem}, which {len(without)} of {len(tracks)} tracks do not{near}: rename "
                    "it there, or choose stems by sources=[...]"
                )
        stem, without = next(iter(lacking.items()))
        raise DataError(
            f"{without[0].name}{f' and {len(without) - 1} more' if without[1:] else ''} of {len(tracks)} tracks lack "
            f"the stem {stem}{suggestion(stem, list(without[0].stems))}: {remedy}"
        )
    if not clips:
        raise DataError(f"no track has all stems of {', '.join(sources)}: choose other sources")
    return clips
