"""List weights: ``hourglass-sep models``, or ``python -m hourglass_sep.models``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from hourglass_sep.checkpoints.shipped import Summary, shipped_names, shipped_summary, summarise
from hourglass_sep.songs.model_table import show_models
from hourglass_sep.support.terminal import or_exit, tell


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep models",
        description="List weights with their sources, rate, channels, size, scores, data and licence.",
    )
    result.add_argument(
        "names", nargs="*", metavar="WEIGHTS", help="names that ship, or checkpoint files (all that ship)"
    )
    result.add_argument("--json", action="store_true", help="print one JSON object instead")
    return result


def run(arguments: Sequence[str] | None = None) -> list[Summary]:
    """Print the weights.

    Args:
        arguments: command line; ``sys.argv[1:]`` by default.

    Returns:
        What is printed, see `hourglass_sep.checkpoints.shipped.summarise`.

    Raises:
        CheckpointError: no weights of a name, or a file that cannot be read.
    """
    options = parser().parse_args(arguments)
    shipped = shipped_names()
    found = [shipped_summary(name) if name in shipped else _of_file(name) for name in options.names or shipped]
    if options.json:
        tell(json.dumps({"models": found}, indent=1, allow_nan=False), sys.stdout)
    else:
        show_models(found)
    return found


def _of_file(name: str) -> Summary:
    """Summary of a checkpoint file; no network is built, and no class of another package imported."""
    from hourglass_sep.checkpoints import store  # with torch: the weights that ship are listed without

    path = store.located(name)
    description, weights = store.read_unbuilt(path)
    parameters = sum(value.numel() for value in weights.values() if hasattr(value, "numel"))
    return summarise(name, description, parameters, path.expanduser().stat().st_size)


def main() -> None:
    """Run the ``models`` command."""
    or_exit(run)


if __name__ == "__main__":
    main()
