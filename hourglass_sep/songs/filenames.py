"""Names of output files: their pattern, and valid and different names for the sources of any weights."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from string import Formatter

from hourglass_sep.support.errors import SettingError

FIELDS = ("folder", "track", "trackext", "stem", "ext")
"""Fields of the pattern."""


def check_filename(text: str) -> None:
    """Check a pattern of file names.

    Raises:
        SettingError: the pattern has invalid syntax or an unknown field, or leads outside of the folder.
    """
    try:
        parts = list(Formatter().parse(text))
        for _, name, form, conversion in parts:
            if name in FIELDS and (form or conversion):  # {track:>9999999999} would take all memory
                raise ValueError("fields take no format or conversion: {" + name + "} is all there is")
        if "\0" in text:
            raise ValueError("there is a NUL in it")
    except ValueError as error:
        raise SettingError(f"--filename {text!r} cannot be read ({error})") from error
    wrong = {name for _, name, _, _ in parts if name is not None} - set(FIELDS)
    if wrong:
        names = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise SettingError(f"--filename has the field {{{min(wrong)}}}: choose from {names}")
    if leaves(text.format(**dict.fromkeys(FIELDS, "x"))):
        raise SettingError(f"--filename {text!r} leaves the folder for stems: say with -o where that is")


def leaves(name: str) -> bool:
    """Whether a name, joined to a folder, could lead outside of it: it is absolute or has ``..``."""
    path = Path(name)
    return bool(path.anchor) or ".." in path.parts


def file_names(sources: Sequence[str]) -> dict[str, str]:
    """Names of sources in file names, which differ and are valid on file systems that ignore case, and on Windows.

    They do not end in dots or spaces, and begin with a letter or digit as the names of sources do, so that none is
    ``..``. Of names that would be one, the later ones are numbered.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for source in sources:
        base = source.rstrip(". ")
        base = f"{base}_" if PureWindowsPath(base).is_reserved() else base
        name, number = base, 1
        while folded(name) in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(folded(name))
        found[source] = name
    return found


def folded(name: str) -> str:
    """Key of a file's name, equal for names that are one on a file system that ignores case or normalises accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
