"""Which files come of songs, settled before any work starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter

from hourglass_sep import audio
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.songs.choices import CLIP_MODES, FILENAME, OTHER_METHODS, OUT
from hourglass_sep.songs.search import Song, identity
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import AudioError, FileError, SettingError, UserError
from hourglass_sep.support.files import part_of, refuse_long

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
        if "\0" in str(self.folder):
            raise SettingError(f"-o {str(self.folder)!r} holds a NUL, which no folder's name does: choose another")
        _check_filename(self.filename)

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
            AudioError: the song's name makes it one outside of the folder.
        """
        name = self.filename.format(**_fields(song), stem=stem, ext=suffix).lstrip("/" + os.sep)
        other = Path(name).suffix.lower().lstrip(".")
        if other in audio.FORMATS and other != suffix:
            raise SettingError(f"--filename {self.filename!r} names {suffix} files .{other}: write {{ext}} instead")
        if not name or name.endswith(("/", os.sep)) or Path(name).name in ("", "."):
            raise SettingError(f"--filename {self.filename!r} gives {name!r}: give the name of a file")
        if _leaves(name):
            raise AudioError(f"{song.path} gives its stems the name {name!r}, outside of -o: rename it")
        return self.folder / name


def _check_filename(text: str) -> None:
    """Look at a pattern for names.

    Raises:
        SettingError: not to be read, with a field that does not exist, or for files outside of the folder.
    """
    try:
        parts = list(Formatter().parse(text))
        for _, name, form, conversion in parts:
            if name in _FIELDS and (form or conversion):  # {track:>9999999999} would take all memory
                raise ValueError("fields take no format or conversion: {" + name + "} is all there is")
        if "\0" in text:
            raise ValueError("there is a NUL in it")
    except ValueError as error:
        raise SettingError(f"--filename {text!r} cannot be read ({error})") from error
    wrong = {name for _, name, _, _ in parts if name is not None} - set(_FIELDS)
    if wrong:
        names = ", ".join(f"{{{name}}}" for name in _FIELDS)
        raise SettingError(f"--filename has the field {{{min(wrong)}}}: choose from {names}")
    if _leaves(text.format(**dict.fromkeys(_FIELDS, "x"))):
        raise SettingError(f"--filename {text!r} leaves the folder for stems: say with -o where that is")


def _leaves(name: str) -> bool:
    """Whether a name could lead out of the folder that it is put behind."""
    path = Path(name)
    return bool(path.anchor) or ".." in path.parts


def _fields(song: Song) -> dict[str, str]:
    """What a song puts into the names of its stems."""
    folder = song.path.parent
    if folder.name in ("", ".."):  # a song of the current folder, or above
        folder = identity(folder)
    return {"folder": folder.name or "root", "track": song.track, "trackext": song.path.suffix.lstrip(".")}


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
        job.subtype = audio.choose_subtype(song.path, job.info, output.format, output.bit_depth)
        try:
            job.stems, job.picture = _names(song, output)
        except (AudioError, FileError) as error:
            job.error = str(error)
    _refuse_collisions(jobs, output)
    return jobs


def _names(song: Song, output: Output) -> tuple[dict[str, Path], Path | None]:
    """The files of a song: stems by name, and the picture.

    Raises:
        SettingError: no names for files.
        AudioError: outside of the folder for stems, or no names at all.
        FileError: longer than the file system takes.
    """
    if Path(song.track).name in ("", ".", "..") or ".." in Path(song.track).parts:
        raise AudioError(f"{song.path} gives its stems no name: rename it")
    stems = {name: output.path(song, name, output.format) for name in output.names}
    picture = output.path(song, PICTURE, "png") if output.picture else None
    for path in [*stems.values(), *([picture] if picture else [])]:
        refuse_long(path, "shorten --filename, rename the song, or choose a shorter -o")
    return stems, picture


def _refuse_collisions(jobs: Sequence[Job], output: Output) -> None:
    inputs = {identity(job.song.path): job.song.path for job in jobs}
    owners: dict[str, Job] = {}
    for job in jobs:
        for path in job.outputs:
            twin = owners.setdefault(_key(path), job)
            if twin is not job:
                raise UserError(
                    f"{twin.song.path} and {job.song.path} would both be written to {path}: {_way_out(jobs, output)}"
                )
            for name in (path, part_of(path)):
                if identity(name) in inputs:
                    raise AudioError(f"{inputs[identity(name)]} would be overwritten by a stem: choose another -o")
        if len(set(map(_key, job.outputs))) < len(job.outputs):
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


def _way_out(jobs: Sequence[Job], output: Output) -> str:
    """How all songs could get different names."""
    inputs = {identity(job.song.path) for job in jobs}
    for names in ("{track}", "{track}.{trackext}", "{folder}/{track}", "{folder}/{track}.{trackext}"):
        other = replace(output, filename=names + "/{stem}.{ext}")
        paths: list[Path] = []
        with suppress(UserError):
            for job in jobs:
                if job.outputs:
                    stems, picture = _names(job.song, other)
                    paths += Job(job.song, stems=stems, picture=picture).outputs
            if len(set(map(_key, paths))) == len(paths) and inputs.isdisjoint(map(identity, paths)):
                return f'choose other names, with --filename "{other.filename}" for one'
    return "separate them one by one, with other -o"


def _key(path: Path) -> str:
    """Equal for what is one file, be it on a file system that ignores case."""
    return os.path.abspath(path).casefold()
