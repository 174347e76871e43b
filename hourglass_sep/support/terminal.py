"""Output to terminals and pipes, safe for any text and for closed streams; exit codes and signals of commands."""

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
"""Control characters, line separators, bidirectional and zero-width marks, and surrogates of undecodable bytes."""


def clean(text: str) -> str:
    """Escape control characters in a text.

    File names may contain them, and they could colour the terminal or break a line.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Forgiving:
    """A stream wrapper without write errors: after the first one, all output is discarded.

    Such errors come from a closed terminal, a closed pipe (``| head``) or a full disk.
    """

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
    """Redirect a stream to the null device: its buffered and all later output is discarded."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def tell(text: str, stream: IO[str]) -> None:
    """Print a line to a stream and flush it; output to a closed pipe (``| head``) or a full disk is discarded."""
    print(text, file=Forgiving(stream), flush=True)


def tell_path(path: Path, stream: IO[str]) -> None:
    """Print the path of a file on one line: exact bytes to files and pipes, cleaned on a terminal.

    A path with a line break in it is always cleaned, so that there is one line per path.
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
    """Print a text, cleaned, as one line to standard error."""
    tell(clean(text), sys.stderr)


def have_streams() -> None:
    """Make the standard streams safe to use.

    Streams that are closed are replaced by the null device, characters that their encoding lacks are escaped, and
    errors while logging are ignored.
    """
    logging.raiseExceptions = False
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def printing() -> Iterator[None]:
    """Ignore errors of standard output in the block: a closed pipe or a full disk.

    It is for the final output of a command, when the results are already written to files.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            _leave(sys.stdout)


def or_exit(command: Callable[[], Result]) -> Result:
    """Run a command and return its result; errors that the user can fix are printed as one line.

    Raises:
        SystemExit: with the exit code of the `UserError`, or 1 after Ctrl-C.
    """
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
    """Print the current traceback for --verbose, cleaned line by line since messages may quote file names."""
    for line in traceback.format_exc().splitlines():
        complain(line)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP (closed terminal) as Ctrl-C, by KeyboardInterrupt, so that partial files are removed.

    Only the first signal has an effect. Signals with a handler other than the default are left unchanged.
    """

    def stop(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # a second signal would interrupt the cleanup
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
