"""Write the mask network as ONNX: ``hourglass-sep export -o masks.onnx``, or ``python -m hourglass_sep.export``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hourglass_sep.support.errors import UserError
from hourglass_sep.support.paths import import_from_here
from hourglass_sep.support.terminal import complain, or_exit, tell_path


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    result = argparse.ArgumentParser(prog="hourglass-sep export", description="Write the mask network as ONNX.")
    result.add_argument("-n", "--name", default="default", help="a name that ships, or a checkpoint file (%(default)s)")
    trust = "import the network class of a checkpoint from this package, and run its code; may be repeated"
    result.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=trust)
    result.add_argument("-o", "--out", type=Path, metavar="FILE.onnx", help="(the weights' name, in this folder)")
    result.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    return result


def run(arguments: Sequence[str] | None = None) -> Path:
    """Export a mask network.

    Args:
        arguments: command line; ``sys.argv[1:]`` by default.

    Returns:
        The ONNX file.

    Raises:
        UserError: the file exists or has another suffix than ``.onnx``, or see
            `hourglass_sep.inference.onnx_file.export`.
    """
    options = parser().parse_args(arguments)
    from hourglass_sep.inference.onnx_file import export  # with torch: --help answers before
    from hourglass_sep.inference.separator import Separator

    out: Path = options.out or Path(f"{Path(options.name).stem}.onnx")
    if out.suffix != ".onnx":
        raise UserError(f"{out} does not end in .onnx: choose another name with -o")
    if out.exists() and not options.overwrite:
        raise UserError(f"{out} exists: replace it with --overwrite, or choose another file with -o")
    if options.trust:
        import_from_here()
    separator = Separator.load(options.name, trust=options.trust)
    complain(export(separator, out, options.overwrite))
    return out


def main() -> None:
    """Run the ``export`` command."""
    tell_path(or_exit(run), sys.stdout)


if __name__ == "__main__":
    main()
