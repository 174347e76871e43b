"""95 % intervals of averages over clips, and of paired differences: the percentile bootstrap (Efron, 1979).

Clips of one group (singer, artist or song) are not independent. Intervals from resampled clips cover the variation of
an average over other clips of the same groups; for new groups they are too narrow. Whole groups of clips can be drawn
instead (the cluster bootstrap), which needs more than a handful of groups to be meaningful.
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
    """An average or a difference of averages, in dB, with its 95 % interval.

    Attributes:
        value: average or difference over all clips, without resampling; NaN for no clips.
        low: lower end of the interval; NaN, like `high`, for fewer than two clips or groups.
        high: upper end of the interval.
        clips: number of clips in the average.
    """

    value: float
    low: float
    high: float
    clips: int


def interval(
    values: ArrayLike, lengths: ArrayLike, kind: str, groups: Sequence[str] | None = None, seed: int = 0
) -> Interval:
    """An average over clips with its 95 % interval; clips are drawn together with their lengths.

    Args:
        values: scores of the clips in dB, (n_clips,), all finite.
        lengths: lengths of the clips, (n_clips,), all in samples at one sample rate, or all in s.
        kind: type of average, a name from `AVERAGES`.
        groups: group name of each clip; whole groups are then drawn. By default single clips are drawn.
        seed: random seed. The draws depend on the seed, the number of clips and their groups, not on the scores.

    Raises:
        ValueError: an unknown kind, or not one length and group for each value.
    """
    values, weights = checked(values, lengths, kind)
    return _interval([values], weights, kind, groups, seed)


def paired_interval(
    first: ArrayLike,
    second: ArrayLike,
    lengths: ArrayLike,
    kind: str,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Interval:
    """The first system's average minus the second's, over the same clips, with its 95 % interval.

    Both are averaged over the same draws, so that the difficulty of the drawn clips cancels out of the difference.

    Args:
        first: scores of the first system in dB, (n_clips,), all finite.
        second: scores of the second system for the same clips, (n_clips,), all finite.
        lengths: lengths of the clips, (n_clips,), all in samples at one sample rate, or all in s.
        kind: type of average, a name from `AVERAGES`.
        groups: group name of each clip, see `interval`.
        seed: random seed, see `interval`.

    Raises:
        ValueError: an unknown kind, or not one score, length and group for each clip.
    """
    first, weights = checked(first, lengths, kind)
    second, weights = checked(second, lengths, kind)
    return _interval([first, second], weights, kind, groups, seed)


def _interval(systems: Sequence[Array], lengths: Array, kind: str, groups: Sequence[str] | None, seed: int) -> Interval:
    """The interval of one system's average, or of the first system's average minus the second's."""
    n_clips = len(lengths)
    if groups is not None and len(groups) != n_clips:
        raise ValueError(f"{len(groups)} groups for {n_clips} values, allowed: one each")
    value, *others = [average(values, lengths, kind) for values in systems]
    value -= sum(others)
    # Groups are numbered in the order of their first clip: the draws do not depend on the groups' names.
    numbers = range(n_clips) if groups is None else map(list(dict.fromkeys(groups)).index, groups)
    members = tuple(numbers)
    if len(set(members)) < 2:
        return Interval(value, math.nan, math.nan, n_clips)
    counts = _draw(members, seed)
    drawn, *other_draws = [
        np.concatenate([averages_of_draws(values, lengths, counts[rows], kind) for rows in _blocks(n_clips)])
        for values in systems
    ]
    low, high = np.quantile(drawn - sum(other_draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), n_clips)


def _blocks(n_clips: int) -> list[slice]:
    """Split the draws into blocks of at most `_BLOCK_CELLS` table cells (draws times clips), to limit memory."""
    size = max(_BLOCK_CELLS // n_clips, 1)
    return [slice(first, min(first + size, RESAMPLES)) for first in range(0, RESAMPLES, size)]


@lru_cache(maxsize=2)  # all systems of a report share their clips, and so their draws
def _draw(members: tuple[int, ...], seed: int) -> NDArray[np.uint16]:
    """Number of times that each draw holds each clip, (`RESAMPLES`, n_clips).

    Args:
        members: group number of each clip, (n_clips,), from 0 on.
        seed: random seed.
    """
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
