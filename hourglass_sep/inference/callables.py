"""Checks of a user's refinement and reconstruction: errors name the callable, where it is called."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hourglass_sep.support.errors import SettingError


def check_callable(name: str, part: object) -> None:
    """Check that a setting is a function or an object that can be called.

    Raises:
        SettingError: it is something else, for example a class.
    """
    if isinstance(part, type) or not callable(part):
        raise SettingError(f"{name}={part!r} is not allowed: give a function, or an object that can be called")


def check_result(name: str, result: object, shape: Sequence[int], source: Tensor) -> None:
    """Check what a callable returned.

    Args:
        name: ``refine`` or ``reconstruct``.
        result: the value that it returned.
        shape: the shape that it should have.
        source: its argument: where that is finite, the result should be finite as well.

    Raises:
        SettingError: not a tensor, another shape, or values that are not finite.
    """
    if not isinstance(result, Tensor):
        raise SettingError(f"{name} returned a {type(result).__name__}: return a tensor of shape {tuple(shape)}")
    if result.shape != tuple(shape):
        raise SettingError(f"{name} returned shape {tuple(result.shape)}: return {tuple(shape)}")
    if not bool(result.isfinite().all()) and bool(source.isfinite().all()):
        raise SettingError(f"{name} returned NaN or infinite values: return finite ones")
