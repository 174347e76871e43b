"""Averages of scores over clips, and over random draws of clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB

AVERAGES = {
    "length_weighted_mean": "means over clips, weighted by their length",
    "mean": "means over clips",
    "median": "medians over clips",
}
"""Descriptions of the averages by their names in protocols. The first turns NSDR into GNSDR (Huang et al., ISMIR 2014,
for MIR-1K); the last is the average over tracks in SiSEC and museval."""

Array = NDArray[np.float64]


def average_score(values: Sequence[float], lengths: Sequence[float], kind: str) -> float:
    """Average one metric over clips.

    Args:
        values: one score per clip in dB; values that are not finite or above `MEANINGLESS_DB` are left out.
        lengths: lengths of the clips, all in samples at one sample rate, or all in s.
        kind: a name from `AVERAGES`.

    Returns:
        The average in dB; NaN if no value is left.

    Raises:
        ValueError: unknown kind, numbers of values and lengths differ, or a length is not above 0.
    """
    scores, weights = checked(values, lengths, kind)
    kept = np.isfinite(scores) & (scores <= MEANINGLESS_DB)
    return average(scores[kept], weights[kept], kind)


def average(values: ArrayLike, lengths: ArrayLike, kind: str) -> float:
    """Average values that are all finite, without leaving any out; otherwise as `average_score`."""
    scores, weights = checked(values, lengths, kind)
    return float(averages_of_draws(scores, weights, np.ones((1, len(scores))), kind)[0]) if len(scores) else math.nan


def averages_of_draws(values: Array, lengths: Array, counts: NDArray[Any], kind: str) -> Array:
    """Average the values of each of several draws of clips, for example bootstrap samples.

    Args:
        values: scores (n_clips,) in dB, finite.
        lengths: lengths (n_clips,), all in one unit.
        counts: (n_draws, n_clips), the number of times that each draw contains each clip.
        kind: a name from `AVERAGES`.

    Returns:
        Averages (n_draws,) in dB.
    """
    if kind == "median":
        order = np.argsort(values)
        ranks = counts[:, order].cumsum(1, dtype=np.int64)  # number of clips of the draw with at most this value
        total = ranks[:, -1:]
        middles = [values[order][(ranks > rank).argmax(1)] for rank in ((total - 1) // 2, total // 2)]
        return (middles[0] + middles[1]) / 2
    weights = lengths if kind == "length_weighted_mean" else np.ones_like(lengths)
    counts = counts.astype(np.float64)
    return counts @ (weights * values) / (counts @ weights)


def checked(values: ArrayLike, lengths: ArrayLike, kind: str) -> tuple[Array, Array]:
    """Check values and lengths, and convert them to float64, (n_clips,) each.

    Raises:
        ValueError: see `average_score`.
    """
    if kind not in AVERAGES:
        raise ValueError(f"average {kind!r} is not allowed: choose from {', '.join(AVERAGES)}")
    scores, weights = np.asarray(values, np.float64), np.asarray(lengths, np.float64)
    if scores.ndim != 1 or scores.shape != weights.shape:
        raise ValueError(f"lengths {weights.shape} for values {scores.shape}, allowed: one each")
    if bool((weights <= 0).any()):
        raise ValueError(f"a clip of length {weights.min():g}, allowed: above 0")
    return scores, weights
