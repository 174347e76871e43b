"""Locks between processes on a file: held until released or until the process ends, however it ends.

They are POSIX record locks: processes that a holder forks (loader workers) do not hold them, and a process never waits
for itself.
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
"""One descriptor a file: closing any of them would release the locks of the whole process."""


def lock(path: Path, shared: bool = False) -> bool:
    """Lock a file, which is made if need be, without waiting; a lock that this process has is changed to this kind.

    Args:
        path: the lock file.
        shared: beside other processes that share it, but beside none that has it alone.

    Returns:
        False if another process is in the way. True where the system or the folder knows no locks.
    """
    path = path.resolve()
    if fcntl is None:
        return True
    if path not in _open:
        try:
            _open[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # what is to be written there will say so
            return True
    try:
        fcntl.lockf(_open[path], (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def is_locked(path: Path) -> bool:
    """Whether this process holds a lock on the file."""
    return path.resolve() in _open


def unlock(path: Path) -> None:
    """Release a lock, if there is one."""
    file = _open.pop(path.resolve(), None)
    if file is not None:
        with suppress(OSError):
            os.close(file)
