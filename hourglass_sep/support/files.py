"""Atomic writes: files are written as NAME.part beside their place and renamed when they are complete."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from soundfile import LibsndfileError

from hourglass_sep.support.errors import FileError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FULL_BYTES = 1 << 22
_PART = ".part"
_LONGEST_PART = 143  # bytes: the least that a common file system takes (eCryptfs)
_LONGEST_NAME = 255
_LONGEST_PATH = {"linux": 4095, "win32": 259}.get(sys.platform, 1023)
_MARK_BYTES = 6


def part_of(path: Path) -> Path:
    """The temporary name of a file while it is written, always the same one, so that two runs meet at it.

    Args:
        path: the file.

    Returns:
        ``NAME.part`` beside it. Where that would be too long for a file system, the name's beginning and a hash of the
        name: where the file's own name fits, this one does.
    """
    name = os.fsencode(path.name)
    room = min(_LONGEST_PART, _LONGEST_PATH - len(os.fsencode(path.parent)) - 1) - len(_PART)
    if len(name) <= room:
        return path.with_name(path.name + _PART)
    mark = hashlib.blake2b(name, digest_size=_MARK_BYTES).hexdigest()
    beginning = name[: max(room - len(mark), 0)].decode(errors="ignore")  # whole characters
    return path.with_name(beginning + mark[: max(room, 1)] + _PART)


def refuse_long(path: Path, remedy: str) -> None:
    """Compare a file's name, and its folders', with what the file system takes.

    Args:
        path: the file; it need not exist, nor its folders.
        remedy: the end of the message.

    Raises:
        FileError: a name in it, or all of it, is too long.
    """
    there = next((folder for folder in path.parents if os.path.exists(folder)), Path())
    try:
        longest = os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # AttributeError: Windows
        longest = _LONGEST_NAME
    found = max(len(os.fsencode(name)) for name in path.parts)
    if found > longest:
        raise FileError(f"{path} has a name of {found} bytes in it, where {longest} is the most: {remedy}")
    found = len(os.fsencode(path))
    if found > _LONGEST_PATH:
        raise FileError(f"{path} is {found} bytes long, where {_LONGEST_PATH} is the most: {remedy}")


@contextmanager
def replacing(paths: Sequence[Path], overwrite: bool = True) -> Iterator[list[Path]]:
    """Names to write files under that get their own names, all together, when the block ends without an error.

    Args:
        paths: the final names; their folders are made if need be.
        overwrite: replace files of these names; otherwise one that has appeared in the meantime is an error.

    Yields:
        A name by `part_of` for each of them, empty files that are locked against another run with the same names.
        After an error neither these nor new folders are left.

    Raises:
        FileError: a folder cannot be made, a name is a folder's, or another run writes the same files.
    """
    parts = [part_of(path) for path in paths]
    folders = [folder for path in paths for folder in (path.parent, *path.parent.parents)]
    made = [folder for folder in dict.fromkeys(folders) if not os.path.exists(folder)]
    locks: list[int | None] = []
    named: list[Path] = []
    done = False
    try:
        for path, part in zip(paths, parts, strict=True):
            with writing(path):
                if path.is_dir():
                    raise FileError(f"{path} is a folder: choose another place")
                path.parent.mkdir(parents=True, exist_ok=True)
                locks.append(_create(part))
        yield parts
        with _uninterrupted():
            for path, part in zip(paths, parts, strict=True):
                with writing(path):
                    _name(part, path, overwrite)
                    named.append(path)
            done = True
    finally:
        for part in parts[: len(locks)]:  # not those of another run
            with suppress(OSError):
                part.unlink()
        for lock in filter(None, locks):
            os.close(lock)
        if not done:
            for path in named if not overwrite else ():
                with suppress(OSError):
                    path.unlink()
            for folder in sorted(made, key=lambda folder: -len(folder.parts)):
                with suppress(OSError):  # not there, or not empty
                    folder.rmdir()


def _create(part: Path) -> int | None:
    """An empty file that is ours alone, and its lock; what a killed run left there is removed."""
    if os.path.lexists(part):
        if part.is_file() and not part.is_symlink():
            old = os.open(part, os.O_RDWR)
            try:
                _lock(old, part)
            finally:
                os.close(old)
        part.unlink()
    new = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if fcntl is None:  # Windows, which renames no file that is open
        os.close(new)
        return None
    _lock(new, part)
    return new


def _lock(file: int, part: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(f"{part} is being written by another run: wait for it, or choose another -o") from None
    except OSError:  # a file system without locks
        return


def _name(part: Path, path: Path, overwrite: bool) -> None:
    """Give a file its name."""
    if overwrite:
        os.replace(part, path)
        return
    try:
        os.link(part, path)  # unlike a renaming, it replaces nothing
    except FileExistsError:
        raise FileError(f"{path} has appeared in the meantime: add --overwrite to replace it") from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileError(f"{path} has appeared in the meantime: add --overwrite to replace it") from None
        os.replace(part, path)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep signals waiting, where the system can, so that not some of several files get their names."""
    numbers = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing a file into one line."""
    try:
        yield
    except (LibsndfileError, OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or getattr(error, "error_string", error))
        if reason.startswith("System error"):  # libsndfile says no more of a write that failed
            reason = os.strerror(errno.ENOSPC) if _is_full(path.parent) else "the system refuses to write"
        too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG or "too long" in reason
        remedy = "shorten its name, or that of a folder" if too_long else "choose another folder or make room"
        raise FileError(f"{path} cannot be written to ({reason}): {remedy}") from error


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False


def write_all(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files of a folder so that either all of them are there or the old ones are.

    Args:
        folder: where; made if need be.
        contents: by file name.

    Returns:
        The files.

    Raises:
        FileError: the folder or a file cannot be written.
    """
    paths = [folder / name for name in contents]
    with replacing(paths) as parts:
        for path, part, content in zip(paths, parts, contents.values(), strict=True):
            with writing(path):
                part.write_bytes(content)
    return paths
