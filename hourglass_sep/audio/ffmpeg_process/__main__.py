"""Process in which FFmpeg decodes: a file that crashes the decoder ends this process, not the main program.

The scripts of this folder import neither this package nor numpy, so that the process starts in a sixth of a second.
It reads requests, one line of JSON each, from standard input, and answers on standard output with a line of JSON
followed by ``bytes`` bytes, a number in that line. Requests and their answers:

    {"open": PATH, "stream": NUMBER or null, "behind": BYTES}   `Reader.facts`
    {"read": true}                                              samples; at the end no samples, and `Reader.end`
    {"close": true}                                             nothing

A request that fails is answered with the message under ``error`` and the exception's class name under ``kind``.
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
        from reader import Reader  # imported here, so that a failing import of PyAV is answered as an error

        reader = Reader(request["open"], request["stream"], request["behind"])
        return reader.facts, b"", reader
    if "read" in request and reader is not None:
        samples = reader.read()
        return reader.end if not samples else {}, samples, reader
    if reader is not None:
        reader.close()
    return {}, b"", None


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the main program, which ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # keeps the output of libraries out of the answers
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
