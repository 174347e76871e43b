"""Quoting of command-line arguments for Hydra's grammar of overrides.

File names may contain characters with a meaning in it: ``ckpt_path=epoch=3-step=8.ckpt``, ``data.root=MIR (1)``.
"""

from __future__ import annotations

import os
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from hourglass_sep.support.errors import UserError

_PATHS = re.compile(
    r"(ckpt_path|init_from|data\.(\w+\.)*(root|cache_dir)|paths\.\w+|hydra\.(run|sweep)\.dir|(\w+\.)*(dirpath|save_dir|default_root_dir))$"
)
_SUM = re.compile(r"[^\[\],'\"]*=[^\[\],'\"]*")
"""An item of a list of sources that is a sum of stems, ``accompaniment=drums+bass+other``."""

_ARGUMENT = re.compile(r"(?P<mark>\+\+|\+|)(?P<key>[\w./@:\-]+)=(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"", re.DOTALL)


def hydra_arguments(arguments: list[str]) -> list[str]:
    """Quote all arguments of a command where needed; see `hydra_argument`."""
    multirun = any(argument in ("-m", "--multirun") for argument in arguments)
    return [hydra_argument(argument, multirun) for argument in arguments]


def hydra_argument(argument: str, multirun: bool = False) -> str:
    """Quote the value of an argument if it is a path, or if Hydra's grammar cannot parse it.

    Paths that are empty, ``null`` or quoted already stay as they are. So do interpolations (``${...}``) and, in a
    multirun, sweeps over several paths, unless there is a file or folder of exactly that name.

    Args:
        argument: argument as typed, ``key=value`` or an option.
        multirun: whether the command is a multirun, in which commas separate the values of a sweep.

    Returns:
        The argument for Hydra, with ``~`` expanded where the value was quoted or is a path.

    Raises:
        UserError: a list, dictionary, quoted text or interpolation that cannot be parsed.
    """
    found = _ARGUMENT.fullmatch(argument)
    if not found or argument.startswith("-"):
        return argument
    mark, key, value = found["mark"], found["key"], found["value"]
    if _PATHS.match(key):
        return f"{mark}{key}={_path(key, os.path.expanduser(value), multirun)}"
    if _is_read(argument):
        return argument
    if key.rpartition(".")[2] == "sources":
        value = _SUM.sub(lambda item: quote(item[0]), value)
        if _is_read(f"{mark}{key}={value}"):
            return f"{mark}{key}={value}"
    if value[:1] in ("[", "{", "'", '"') or "${" in value:
        raise UserError(f"{argument} cannot be read: close brackets and quotes, or write \"{key}='...'\" around a text")
    return f"{mark}{key}={quote(os.path.expanduser(value))}"


def quote(text: str) -> str:
    """Put a text in single quotes and escape it, so that Hydra and OmegaConf return it unchanged."""
    text = re.sub(r"(\\*)(['$])", lambda m: m[1] * 2 + "\\" + m[2] if m[2] == "'" else m[0], text)
    text = re.sub(r"\\+$", lambda m: m[0] * 2, text)
    return "'" + text.replace("${", r"\${") + "'"


def _path(key: str, value: str, multirun: bool) -> str:
    if value in ("", "null") or _QUOTED.fullmatch(value):
        return value
    if os.path.lexists(value):
        return quote(value)
    if "${" in value and _is_read(f"{key}={value}"):
        return value
    if multirun and "," in value:
        if _is_read(f"{key}={value}"):
            return value
        return ",".join(_path(key, part, multirun) for part in value.split(","))
    return quote(value)


def _is_read(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True
