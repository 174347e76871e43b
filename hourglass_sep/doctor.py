"""Say what works here and what to do about the rest: ``hourglass-sep doctor``, or ``python -m hourglass_sep.doctor``.

The exit code is 0 if everything works that separating songs needs: neither a GPU, nor MIR-1K, nor a W&B account.
Nothing is sent anywhere, and no key is printed. Everything is imported where it is used: whatever is broken, the rest
is still examined (`hourglass_sep.diagnostics`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from hourglass_sep.diagnostics.examine import examine, show
from hourglass_sep.support.terminal import or_exit


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep doctor", description="Say what works here, and what to do about the rest."
    )
    result.add_argument("--json", action="store_true", help="print one JSON object instead")
    return result


def run(arguments: Sequence[str] | None = None) -> int:
    """Examine and print.

    Returns:
        The exit code: 1 if something does not work that separating songs needs.
    """
    options = parser().parse_args(arguments)
    found = examine()
    if not options.json:
        try:
            show(found)
            return 0 if found["works"] else 1
        except ImportError:  # no rich: the report says so, too
            pass
    print(json.dumps(found, indent=1, allow_nan=False), flush=True)
    return 0 if found["works"] else 1


def main() -> None:
    """The command."""
    raise SystemExit(or_exit(run))


if __name__ == "__main__":
    main()
