"""The ``hourglass-sep`` command: runs the module of a subcommand as ``python -m`` does.

It imports no large package, so that ``--help`` and the errors for mistyped commands appear at once.
"""

from __future__ import annotations

import difflib
import runpy
import sys

from hourglass_sep import __version__
from hourglass_sep.support.paths import import_from_here

COMMANDS = {
    "demo": "train, score and separate on synthetic songs, in under five minutes",
    "train": "train a network: key=value ..., as python -m hourglass_sep.train",
    "evaluate": "score weights on a data set: key=value ..., as python -m hourglass_sep.evaluate",
    "score": "score any tool's stems: --reference DIR --estimate DIR",
    "report": "tables, intervals and plots of scores: SCORES.json ... -o FOLDER",
    "separate": "separate songs into stems: FILE ... -o FOLDER",
    "models": "list weights: sources, rate, size, scores, data, licence",
    "export": "write the mask network as ONNX: -n NAME -o FILE.onnx",
    "doctor": "what works here: versions, devices, formats, weights, data, a self-test",
}

_CONFIGURED = ("demo", "train", "evaluate")
"""Commands that are configured by Hydra."""


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: hourglass-sep COMMAND ...", "", *lines, "", "hourglass-sep COMMAND --help says more"])


def main() -> None:
    """Run the module of this package that ``sys.argv[1]`` names.

    With ``alter_sys``, ``sys.modules["__main__"]`` and ``sys.argv[0]`` are those of the module, so that Lightning's
    launcher can start it again for every further device.
    """
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        print(usage())
        return
    if command in ("-V", "--version"):
        print(__version__)
        return
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
        print(f"error: no command {command!r}: {remedy}", file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[1]
    if command in _CONFIGURED:
        import_from_here()  # configs may name classes of the user's own
    runpy.run_module(f"hourglass_sep.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
