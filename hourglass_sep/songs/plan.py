"""Planning: the output files of all songs are named and checked before any song is separated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from hourglass_sep import audio
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.songs.choices import CLIP_MODES, FILENAME, OTHER_METHODS, OUT, check_stems, in_written_order
from hourglass_sep.songs.filenames import check_filename, file_names, folded, leaves
from hourglass_sep.songs.search import Song, identity
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import AudioError, FileError, SettingError, UserError
from hourglass_sep.support.files import part_of, refuse_long

PICTURE = "picture"


@dataclass(frozen=True)
class Output:
    """Settings of the output, the same for all songs.

    Attributes:
        folder: folder of all output files.
        filename: pattern of a stem's path below the folder, with the fields {folder}, {track}, {trackext}, {stem} and
            {ext}.
        stems: sources to write; all of them if None.
        two_stems: source to write together with the rest, which is named no_SOURCE; replaces ``stems``.
        other_method: computation of the rest: ``add`` sums the other sources, ``minus`` subtracts the source from the
            mixture, ``none`` writes no rest. With a single source, ``add`` is ``minus``.
        format: format of the stems, a key of `hourglass_sep.audio.FORMATS`.
        bit_depth: bit depth, one of `hourglass_sep.songs.choices.BIT_DEPTHS`; the song's by default.
        clip_mode: treatment of samples beyond full scale: ``none`` leaves them to the format, ``rescale`` turns all
            stems of a song down by one gain, ``clamp`` clips them at full scale.
        start_seconds: start of the separated excerpt in the song, in seconds.
        duration_seconds: duration of the excerpt in seconds; to the end of the song if None.
        stream: number of the audio stream, from 1; the file's default stream if None.
        picture: whether to draw spectrograms and masks, too.
        overwrite: whether to replace existing files.
        skip_existing: whether to leave out existing files, and songs all of whose files exist.
        sources: sources of the separator.
    """

    folder: Path = Path(OUT)
    filename: str = FILENAME
    stems: Sequence[str] | None = None
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
    sources: Sequence[str] = SOURCES

    def __post_init__(self) -> None:
        check_stems(self.stems, self.two_stems, self.sources)
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
        check_filename(self.filename)

    @property
    def names(self) -> dict[str, str]:
        """The stems, in the order in which they are written, and their names in file names."""
        safe = file_names(self.sources)
        one = self.two_stems
        if one is None:
            return {stem: safe[stem] for stem in self.stems or in_written_order(self.sources)}
        return {one: safe[one]} | ({} if self.other_method == "none" else {f"no_{one}": f"no_{safe[one]}"})

    def path(self, song: Song, stem: str, suffix: str) -> Path:
        """Path of a stem.

        Args:
            song: the song.
            stem: name of the stem in file names, see `names`, or `PICTURE`.
            suffix: suffix of the file, without a dot.

        Raises:
            SettingError: the pattern gives an invalid file name, or the suffix of another format.
            AudioError: the song's name leads to a path outside of the folder.
        """
        name = self.filename.format(**_fields(song), stem=stem, ext=suffix).lstrip("/" + os.sep)
        other = Path(name).suffix.lower().lstrip(".")
        if other in audio.FORMATS and other != suffix:
            raise SettingError(f"--filename {self.filename!r} names {suffix} files .{other}: write {{ext}} instead")
        if not name or name.endswith(("/", os.sep)) or Path(name).name in ("", "."):
            raise SettingError(f"--filename {self.filename!r} gives {name!r}: give the name of a file")
        if leaves(name):
            raise AudioError(f"{song.path} gives its stems the name {name!r}, outside of -o: rename it")
        return self.folder / name


def _fields(song: Song) -> dict[str, str]:
    """Values of a song for the fields of the file name pattern."""
    folder = song.path.parent
    if folder.name in ("", ".."):  # the path is relative to the current folder, or to one above it
        folder = identity(folder)
    return {"folder": folder.name or "root", "track": song.track, "trackext": song.path.suffix.lstrip(".")}


@dataclass
class Job:
    """A song and its output files.

    Attributes:
        song: the song.
        info: header of the song; None if the file cannot be read.
        subtype: sample format of its stems, libsndfile's name.
        stems: stem to file.
        picture: file of the picture; None for no picture.
        error: reason why the song cannot be separated; None if it can.
        skipped: whether the song is left out because all of its files exist.
    """

    song: Song
    info: audio.Info | None = None
    subtype: str = ""
    stems: dict[str, Path] = field(default_factory=dict)
    picture: Path | None = None
    error: str | None = None
    skipped: bool = False

    def leave_out(self, paths: Sequence[Path]) -> None:
        """Remove files from the job, so that they are not written."""
        self.stems = {name: path for name, path in self.stems.items() if path not in paths}
        self.picture = None if self.picture in paths else self.picture

    @property
    def outputs(self) -> list[Path]:
        """All output files: the stems, then the picture."""
        return list(self.stems.values()) + ([self.picture] if self.picture else [])


def plan(songs: Sequence[Song], output: Output) -> list[Job]:
    """Read the header of every song and determine its output files. Nothing is written.

    Args:
        songs: the songs.
        output: settings of the output.

    Returns:
        A job for each song, in their order. The job of a song that cannot be read has an error; the others can still
        be separated.

    Raises:
        UserError: a file would be replaced or written twice, or the format cannot hold a song's stems.
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
        except Exception as error:  # of a decoder, by an unforeseen kind of damage
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
    """Paths of a song's stems, by name, and of its picture.

    Raises:
        SettingError: the pattern gives an invalid file name.
        AudioError: a path is outside of the folder, or the song's name is empty or has ``..``.
        FileError: a path is longer than the file system allows.
    """
    if Path(song.track).name in ("", ".", "..") or ".." in Path(song.track).parts:
        raise AudioError(f"{song.path} gives its stems no name: rename it")
    stems = {stem: output.path(song, name, output.format) for stem, name in output.names.items()}
    picture = output.path(song, PICTURE, "png") if output.picture else None
    for path in [*stems.values(), *([picture] if picture else [])]:
        refuse_long(path, "shorten --filename, rename the song, or choose a shorter -o")
    return stems, picture


def _refuse_collisions(jobs: Sequence[Job], output: Output) -> None:
    """Check that no two outputs share a path and none replaces a song; apply ``skip_existing`` and ``overwrite``.

    Raises:
        UserError: outputs collide with each other, with a song, or with an existing file or folder.
    """
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
            lacking = "{ext}" if "{stem}" in output.filename else "{stem}"
            raise SettingError(f"--filename {output.filename!r} gives two files one name: put {lacking} into it")
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
    """Advice for songs whose outputs collide: a pattern that gives all of them different names, if there is one."""
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
    """Key of a path, equal for paths that are one file on a file system that ignores case."""
    return folded(os.path.abspath(path))
