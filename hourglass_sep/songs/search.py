"""Search for songs: files, folders, patterns and lists of names are resolved to songs, each real file once."""

from __future__ import annotations

import codecs
import errno
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hourglass_sep import audio
from hourglass_sep.support.errors import UserError

_LIST_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 16
_NAME_BYTES = 1 << 12
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SHOWN = 5


@dataclass(frozen=True)
class Song:
    """A song that was found, or the error of a name without a song.

    Attributes:
        path: the file.
        track: name for the stems' files; in a searched folder, the path relative to it, without the suffix.
        error: reason why there is no song; None if there is one.
    """

    path: Path
    track: str
    error: str | None = None


def find_songs(
    arguments: Iterable[str],
    recursive: bool,
    listed: Iterable[str],
    out: Path,
    note: Callable[[str], object] = lambda text: None,
) -> list[Song]:
    """Find songs by file, folder, pattern or list.

    Args:
        arguments: files, folders and patterns given by the user; ``-`` stands for the list.
        recursive: whether to search folders.
        listed: the list: more files, folders or patterns, see `names_on`; read only if ``-`` is an argument.
        out: folder of the stems, which is not searched.
        note: callback, called with one line for each folder in which files were left out.

    Returns:
        The songs in the order in which they were found, and names without a song, which have an error.

    Raises:
        UserError: no song is named, or the folder to search is the folder of the stems.
    """
    found: dict[Path, Song] = {}
    for argument in arguments:
        for name in filter(None, listed if argument == "-" else [argument]):
            for song in _named(name, recursive, out, note):
                found.setdefault(identity(song.path), song)
    if not found:
        raise UserError("no songs given: name sound files, or folders with -r")
    return list(found.values())


def identity(path: Path) -> Path:
    """Absolute path of a file or folder with all links resolved, for comparison with others."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return path.absolute()


def names_on(stream: IO[Any]) -> Iterator[str]:
    """Read names from standard input: one per line, or separated by NULs, as ``find -print0`` writes them.

    Args:
        stream: stream of text or bytes. Names may be invalid in the file system's encoding. A byte order mark is
            removed.

    Yields:
        Each name once.

    Raises:
        UserError: the stream holds binary data, such as a song, or more than 16 MiB, or cannot be read.
    """
    binary = getattr(stream, "buffer", stream)
    data = bytearray()
    try:
        while block := binary.read(_BLOCK_BYTES):
            data += block if isinstance(block, bytes) else os.fsencode(block)
            if len(data) > _LIST_BYTES:
                raise UserError(
                    f"the list on standard input is longer than {_LIST_BYTES >> 20} MiB: - reads names of songs, "
                    "one a line; name a song itself instead"
                )
            if len(data) <= _BLOCK_BYTES:
                _refuse_binary(_split(bytes(data))[:-1])  # before waiting for the rest; the last name may be incomplete
    except OSError as error:
        raise UserError(f"standard input cannot be read ({error.strerror}): give names of songs there") from error
    names = _split(bytes(data))
    _refuse_binary(names)
    yield from names


def _split(data: bytes) -> list[str]:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):  # PowerShell writes lists in UTF-16
            with suppress(UnicodeDecodeError):
                data = data.decode(encoding).encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    entries = data.split(b"\0") if b"\0" in data else [line.rstrip(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(entry) for entry in dict.fromkeys(entries)]


def _refuse_binary(names: list[str]) -> None:
    """Check that names read from a stream are not binary data.

    Raises:
        UserError: of the names that are too long or have control characters, more do not exist as files than there
            are existing files among all names.
    """
    strange = [name for name in names if len(name) > _NAME_BYTES or _CONTROLS.search(name)]
    if not strange or sum(not os.path.lexists(name) for name in strange) <= sum(map(os.path.lexists, names)):
        return
    raise UserError(
        "standard input holds binary data and no list: - reads names of songs, one a line or with NULs between them; "
        "name a song itself instead of piping it"
    )


def _named(name: str, recursive: bool, out: Path, note: Callable[[str], object]) -> Iterator[Song]:
    path = Path(name)
    if "\0" in name:
        yield Song(path, path.stem, f"{name!r} holds a NUL, which no name of a file does: check the name")
    elif not os.path.lexists(name) and glob.has_magic(name):
        matches = _matches(name, out)
        if not matches:
            yield Song(path, path.stem, f"nothing matches {name}: check the pattern")
        for match in matches:
            if recursive or not os.path.isdir(match):
                yield from _named(match, recursive, out, note)
    elif os.path.isdir(name):
        if not recursive:
            yield Song(path, path.stem, f"{name} is a folder: add -r to separate the songs in it")
            return
        if identity(path) == identity(out):
            raise UserError(f"{name} is searched for songs and would find its own stems: choose another -o")
        tree = _Tree(path, out)
        if tree.left_out:
            note(tree.left_out)
        yield from tree.songs or [Song(path, path.stem, f"no sound files in {name}: give another folder, or files")]
    else:
        yield Song(path, path.stem)


def _matches(pattern: str, out: Path) -> list[str]:
    """Files and folders that match a pattern; ``**`` matches a folder and all folders that `_Tree` finds below it."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(glob.glob(pattern))
    at = parts.index("**")
    rest = [part for part in parts[at + 1 :] if part != "**"] or ["*"]
    tops = glob.glob(str(Path(*parts[:at]))) if at else ["."]
    folders = {folder for top in tops if os.path.isdir(top) for folder in _Tree(Path(top), out).folders}
    return sorted({match for folder in folders for match in glob.glob(str(Path(glob.escape(str(folder)), *rest)))})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop, or through a folder without access
        return False


@dataclass
class _Tree:
    """Recursive search of a folder for songs, which follows links.

    Each real folder is searched once, under its own path if that is below the folder, else under that of a link.
    Hidden files and folders and the folder of the stems are left out. Links to folders that contain the searched one
    are not followed: they would extend the search beyond it.

    Attributes:
        folder: the folder to search.
        out: folder of the stems.
        folders: all folders that were searched.
        songs: files with a suffix of audio or video, and, with an error, places that cannot be read.
    """

    folder: Path
    out: Path
    folders: list[Path] = field(default_factory=list)
    songs: list[Song] = field(default_factory=list)
    _types: Counter[str] = field(default_factory=Counter)
    _hidden: list[str] = field(default_factory=list)
    _broken: list[str] = field(default_factory=list)
    _around: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._top = identity(self.folder)
        self._stems = identity(self.out)
        seen: set[Path] = set()
        folders, links = [self.folder], list[Path]()
        while folders or links:
            place = folders.pop() if folders else links.pop(0)  # real folders before links
            real = identity(place)
            if place != self.folder and self._top != real and self._top.is_relative_to(real):
                self._around.append(self._name(place))
            elif real not in seen and not self._is_of_stems(real):
                seen.add(real)
                below, linked = self._search(place)
                folders += below[::-1]
                links += linked

    def _is_of_stems(self, real: Path) -> bool:
        """Whether a real path is in the folder of the stems, unless the search itself begins in there."""
        return real.is_relative_to(self._stems) and not self._top.is_relative_to(self._stems)

    def _search(self, place: Path) -> tuple[list[Path], list[Path]]:
        """Search one folder, not recursively; return its folders and its links to folders."""
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            remedy = "shorten its path" if error.errno == errno.ENAMETOOLONG else "check its permissions"
            self._fail(place, f"{place} cannot be searched ({error.strerror}): {remedy}")
            return [], []
        self.folders.append(place)
        folders: list[Path] = []
        links: list[Path] = []
        for entry in entries:
            path = place / entry.name
            suffix = path.suffix.lower()
            is_folder, is_link = _is_folder(entry), entry.is_symlink()
            if path.name.startswith("."):
                self._hidden += [self._name(path)] * (is_folder or suffix in audio.SUFFIXES)
            elif is_folder:
                (links if is_link else folders).append(path)
            elif is_link and not os.path.exists(path):
                if suffix in audio.SUFFIXES:
                    self._fail(path, f"{path} is a link that leads nowhere: mend or remove it")
                else:
                    self._broken.append(self._name(path))
            elif is_link and self._is_of_stems(identity(path)):
                continue
            elif suffix in audio.SUFFIXES:
                self.songs.append(Song(path, path.relative_to(self.folder).with_suffix("").as_posix()))
            else:
                self._types[suffix or "no suffix"] += 1
        return folders, links

    def _fail(self, path: Path, why: str) -> None:
        self.songs.append(Song(path, path.stem, why))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    @property
    def left_out(self) -> str:
        """One line about the files and folders that were left out; '' for none."""
        types = [kind for kind, _ in self._types.most_common()]
        kinds = (
            (sum(self._types.values()), "no sound by name", types),
            (len(self._hidden), "hidden", self._hidden),
            (len(self._broken), "linked to nothing", self._broken),
            (len(self._around), "linked to a folder around it", self._around),
        )
        parts = [
            f"{number} {what} ({', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)})"
            for number, what, names in kinds
            if number
        ]
        return f"left out of {self.folder}: {', '.join(parts)}" if parts else ""
