"""Lines for people and for pipes, whatever is in them and whoever reads."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from hourglass_sep.support.errors import UserError

Result = TypeVar("Result")


_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Control characters, line separators, marks that turn the direction of writing or have no width, bytes of no text."""


def clean(text: str) -> str:
    """A text without control characters, which names of files may hold: they would colour the screen, or end a line."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Forgiving:
    """A stream that is left alone, in place of an error, once nobody can read it: a closed terminal, ``| head``."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """See `io.TextIOBase`."""
        try:
            return self._stream.write(text)
        except OSError:
            _leave(self._stream)
            return len(text)

    def flush(self) -> None:
        """See `io.TextIOBase`."""
        try:
            self._stream.flush()
        except OSError:
            _leave(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _leave(stream: IO[str]) -> None:
    """Let what is written to a stream from now on go nowhere, and what it still holds."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def tell(text: str, stream: IO[str]) -> None:
    """Print to a stream at once. One that nobody reads any more (``| head``), or that is full, is left alone."""
    print(text, file=Forgiving(stream), flush=True)


def tell_path(path: Path, stream: IO[str]) -> None:
    """Print a file's path: to the byte into files and pipes, for scripts, and clean on a terminal.

    One line a path: a path with a line break in it is cleaned everywhere.
    """
    data = os.fsencode(path)
    if stream.isatty() or b"\n" in data or not hasattr(stream, "buffer"):
        tell(clean(str(path)), stream)
        return
    try:
        stream.flush()
        stream.buffer.write(data + b"\n")
        stream.buffer.flush()
    except OSError:
        _leave(stream)


def complain(text: str) -> None:
    """Print one line to standard error."""
    tell(clean(text), sys.stderr)


def have_streams() -> None:
    """Let nothing depend on streams being open, on what they can encode, or on anybody reading logs."""
    logging.raiseExceptions = False
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by who started this
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def printing() -> Iterator[None]:
    """Leave a standard output that is full, or that nobody reads any more, alone: the work is done and written."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            _leave(sys.stdout)


def or_exit(command: Callable[[], Result]) -> Result:
    """What a command returns; what the user can mend ends the process with one line and the error's exit code."""
    have_streams()
    try:
        return command()
    except UserError as error:
        complain(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        complain("error: interrupted: run it again")
        raise SystemExit(1) from None


def show_traceback() -> None:
    """For --verbose; what an error says may quote names, so it is cleaned line by line."""
    for line in traceback.format_exc().splitlines():
        complain(line)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the work as Ctrl-C does, once, so that nothing half-written is left."""

    def stop(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # a second one would end the tidying up
        raise KeyboardInterrupt

    normal = (signal.SIG_DFL, signal.default_int_handler)
    named = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in named if signal.getsignal(number) in normal]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
