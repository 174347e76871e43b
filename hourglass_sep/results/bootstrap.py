"""95 % intervals of averages over clips, and of paired differences: the percentile bootstrap (Efron, 1979).

Clips of one singer, and of one song, are not independent. Intervals from resampled clips say how far an average would
move with other clips of the same singers; for singers that were never heard they are too narrow. Clips can be drawn by
the group instead (the cluster bootstrap), which needs more than a handful of groups to mean anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hourglass_sep.scoring.averages import Array, average, averages_of_draws, checked

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK_CELLS = 1 << 23


class Interval(NamedTuple):
    """An average or a difference, in dB, with the ends of its interval.

    Attributes:
        value: of the clips themselves; NaN where there are none.
        low: lower end; NaN, as `high`, where fewer than two clips or groups leave nothing to resample.
        high: upper end.
        clips: how many clips count.
    """

    value: float
    low: float
    high: float
    clips: int


def interval(
    values: ArrayLike, n_samples: ArrayLike, kind: str, groups: Sequence[str] | None = None, seed: int = 0
) -> Interval:
    """An average over clips with its 95 % interval; clips are drawn together with their lengths.

    Args:
        values: one score a clip, in dB, all finite.
        n_samples: the clips' lengths.
        kind: a name from `AVERAGES`.
        groups: the clips' groups, which are then what is drawn, as a whole; by default each clip is its own.
        seed: of the draws. The same clips under the same seed are drawn alike, whatever the scores.

    Raises:
        ValueError: an unknown kind, or not one length and group for each value.
    """
    values, n_samples = checked(values, n_samples, kind)
    return _interval([values], n_samples, kind, groups, seed)


def paired_interval(
    first: ArrayLike,
    second: ArrayLike,
    n_samples: ArrayLike,
    kind: str,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Interval:
    """The first system's average minus the second's, over the same clips, with its 95 % interval.

    Both are averaged over the same draws: how hard the drawn clips are cancels out of the difference.

    Args:
        first: one score a clip, in dB, all finite.
        second: the other system's scores of the same clips.
        n_samples: the clips' lengths.
        kind: a name from `AVERAGES`.
        groups: as for `interval`.
        seed: of the draws.

    Raises:
        ValueError: an unknown kind, or not one score, length and group for each clip.
    """
    first, n_samples = checked(first, n_samples, kind)
    second, n_samples = checked(second, n_samples, kind)
    return _interval([first, second], n_samples, kind, groups, seed)


def _interval(
    systems: Sequence[Array], n_samples: Array, kind: str, groups: Sequence[str] | None, seed: int
) -> Interval:
    """The average of one system, or the first's minus the second's."""
    n_clips = len(n_samples)
    if groups is not None and len(groups) != n_clips:
        raise ValueError(f"{len(groups)} groups for {n_clips} values, allowed: one each")
    value, *others = [average(values, n_samples, kind) for values in systems]
    value -= sum(others)
    # Groups as numbers in the order of their first clip: what is drawn does not depend on their names.
    numbers = range(n_clips) if groups is None else map(list(dict.fromkeys(groups)).index, groups)
    members = tuple(numbers)
    if len(set(members)) < 2:
        return Interval(value, math.nan, math.nan, n_clips)
    counts = _draw(members, seed)
    drawn, *other_draws = [
        np.concatenate([averages_of_draws(values, n_samples, counts[rows], kind) for rows in _blocks(n_clips)])
        for values in systems
    ]
    low, high = np.quantile(drawn - sum(other_draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), n_clips)


def _blocks(n_clips: int) -> list[slice]:
    """The draws in blocks whose tables fit into memory, whatever the number of clips."""
    size = max(_BLOCK_CELLS // n_clips, 1)
    return [slice(first, min(first + size, RESAMPLES)) for first in range(0, RESAMPLES, size)]


@lru_cache(maxsize=2)  # systems share their clips
def _draw(members: tuple[int, ...], seed: int) -> NDArray[np.uint16]:
    """How often each draw holds each clip, (`RESAMPLES`, n_clips), from the clips' group numbers."""
    n_groups = max(members) + 1
    places = np.array(members)
    generator = np.random.default_rng(seed)
    counts = np.empty((RESAMPLES, len(members)), np.uint16)
    for rows in _blocks(max(n_groups, len(members))):
        n_draws = rows.stop - rows.start
        chosen = generator.integers(n_groups, size=(n_draws, n_groups))
        flat = (chosen + n_groups * np.arange(n_draws)[:, None]).ravel()
        counts[rows] = np.bincount(flat, minlength=n_draws * n_groups).reshape(n_draws, n_groups)[:, places]
    return counts
