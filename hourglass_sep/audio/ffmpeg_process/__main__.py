"""The process in which FFmpeg decodes: a file that crashes a decoder ends this process, not the program's.

A folder of scripts that import nothing of this package and no numpy, so that it starts in a sixth of a second. It reads
requests from standard input and answers on standard output: a line of JSON, then as many bytes as its ``bytes`` says.

    {"open": PATH, "stream": NUMBER or null, "behind": BYTES}   what `Reader.facts` has
    {"read": true}                                              samples; none at the end, and what `Reader.end` has
    {"close": true}                                             nothing

A request that fails is answered with ``error``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reader import Reader


def _answer(request: dict[str, Any], reader: Reader | None) -> tuple[dict[str, Any], bytes, Reader | None]:
    if "open" in request:
        from reader import Reader  # here, so that a PyAV that cannot be imported is an answer

        reader = Reader(request["open"], request["stream"], request["behind"])
        return reader.facts, b"", reader
    if "read" in request and reader is not None:
        samples = reader.read()
        return reader.end if not samples else {}, samples, reader
    if reader is not None:
        reader.close()
    return {}, b"", None


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which closes this
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    reader: Reader | None = None
    for line in sys.stdin.buffer:
        try:
            answer, samples, reader = _answer(json.loads(line), reader)
        except Exception as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            answer, samples = {"error": text, "kind": type(error).__name__}, b""
        answers.write(json.dumps(answer | {"bytes": len(samples)}).encode() + b"\n" + samples)
        answers.flush()


if __name__ == "__main__":
    main()
