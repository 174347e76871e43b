"""Division of clips into training, validation and test parts, without a group (artist, singer) on two sides.

Groups are ordered by a hash of their name and a seed: a division is the same on every machine, and does not depend on
the order of a folder's listing.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial

from hourglass_sep.data.clips import Clip, Split
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import DataError, SettingError

DEFAULT_SHARE = 0.1
"""Share of the groups in a validation or test part that is neither set nor part of the data set."""

PARTS = ("train", "validation", "test")

_ARTIST = re.compile(r"(?:\d+ - )?(.+?) - .*")


def same(name: str) -> str:
    """A name in Unicode's normal form C: macOS lists files in another form than other systems."""
    return unicodedata.normalize("NFC", name)


def artist(track: str) -> str:
    """The artist in MUSDB's ``ARTIST - TITLE`` or DSD100's ``NUMBER - ARTIST - TITLE``; else the whole name."""
    found = _ARTIST.fullmatch(track)
    return found[1] if found else track


def group_rule(group: str) -> Callable[[str], str]:
    """The function from a track's name to its group.

    Args:
        group: ``artist``, see `artist`; ``track``, where each track is a group of its own; or a regular expression
            that is searched for in the track's name, whose first group, or else match, is the group.

    Raises:
        SettingError: it is no regular expression.
    """
    if group in ("artist", "track"):
        return artist if group == "artist" else str
    try:
        pattern = re.compile(group)
    except (re.error, TypeError) as error:
        raise SettingError(
            f"data.group={group!r} is not allowed: give artist, track or a regular expression"
        ) from error
    return partial(_matched, pattern)


def _matched(pattern: re.Pattern[str], track: str) -> str:
    match = pattern.search(track)
    name = match and (match[1] if pattern.groups else match[0])
    if not name:
        raise DataError(f"data.group={pattern.pattern!r} matches nothing in the name of track {track}: change it")
    return name


@dataclass(frozen=True)
class Division:
    """A rule that divides clips by group.

    Args:
        validation: the validation part: a share of the groups, or a list of groups or tracks. If None, what the data
            set itself has, else `DEFAULT_SHARE`. With 0 there is none, and the data set's own trains.
        test: the test part, likewise; a data set's own one cannot be changed.
        fold: number of the fold, from 1, that is the validation part in k-fold cross-validation.
        folds: number of folds k. Each group that is not in the test part validates in exactly one.
        seed: seed of the shares and folds.

    Raises:
        SettingError: a share is not from 0 to below 1, or a setting excludes another.
    """

    validation: float | Sequence[str] | None = None
    test: float | Sequence[str] | None = None
    fold: int | None = None
    folds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("validation", "test"):
            value = getattr(self, key)
            listed = isinstance(value, Sequence) and not isinstance(value, str)
            number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
            if not (value is None or number or (listed and all(isinstance(name, str) for name in value))):
                raise SettingError(
                    f"data.{key}={value!r} is not allowed: give a share of the groups from 0 to below 1, or a list of "
                    "groups or tracks"
                )
        check_whole("data.split_seed", self.seed, least=0)
        if (self.fold is None) != (self.folds is None):
            raise SettingError(f"data.fold={self.fold} needs data.folds={self.folds}: set both, or neither")
        if self.folds is not None:
            check_whole("data.folds", self.folds, least=2)
            check_whole("data.fold", self.fold, most=self.folds)
            if self.validation is not None:
                raise SettingError(f"data.validation={self.validation!r} excludes data.fold: leave one of them out")

    @property
    def default(self) -> bool:
        """Whether the validation part is the data set's own."""
        return self.validation is None and self.folds is None

    def __call__(self, clips: Sequence[Clip], parts: Mapping[str, str] | None = None) -> Split:
        """Divide clips.

        Args:
            clips: all clips of a data set.
            parts: if the data set has parts of its own, the one of each clip from `PARTS`, by the clip's name.

        Returns:
            The parts, each sorted by name.

        Raises:
            SettingError: a listed name is not in the data set, or its own test part was to be replaced.
            DataError: there are too few tracks or groups, or a group is on both sides.
        """
        clips = sorted(clips, key=lambda clip: clip.name)
        if len(clips) == 1 and not (parts and "test" in parts.values()):
            raise DataError(f"{clips[0].name} is the only track of its set: add others, at least 2 can be divided")
        if parts:
            if self.test is not None:
                raise SettingError(
                    f"data.test={self.test!r} is not allowed, as the set has parts of its own: leave it out"
                )
            train, validation, test = ([clip for clip in clips if parts[clip.name] == part] for part in PARTS)
            if not self.default or (train and not validation):
                train, validation = self.validate(train + validation)
        else:
            listed = set() if self.validation is None else _listed("validation", self.validation, clips)
            test_names = _drawn("test", self.test, clips, clips, self.seed, listed)
            test = [clip for clip in clips if clip.name in test_names]
            train, validation = self.validate([clip for clip in clips if clip.name not in test_names], clips)
        refuse_overlaps({"train": train, "validation": validation, "test": test})
        return Split(train, validation, test)

    def validate(self, clips: Sequence[Clip], known: Sequence[Clip] | None = None) -> tuple[list[Clip], list[Clip]]:
        """Divide clips that are not for testing.

        Args:
            clips: the clips.
            known: all clips of the data set, of which shares are; ``clips`` if None.

        Returns:
            The clips for training and those for validation.

        Raises:
            SettingError: a listed name is not in the data set.
            DataError: there are too few groups, or a group is in both.
        """
        if self.folds is None or self.fold is None:
            held_out = _drawn("validation", self.validation, clips, known or clips, self.seed)
        else:
            groups = _ordered(clips, self.seed)
            if len(groups) < self.folds:
                raise DataError(
                    f"{len(groups)} groups (artists) cannot be divided into data.folds={self.folds}: lower it"
                )
            chosen = set(groups[self.fold - 1 :: self.folds])
            held_out = {clip.name for clip in clips if clip.group in chosen}
        train = [clip for clip in clips if clip.name not in held_out]
        validation = [clip for clip in clips if clip.name in held_out]
        if not train:
            raise DataError("no track is left to train on: lower data.validation or data.test")
        refuse_overlaps({"train": train, "validation": validation})
        return train, validation


def refuse_overlaps(parts: Mapping[str, Sequence[Clip]]) -> None:
    """Check that no group is in two parts.

    Raises:
        DataError: one is.
    """
    owners: dict[str, tuple[str, Clip]] = {}
    for part, clips in parts.items():
        for clip in clips:
            other, first = owners.setdefault(clip.group, (part, clip))
            if other != part:
                raise DataError(
                    f"the artist or group {clip.group} is on both sides, with {first.name} in {other} and {clip.name} "
                    f"in {part}: move all of its tracks to one side, or set data.group=track if they may be"
                )


def authors_split(train: Sequence[Clip], validation: Sequence[Clip], test: Sequence[Clip]) -> Split:
    """A split of a data set's authors, each part sorted by name.

    Each track of a group that they have in several parts becomes a group of its own.
    """
    parts = {
        part: sorted(clips, key=lambda clip: clip.name)
        for part, clips in zip(PARTS, (train, validation, test), strict=True)
    }
    where: dict[str, set[str]] = {}
    for part, clips in parts.items():
        for clip in clips:
            where.setdefault(clip.group, set()).add(part)
    return Split(
        **{
            part: [clip if len(where[clip.group]) == 1 else replace(clip, group=clip.name) for clip in clips]
            for part, clips in parts.items()
        }
    )


def suggestion(name: str, names: Collection[str]) -> str:
    """``(NAME?)`` with the closest of some names, preceded by a space, or nothing if none is close."""
    close = get_close_matches(name.casefold(), [each.casefold() for each in names], 1)
    return next((f" ({each}?)" for each in names if [each.casefold()] == close), "")


def _ordered(clips: Sequence[Clip], seed: int) -> list[str]:
    """The groups of clips in an order that depends on their names and a seed only."""
    groups = {clip.group for clip in clips}
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode(errors="surrogateescape")).digest())


def _listed(key: str, wanted: float | Sequence[str], clips: Sequence[Clip]) -> set[str]:
    """Names of the clips that a setting lists by their group or name; none if it is a share."""
    found: set[str] = set()
    for name in () if isinstance(wanted, int | float) else map(same, wanted):
        tracks = {clip.name for clip in clips if name in (clip.group, clip.name)}
        if not tracks:
            known = sorted({clip.group for clip in clips} | {clip.name for clip in clips})
            raise SettingError(
                f"data.{key} lists {name}, which is no track or artist to choose from{suggestion(name, known)}: "
                f"there are {some(known)}"
            )
        found |= tracks
    return found


def _drawn(
    key: str,
    wanted: float | Sequence[str] | None,
    clips: Sequence[Clip],
    known: Sequence[Clip],
    seed: int,
    reserved: Collection[str] = (),
) -> set[str]:
    """Names of the clips of a part: those listed, or a share of the groups of ``known``, without reserved clips'."""
    wanted = DEFAULT_SHARE if wanted is None else wanted
    if not isinstance(wanted, int | float):
        return _listed(key, wanted, clips)
    n_groups = len({clip.group for clip in known})
    count = math.floor(wanted * n_groups + 0.5)
    if wanted and not count:
        if n_groups < 3:
            own = ", or data.group=track" if len(known) > n_groups else ""
            raise DataError(
                f"a share of {wanted:g} of {n_groups} group(s) (artists) for {key} is none: set data.{key} to 0 or to "
                f"a list of tracks{own}"
            )
        count = 1
    apart = {clip.group for clip in clips if clip.name in reserved}
    chosen = set([group for group in _ordered(clips, seed) if group not in apart][:count])
    return {clip.name for clip in clips if clip.group in chosen}


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names, followed by the number of further names, for messages."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
