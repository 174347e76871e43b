"""Checks of settings, whose error messages name the config key."""

from __future__ import annotations

from collections.abc import Sequence

from hourglass_sep.support.errors import SettingError

LARGEST_SEED = 2**32 - 1
_LARGEST_DB = 1e6


def check_whole(key: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Check that a setting is a whole number from ``least`` to ``most``.

    Args:
        key: config key, for the message.
        value: value of the setting.
        least: smallest valid value.
        most: largest valid value; no upper limit if None.

    Raises:
        SettingError: the value is not a whole number, or out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingError(f"{key}={value!r} is not allowed: give a whole number from {least} on")
    if most is not None and value > most:
        raise SettingError(f"{key}={value!r} is not allowed: give a whole number from {least} to {most}")


def check_choice(key: str, value: object, allowed: Sequence[str]) -> None:
    """Check that a setting is one of the allowed names.

    Args:
        key: config key, for the message.
        value: value of the setting.
        allowed: the valid names.

    Raises:
        SettingError: the value is not one of them.
    """
    if value not in allowed:
        raise SettingError(f"{key}={value!r} is not allowed: choose from {', '.join(allowed)}")


def is_score(value: object) -> bool:
    """Whether a value read from a file is a valid score: a number in dB of at most 1e6 in magnitude, or NaN.

    NaN is valid because other programs write it.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > _LARGEST_DB
