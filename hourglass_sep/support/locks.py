"""File locks between processes, held until they are released or the process ends, even by a crash.

They are POSIX record locks: child processes (loader workers) do not inherit them, and a process never conflicts with
its own locks.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_BUSY = (errno.EACCES, errno.EAGAIN)
_open: dict[Path, int] = {}
"""Lock file to its only descriptor: closing any descriptor of a file releases the locks of the whole process."""


def lock(path: Path, shared: bool = False) -> bool:
    """Lock a file without waiting; a lock that this process already holds is changed to the given kind.

    Args:
        path: the lock file; created if missing.
        shared: take a shared lock, which other processes may share; otherwise an exclusive one.

    Returns:
        False if another process holds a conflicting lock. True if the lock was taken, and also where the system or the
        folder supports no locks.
    """
    path = path.resolve()
    if fcntl is None:
        return True
    if path not in _open:
        try:
            _open[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # an unwritable folder is reported by the writes that follow
            return True
    try:
        fcntl.lockf(_open[path], (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def is_locked(path: Path) -> bool:
    """Whether this process has locked the file by `lock` and not released it."""
    return path.resolve() in _open


def unlock(path: Path) -> None:
    """Release this process's lock on a file, if it holds one."""
    file = _open.pop(path.resolve(), None)
    if file is not None:
        with suppress(OSError):
            os.close(file)
