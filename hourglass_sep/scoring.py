"""Scores by clip and over a whole set: GNSDR, GSIR and GSAR as the MIR-1K literature reports them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from hourglass_sep.constants import SOURCES
from hourglass_sep.metrics import MEANINGLESS_DB, BssEval, global_score, nsdr

Row = dict[str, Any]
"""One clip, system and source: clip, system, source, n_samples, then sdr, nsdr, sir and sar in dB (None: no score)."""

MIXTURE = "mixture"
METRICS = ("nsdr", "sir", "sar")


def score_clip(clip: str, references: Tensor, estimates: Mapping[str, Tensor]) -> list[Row]:
    """Score every system's estimate of one clip, the unprocessed mixture among them.

    Args:
        clip: its name.
        references: (S, N) at the rate that is scored.
        estimates: system name to (S, N).

    Returns:
        A row for each system and source, the mixture's first.
    """
    evaluate = BssEval(references)
    mixture = references.sum(0, keepdim=True).expand_as(references)
    mixture_scores = evaluate(mixture)
    rows = []
    for system, scores in [(MIXTURE, mixture_scores)] + [
        (name, evaluate(estimate)) for name, estimate in estimates.items()
    ]:
        gains = nsdr(scores.sdr, mixture_scores.sdr)
        for s, source in enumerate(SOURCES):
            values = {"sdr": scores.sdr[s], "nsdr": gains[s], "sir": scores.sir[s], "sar": scores.sar[s]}
            rows.append(
                {"clip": clip, "system": system, "source": source, "n_samples": references.shape[-1]}
                | {name: _plain(float(value)) for name, value in values.items()}
            )
    return rows


def _plain(value: float) -> float | None:
    """A number that means something, or None: NaN by rule, or so high that only rounding errors were measured."""
    return value if math.isfinite(value) and value <= MEANINGLESS_DB else None


def merge_rows(parts: Iterable[Sequence[Row]]) -> list[Row]:
    """Rows of several processes as one list, none twice, in the order of the clips' names."""
    unique = {(row["clip"], row["system"], row["source"]): row for part in parts for row in part}
    order = {source: s for s, source in enumerate(SOURCES)}
    return sorted(unique.values(), key=lambda row: (row["clip"], row["system"], order[row["source"]]))


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float | None]]]:
    """GNSDR, GSIR and GSAR: averages over the clips, weighted by their length, without the rows that have no score.

    Returns:
        ``summary[system][source]`` with ``gnsdr``, ``gsir``, ``gsar`` in dB (None where no clip has a score) and
        ``clips``, how many rows there are.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["source"]), []).append(row)
    summary: dict[str, dict[str, dict[str, float | None]]] = {}
    for (system, source), group in groups.items():
        lengths = [row["n_samples"] for row in group]
        scores: dict[str, float | None] = {"clips": len(group)}
        for metric in METRICS:
            values = [math.nan if row[metric] is None else row[metric] for row in group]
            scores[f"g{metric}"] = _plain(global_score(values, lengths))
        summary.setdefault(system, {})[source] = scores
    return summary


def as_metrics(rows: Sequence[Row], system: str, prefix: str) -> dict[str, float]:
    """One system's global scores under the names they are logged by: ``PREFIX/gnsdr_vocals``, NaN for no score."""
    return {
        f"{prefix}/g{metric}_{source}": math.nan if scores[f"g{metric}"] is None else float(scores[f"g{metric}"] or 0.0)
        for source, scores in summarise(rows).get(system, {}).items()
        for metric in METRICS
    }


def count_unscored(rows: Sequence[Row]) -> int:
    """How many rows are left out of the averages because they have no SDR."""
    return sum(row["sdr"] is None for row in rows)
