"""Where the packaged files lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

CONFIG_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
"""Hydra's config folder: inside the package when installed from a wheel, beside it in a checkout."""

WEIGHTS_DIR = _PACKAGE / "weights"
"""The weights that ship with the package: NAME.safetensors with its card NAME.json."""
