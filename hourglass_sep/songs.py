"""Which songs to separate and which files come of it, settled before any work starts."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

from hourglass_sep import audio
from hourglass_sep.checks import check_choice, check_whole
from hourglass_sep.constants import CLIP_MODES, FILENAME, OTHER_METHODS, OUT, SOURCES
from hourglass_sep.errors import AudioError, SettingError, UserError

PICTURE = "picture"

_FIELDS = ("folder", "track", "trackext", "stem", "ext")


@dataclass(frozen=True)
class Output:
    """What is made of every song.

    Attributes:
        folder: all files are below it.
        filename: of a stem below that, with the fields {folder}, {track}, {trackext}, {stem} and {ext}.
        stems: the sources that are written.
        two_stems: this source, and under the name no_SOURCE the rest; instead of ``stems``.
        other_method: how the rest is made: ``add`` the other sources, ``minus`` takes the source from the mixture,
            ``none`` writes no rest.
        format: a key of `hourglass_sep.audio.FORMATS`.
        bit_depth: one of `hourglass_sep.audio.DEPTHS`; the song's by default.
        clip_mode: what becomes of samples beyond full scale: ``none`` leaves it to the format, ``rescale`` turns all
            stems of a song down by one gain, ``clamp`` cuts them off.
        start_seconds: where in the song to begin.
        duration_seconds: how much of it to separate.
        stream: which of several audio streams, from 1; the default one if None.
        picture: draw one, too.
        overwrite: replace files.
        skip_existing: leave out files that are there, and songs all of whose files are.
    """

    folder: Path = Path(OUT)
    filename: str = FILENAME
    stems: Sequence[str] = SOURCES[::-1]
    two_stems: str | None = None
    other_method: str = "add"
    format: str = "wav"
    bit_depth: str | None = None
    clip_mode: str = "none"
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    stream: int | None = None
    picture: bool = False
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        if not self.stems:
            raise SettingError(f"--stems is empty: choose from {', '.join(SOURCES)}")
        for stem in self.stems:
            check_choice("--stems", stem, SOURCES)
        if self.two_stems is not None:
            check_choice("--two-stems", self.two_stems, SOURCES)
        check_choice("--other-method", self.other_method, OTHER_METHODS)
        check_choice("--format", self.format, tuple(audio.FORMATS))
        check_choice("--clip-mode", self.clip_mode, CLIP_MODES)
        if not self.start_seconds >= 0 or self.start_seconds == float("inf"):
            raise SettingError(f"--start {self.start_seconds:g} is not allowed: give seconds from 0 on")
        if self.duration_seconds is not None and not 0 < self.duration_seconds < float("inf"):
            raise SettingError(f"--duration {self.duration_seconds:g} is not allowed: give seconds above 0")
        if self.stream is not None:
            check_whole("--stream", self.stream)
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.filename) if name is not None}
            wrong = fields - set(_FIELDS)
            if not wrong:
                self.filename.format(**dict.fromkeys(_FIELDS, "x"))
        except (ValueError, LookupError, AttributeError) as error:
            raise SettingError(f"--filename {self.filename!r} cannot be read ({error})") from error
        if wrong:
            names = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise SettingError(f"--filename has the field {{{min(wrong)}}}: choose from {names}")

    @property
    def names(self) -> list[str]:
        """The stems' names, in the order in which they are written."""
        if self.two_stems is None:
            return list(dict.fromkeys(self.stems))
        return [self.two_stems] + [f"no_{self.two_stems}"] * (self.other_method != "none")

    def path(self, song: Song, stem: str, suffix: str) -> Path:
        """Where a stem goes.

        Raises:
            SettingError: that is no name for a file.
        """
        extension = song.path.suffix.lstrip(".")
        folder = song.path.parent.name
        name = self.filename.format(folder=folder, track=song.track, trackext=extension, stem=stem, ext=suffix)
        other = Path(name).suffix.lower().lstrip(".")
        if other in audio.FORMATS and other != suffix:
            raise SettingError(f"--filename {self.filename!r} names {suffix} files .{other}: write {{ext}} instead")
        if not name or name.endswith(("/", os.sep)) or Path(name).name in ("", ".", ".."):
            raise SettingError(f"--filename {self.filename!r} gives {name!r}: give the name of a file")
        return self.folder / name


@dataclass(frozen=True)
class Song:
    """A song as it was found.

    Attributes:
        path: the file.
        track: its name for the stems' files; with the folders below the one that was searched.
        error: why there is none.
    """

    path: Path
    track: str
    error: str | None = None


@dataclass
class Job:
    """A song and what comes of it.

    Attributes:
        song: the song.
        info: its header; None if the file cannot be read.
        subtype: the sample format of its stems.
        stems: stem to file.
        picture: the picture's file.
        error: why it cannot be separated.
        skipped: whether all of its files are there.
    """

    song: Song
    info: audio.Info | None = None
    subtype: str = ""
    stems: dict[str, Path] = field(default_factory=dict)
    picture: Path | None = None
    error: str | None = None
    skipped: bool = False

    def leave_out(self, paths: Sequence[Path]) -> None:
        """Do not make these files."""
        self.stems = {name: path for name, path in self.stems.items() if path not in paths}
        self.picture = None if self.picture in paths else self.picture

    @property
    def outputs(self) -> list[Path]:
        """All files."""
        return list(self.stems.values()) + ([self.picture] if self.picture else [])


def find_songs(arguments: Iterable[str], recursive: bool, lines: Iterable[str], out: Path) -> list[Song]:
    """Songs by file, folder, pattern or list.

    Args:
        arguments: what the user named; ``-`` stands for the lines.
        recursive: search folders.
        lines: more files, folders or patterns, one a line.
        out: a folder that is not searched, as stems lie there.

    Raises:
        UserError: no songs at all, or a folder that is searched and written to.
    """
    found: dict[Path, Song] = {}
    for argument in arguments:
        listed = [line.rstrip("\r\n") for line in lines] if argument == "-" else [argument]
        for name in filter(None, listed):
            for song in _named(name, recursive, out):
                found.setdefault(_identity(song.path), song)
    if not found:
        raise UserError("no songs given: name sound files, or folders with -r")
    return list(found.values())


def _named(name: str, recursive: bool, out: Path) -> Iterator[Song]:
    path = Path(name)
    if not os.path.lexists(name) and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            yield Song(path, path.stem, f"nothing matches {name}: check the pattern")
        for match in matches:
            if recursive or not os.path.isdir(match):
                yield from _named(match, recursive, out)
    elif os.path.isdir(name):
        if not recursive:
            yield Song(path, path.stem, f"{name} is a folder: add -r to separate the songs in it")
            return
        if _identity(path) == _identity(out):
            raise UserError(f"{name} is searched for songs and would find its own stems: choose another -o")
        songs = list(_in_folder(path, out))
        if not songs:
            songs = [Song(path, path.stem, f"no sound files in {name}: give another folder, or files by name")]
        yield from songs
    else:
        yield Song(path, path.stem)


def _in_folder(folder: Path, out: Path) -> Iterator[Song]:
    stems = _identity(out)
    for place, folders, names in os.walk(folder):
        below = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in below if _identity(Path(place, name)) != stems]
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in audio.SUFFIXES and not name.startswith("."):
                yield Song(path, path.relative_to(folder).with_suffix("").as_posix())


def plan(songs: Sequence[Song], output: Output) -> list[Job]:
    """Look at every song and settle the names of its files.

    Returns:
        A job for each song, in their order. One that cannot be read has an error, and does not keep the others from
        being separated.

    Raises:
        UserError: a file would be replaced, written twice, or cannot hold what it should; nothing was written.
    """
    jobs = []
    for song in songs:
        job = Job(song, error=song.error)
        jobs.append(job)
        if job.error is not None:
            continue
        try:
            job.info = audio.info(song.path, output.stream)
        except AudioError as error:
            job.error = str(error)
            continue
        except Exception as error:  # of the decoders, by a file that nobody has thought of
            job.error = f"{song.path} cannot be opened ({type(error).__name__}: {error}): please report it"
            continue
        if Path(song.track).name in ("", ".", "..") or ".." in Path(song.track).parts:
            job.error = f"{song.path} gives its stems no name: rename it"
            continue
        job.subtype = audio.choose_subtype(song.path, job.info, output.format, output.bit_depth)
        job.stems = {name: output.path(song, name, output.format) for name in output.names}
        if output.picture:
            job.picture = output.path(song, PICTURE, "png")
    _refuse_collisions(jobs, output)
    return jobs


def _refuse_collisions(jobs: Sequence[Job], output: Output) -> None:
    inputs = {_identity(job.song.path): job.song.path for job in jobs}
    owners: dict[str, Job] = {}
    for job in jobs:
        for path in job.outputs:
            twin = owners.setdefault(os.path.abspath(path).casefold(), job)
            if twin is not job:
                raise UserError(
                    f"{twin.song.path} and {job.song.path} would both be written to {path}: {_way_out(twin, job)}"
                )
            for name in (path, path.with_name(path.name + ".part")):
                if _identity(name) in inputs:
                    raise AudioError(f"{inputs[_identity(name)]} would be overwritten by a stem: choose another -o")
        if len({os.path.abspath(path).casefold() for path in job.outputs}) < len(job.outputs):
            raise SettingError(f"--filename {output.filename!r} gives all stems one name: put {{stem}} into it")
        there = [path for path in job.outputs if os.path.lexists(path)]
        folders = [path for path in there if path.is_dir()]
        if folders:
            raise UserError(f"{folders[0]} is a folder: choose another -o")
        if output.skip_existing:
            job.skipped = len(there) == len(job.outputs)
            if not job.skipped:
                job.leave_out(there)
        elif there and not output.overwrite:
            rest = "" if len(there) < 2 else f" (and {len(there) - 1} more)"
            raise UserError(
                f"{there[0]}{rest} exists: add --overwrite to replace it, --skip-existing to leave out songs that are "
                "done, or choose another -o"
            )


def _way_out(one: Job, other: Job) -> str:
    """How two songs could get different names."""
    field = "{track}.{trackext}" if one.song.path.suffix != other.song.path.suffix else "{folder}/{track}"
    if one.song.path.suffix == other.song.path.suffix and one.song.path.parent.name == other.song.path.parent.name:
        return "separate them one by one, with other -o"
    return f'choose other names, with --filename "{field}/{{stem}}.{{ext}}" for one'


def _identity(path: Path) -> Path:
    return Path(os.path.realpath(path))
