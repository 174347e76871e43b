"""Paths of the packaged configs and weights."""

import os
import sys
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parents[1]

CONFIG_DIR = PACKAGE_DIR / "conf" if (PACKAGE_DIR / "conf").is_dir() else PACKAGE_DIR.parent / "conf"
"""Hydra's config folder: inside the package when installed from a wheel, beside it in a checkout."""

WEIGHTS_DIR = PACKAGE_DIR / "weights"
"""Folder of the weights shipped with the package: NAME.safetensors with its card NAME.json."""


def at_home(path: str | Path) -> Path:
    """Expand ``~`` to the home folder; ``~x`` without a user ``x`` stays unchanged and names a file."""
    return Path(os.path.expanduser(path))


def import_from_here() -> None:
    """Make modules in the current folder importable, as ``python -m`` does: for classes of the user's own."""
    if "" not in sys.path:
        sys.path.insert(0, "")
