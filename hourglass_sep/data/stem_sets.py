"""Data sets of a user's own: folders of stems, or a table of paths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from hourglass_sep.data.clips import Part, Split
from hourglass_sep.data.splits import Division, group_rule, same
from hourglass_sep.data.stem_table import read_table
from hourglass_sep.data.track_files import (
    MISSING,
    PART_NAMES,
    STREAMS_SUFFIX,
    TrackFiles,
    choose_sources,
    entries,
    make_clips,
    read_track,
    sound_files,
    stem_names,
    unused,
)
from hourglass_sep.dsp.stems import read_sources
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.paths import at_home


class StemFolders:
    """Tracks as folders of stems, ``TRACK/STEM.wav``, or as rows of a CSV file.

    ``root`` is one of:

    - a folder of ``TRACK/STEM.ext``, in any format that can be read (wav, flac, ogg, mp3, m4a, ...). A file called
      mixture is the mixture; without it the mixture is the sum of the sources;
    - a folder of ``train``, ``valid`` (or ``validation``) and ``test``, or some of them, with such folders in them;
    - a CSV file with a column ``track``, a column for each stem with paths relative to the CSV file, and if needed
      ``mixture``, ``group``, ``split`` (train, valid, test); see `read_table`;
    - with ``stem``, a folder of sound files (or ``train``, ``valid`` and ``test`` of such), each a track of its own.

    Nothing is read before `sources` or `split` are used.

    Args:
        root: the folder or CSV file.
        sources: names of stems, or sums ``accompaniment=drums+bass+other``, in the order of the S axis; all stems,
            sorted, if None. Where there is no stem of that name, ``accompaniment`` is the sum of all but ``vocals``.
        stem: name of the only stem, of solo recordings: ``vocals``.
        missing: what becomes of tracks without one of the stems: ``refuse`` them, take the stem as ``silence``, or
            ``skip`` them.
        group: ``artist``, ``track`` or a regular expression, see `group_rule`; if None, the CSV file's column, else
            ``artist``.
        validation: see `Division`.
        test: see `Division`.
        fold: see `Division`.
        folds: see `Division`.
        split_seed: seed of shares and folds.
        licence: what may be done with weights trained on the set, one line.

    Raises:
        SettingError: an argument is invalid.
    """

    def __init__(
        self,
        root: str | Path,
        sources: Sequence[str] | None = None,
        stem: str | None = None,
        missing: str = "refuse",
        group: str | None = None,
        validation: float | Sequence[str] | None = None,
        test: float | Sequence[str] | None = None,
        fold: int | None = None,
        folds: int | None = None,
        split_seed: int = 0,
        licence: str = "",
    ) -> None:
        check_choice("data.missing", missing, MISSING)
        for names in (sources, None if stem is None else [stem]):
            if names is not None:
                read_sources(names)
        self.root = at_home(root)
        self.licence = licence
        self._asked = None if sources is None else tuple(sources)
        self._stem = stem
        self._missing = missing
        self._group = group
        self._group_of = group_rule("artist" if group is None else group)
        self._division = Division(validation, test, fold, folds, split_seed)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the S axis."""
        return tuple(self._sources if self._asked is None else read_sources(self._asked))

    def prepare(self) -> None:
        """Do nothing: all files are there."""

    def split(self) -> Split:
        """The clips by part.

        Raises:
            UserError: see `Division` and `make_clips`.
        """
        return self._split

    @cached_property
    def _split(self) -> Split:
        clips = make_clips(self._tracks, self._sources, self._group_of, self._missing)
        return self._division(clips, {track.name: track.part for track in self._tracks if track.part is not None})

    @cached_property
    def _sources(self) -> dict[str, tuple[str, ...]]:
        rest = [stem for stem in stem_names(self._tracks) if stem.casefold() != "vocals"]
        return choose_sources(stem_names(self._tracks), self._asked, {"accompaniment": rest} if rest else None)

    @property
    def unused(self) -> list[str]:
        """Stems that are in no source."""
        return unused(stem_names(self._tracks), self._sources)

    @cached_property
    def _tracks(self) -> list[TrackFiles]:
        if self.root.is_file():
            return read_table(self.root, self._group is None)
        if not self.root.is_dir():
            raise DataError(f"there is no {self.root}: set data.root to a folder of TRACK/STEM.wav, or to a CSV file")
        below = entries(self.root)
        parts = {
            path: PART_NAMES[path.name.lower()]
            for path in below
            if path.name.lower() in PART_NAMES and self._holds(path)
        }
        if not parts:
            return self._read(self.root, None)
        for path in below:
            if path.is_dir() and path not in parts and sound_files(list(path.rglob("*"))):
                raise DataError(f"{path} lies beside {next(iter(parts)).name}: move its tracks into a part, or it away")
        tracks: dict[str, TrackFiles] = {}
        for folder, part in parts.items():
            for track in self._read(folder, part):
                twin = tracks.setdefault(track.name, track)
                if twin is not track:
                    raise DataError(f"{track.name} is in two parts of {self.root}: remove or rename one of them")
        return list(tracks.values())

    def _holds(self, path: Path) -> bool:
        """Whether a folder called as a part is one, and not a track of that name."""
        return path.is_dir() and bool(self._stem is not None or not sound_files(entries(path)))

    def _read(self, folder: Path, part: str | None) -> list[TrackFiles]:
        """The tracks in a folder."""
        below = entries(folder)
        loose = sound_files(below)
        if self._stem is None:
            tracks = [read_track(path, part) for path in below if path.is_dir()]
            if not tracks and loose:
                raise DataError(
                    f"{folder} has sound files, but no folders of tracks: give the folder of TRACK/STEM.wav, or "
                    "data.stem=NAME if each file is one track's only stem"
                )
        else:
            tracks = [TrackFiles(same(path.stem), {self._stem: Part(path)}, None, part) for path in loose]
            for one, other in pairwise(tracks):
                if one.name == other.name:
                    raise DataError(f"{one.name} is there twice, as {other.stems[self._stem].path}: remove one")
        if not tracks:
            wanted = "TRACK/STEM.wav" if self._stem is None else f"the {self._stem} of a track in each file"
            if any(path.name.endswith(STREAMS_SUFFIX) for path in below):
                raise DataError(f"{folder} has files *{STREAMS_SUFFIX}, as MUSDB18: use data=musdb18")
            raise DataError(f"there are no tracks in {folder}: put {wanted} there, or remove it")
        return tracks
