"""Where the packaged files lie."""

import os
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parents[1]

CONFIG_DIR = PACKAGE_DIR / "conf" if (PACKAGE_DIR / "conf").is_dir() else PACKAGE_DIR.parent / "conf"
"""Hydra's config folder: inside the package when installed from a wheel, beside it in a checkout."""

WEIGHTS_DIR = PACKAGE_DIR / "weights"
"""The weights that ship with the package: NAME.safetensors with its card NAME.json."""


def at_home(path: str | Path) -> Path:
    """A path with ``~`` as the home folder; one of nobody's home (``~x``) is a file of that name."""
    return Path(os.path.expanduser(path))
