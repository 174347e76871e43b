"""Atomic writes: files are written as NAME.part in the target folder and renamed when complete."""

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
_LONGEST_PART = 143  # bytes: the lowest limit of the common file systems (eCryptfs)
_LONGEST_NAME = 255
_LONGEST_PATH = {"linux": 4095, "win32": 259}.get(sys.platform, 1023)
_MARK_BYTES = 6


def part_of(path: Path) -> Path:
    """Temporary name of a file while it is written.

    It depends only on the path, so that two runs that write one file use one temporary name and detect each other.

    Args:
        path: the final path of the file.

    Returns:
        ``NAME.part`` in the folder of ``path``. If that would be too long for a file system, NAME is shortened to its
        beginning and a hash of it, so that the temporary name fits wherever the file's own name fits.
    """
    name = os.fsencode(path.name)
    room = min(_LONGEST_PART, _LONGEST_PATH - len(os.fsencode(path.parent)) - 1) - len(_PART)
    if len(name) <= room:
        return path.with_name(path.name + _PART)
    mark = hashlib.blake2b(name, digest_size=_MARK_BYTES).hexdigest()
    beginning = name[: max(room - len(mark), 0)].decode(errors="ignore")  # drops a character that was cut
    return path.with_name(beginning + mark[: max(room, 1)] + _PART)


def refuse_long(path: Path, remedy: str) -> None:
    """Check the length of a path, and of every name in it, against the limits of the file system.

    Args:
        path: path of the file; neither the file nor its folders need to exist.
        remedy: end of the error message: the remedy for the user.

    Raises:
        FileError: a name in the path, or the whole path, is too long.
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
    """Write several files under temporary names, and rename them all when the block ends without an error.

    After an error, the temporary files and the folders created for them are removed.

    Args:
        paths: final paths of the files; missing folders are created.
        overwrite: replace existing files; otherwise a final path that exists at the time of the renaming is an error.

    Yields:
        List of temporary paths, one per file, see `part_of`: empty files, locked against other runs that write them.

    Raises:
        FileError: a folder cannot be created, a path is that of a folder, a file exists and ``overwrite`` is False, or
            another run writes one of the files.
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
        for part in parts[: len(locks)]:  # only those created here: the others may belong to another run
            with suppress(OSError):
                part.unlink()
        for lock in filter(None, locks):
            os.close(lock)
        if not done:
            for path in named if not overwrite else ():
                with suppress(OSError):
                    path.unlink()
            for folder in sorted(made, key=lambda folder: -len(folder.parts)):
                with suppress(OSError):  # missing or not empty
                    folder.rmdir()


def _create(part: Path) -> int | None:
    """Create an empty file and lock it; a file left over from a killed run is removed first.

    Returns:
        The locked file descriptor; None on Windows, where the file is not locked.

    Raises:
        FileError: another run holds the lock.
    """
    if os.path.lexists(part):
        if part.is_file() and not part.is_symlink():
            old = os.open(part, os.O_RDWR)
            try:
                _lock(old, part)
            finally:
                os.close(old)
        part.unlink()
    new = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if fcntl is None:  # Windows cannot rename an open file
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
    """Rename a temporary file to its final name.

    Raises:
        FileError: the final name exists and ``overwrite`` is False.
    """
    if overwrite:
        os.replace(part, path)
        return
    try:
        os.link(part, path)  # unlike os.replace, it fails if the name exists
    except FileExistsError:
        raise FileError(f"{path} has appeared in the meantime: add --overwrite to replace it") from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileError(f"{path} has appeared in the meantime: add --overwrite to replace it") from None
        os.replace(part, path)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP, where supported, so that either all of the files are renamed or none."""
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
    """Convert errors while writing a file to a `FileError` with a one-line message.

    Args:
        path: the file, for the message.

    Raises:
        FileError: the block raised an OSError, a ValueError or an error of libsndfile.
    """
    try:
        yield
    except (LibsndfileError, OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or getattr(error, "error_string", error))
        if reason.startswith("System error"):  # libsndfile gives no cause of a failed write
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
    """Write several files into a folder, all or none: after an error, the old files are unchanged.

    Args:
        folder: target folder; created if missing.
        contents: file name to content.

    Returns:
        The paths of the files, in the order of ``contents``.

    Raises:
        FileError: the folder or a file cannot be written.
    """
    paths = [folder / name for name in contents]
    with replacing(paths) as parts:
        for path, part, content in zip(paths, parts, contents.values(), strict=True):
            with writing(path):
                part.write_bytes(content)
    return paths
