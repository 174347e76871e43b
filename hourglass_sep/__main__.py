"""``python -m hourglass_sep`` is ``hourglass-sep``."""

from hourglass_sep.cli import main

main()
