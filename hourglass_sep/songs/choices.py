"""Choices of the ``separate`` command and its stems, importable without torch, so that ``--help`` is fast."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from hourglass_sep.support.errors import SettingError

FORMAT_NAMES = ("wav", "flac", "mp3", "ogg")
"""Formats of stems, by suffix: the keys of `hourglass_sep.audio.FORMATS`."""

BIT_DEPTHS = ("16", "24", "float32")
"""Bit depths of the formats that have several, see `hourglass_sep.audio.FORMATS`."""

CLIP_MODES = ("none", "rescale", "clamp")
OTHER_METHODS = ("none", "add", "minus")

OUT = "separated"
"""Default folder of the stems."""

FILENAME = "{track}/{stem}.{ext}"
"""Default pattern of a stem's path below that folder."""

_FIRST = "vocals"


def in_written_order(sources: Sequence[str]) -> list[str]:
    """Sources in the order in which their stems are written: vocals first, then as in the weights."""
    return sorted(sources, key=lambda source: source != _FIRST)


def check_stems(stems: Sequence[str] | None, two_stems: str | None, sources: Sequence[str]) -> None:
    """Check ``--stems`` and ``--two-stems``.

    Args:
        stems: stems to write; None for all.
        two_stems: the stem to write together with the rest, if that is asked for.
        sources: sources of the weights.

    Raises:
        SettingError: a stem is not among the sources, or there is none.
    """
    there = ", ".join(in_written_order(sources))
    if stems is not None and not stems:
        raise SettingError(f"--stems is empty: choose from {there}")
    for option, names in (("--stems", stems or ()), ("--two-stems", () if two_stems is None else (two_stems,))):
        for name in names:
            if name not in sources:
                lowered = {source.casefold(): source for source in sources}
                near = difflib.get_close_matches(name.casefold(), lowered, 1)
                guess = f"did you mean {lowered[near[0]]}? " if near else ""
                raise SettingError(f"{option} {name!r} is no stem of these weights: {guess}they have {there}")
