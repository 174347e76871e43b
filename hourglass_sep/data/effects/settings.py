"""Settings of effects: their checks, and draws from ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hourglass_sep.support.errors import SettingError

Range = tuple[float, float]
"""Smallest and largest value that is drawn."""


def check_range(key: str, value: Sequence[float], low: float, high: float) -> Range:
    """Check a range of a parameter.

    Args:
        key: config key, for the message.
        value: smallest and largest value.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        SettingError: not two numbers from ``low`` to ``high``, the smaller one first.
    """
    found = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    numbers = found if isinstance(found, list) and len(found) == 2 else []
    valid = [isinstance(each, int | float) and not isinstance(each, bool) for each in numbers]
    if not (valid and all(valid) and low <= numbers[0] <= numbers[1] <= high):
        raise SettingError(f"{key}={found!r} is not allowed: give [SMALLEST, LARGEST], from {low:g} to {high:g}")
    return float(numbers[0]), float(numbers[1])


def check_flag(key: str, value: object) -> None:
    """Check that a setting is true or false.

    Raises:
        SettingError: another value; it names ``key``.
    """
    if not isinstance(value, bool):
        raise SettingError(f"{key}={value!r} is not allowed: give true or false")


def uniform(rng: np.random.Generator, limits: Range) -> float:
    """Draw a value uniformly."""
    return float(rng.uniform(*limits))


def log_uniform(rng: np.random.Generator, limits: Range) -> float:
    """Draw a positive value whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))
