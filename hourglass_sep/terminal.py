"""Lines for people and for pipes, whatever is in them and whoever reads."""

from __future__ import annotations

import os
import re
from typing import IO


def clean(text: str) -> str:
    """A text without control characters, which names of files may hold: they would colour the screen, or end a line."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: found[0].encode("unicode_escape").decode(), text)


def tell(text: str, stream: IO[str]) -> None:
    """Print to a stream at once. One that nobody reads any more (``| head``), or that is full, is left alone."""
    try:
        print(text if text.startswith("{") else clean(text), file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
