"""Ctrl-C while a command is still importing: print one line and exit with code 130.

Importing this module installs the hook if the main program is this package's. Commands whose imports take seconds
import it first.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

from hourglass_sep.support.terminal import complain


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    complain("error: interrupted before anything was begun: run it again")
    os._exit(130)


if getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "").startswith("hourglass_sep"):
    sys.excepthook = _hook
