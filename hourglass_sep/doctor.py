"""Check the installation: ``hourglass-sep doctor``, or ``python -m hourglass_sep.doctor``.

The exit code is 0 if everything works that separating songs needs; a GPU, MIR-1K and a W&B account are not needed.
Nothing is sent anywhere, and no key is printed. The checks (`hourglass_sep.diagnostics`) import packages where they use
them, so that a broken package does not keep the others from being checked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from hourglass_sep.diagnostics.examine import examine, show
from hourglass_sep.support.terminal import or_exit


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep doctor", description="Say what works here, and what to do about the rest."
    )
    result.add_argument("--json", action="store_true", help="print one JSON object instead")
    return result


def run(arguments: Sequence[str] | None = None) -> int:
    """Run all checks and print the findings.

    Args:
        arguments: command line; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0, or 1 if something that separating songs needs does not work.
    """
    options = parser().parse_args(arguments)
    found = examine()
    if not options.json:
        try:
            show(found)
            return 0 if found["works"] else 1
        except ImportError:  # rich is missing, which is one of the findings: print JSON instead
            pass
    print(json.dumps(found, indent=1, allow_nan=False), flush=True)
    return 0 if found["works"] else 1


def main() -> None:
    """Run the ``doctor`` command."""
    raise SystemExit(or_exit(run))


if __name__ == "__main__":
    main()
