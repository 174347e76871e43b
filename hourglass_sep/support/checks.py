"""Checks of settings, so that a wrong one is named by its config key."""

from __future__ import annotations

from collections.abc import Sequence

from hourglass_sep.support.errors import SettingError

LARGEST_SEED = 2**32 - 1
_LARGEST_DB = 1e6


def check_whole(key: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Accept whole numbers from ``least`` on, up to ``most``.

    Raises:
        SettingError: the value is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingError(f"{key}={value!r} is not allowed: give a whole number from {least} on")
    if most is not None and value > most:
        raise SettingError(f"{key}={value!r} is not allowed: give a whole number from {least} to {most}")


def check_choice(key: str, value: object, allowed: Sequence[str]) -> None:
    """Accept one of some names.

    Raises:
        SettingError: the value is something else.
    """
    if value not in allowed:
        raise SettingError(f"{key}={value!r} is not allowed: choose from {', '.join(allowed)}")


def is_score(value: object) -> bool:
    """Whether what a file gives as a score can be computed with: a number in dB, or NaN, which other programs write."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > _LARGEST_DB
