"""Where the packaged files lie."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

CONFIG_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
"""Hydra's config folder: inside the package when installed from a wheel, beside it in a checkout."""

WEIGHTS_DIR = _PACKAGE / "weights"
"""The weights that ship with the package: NAME.safetensors with its card NAME.json."""


def at_home(path: str | Path) -> Path:
    """A path with ``~`` as the home folder; one of nobody's home (``~x``) is a file of that name."""
    return Path(os.path.expanduser(path))
