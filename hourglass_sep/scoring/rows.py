"""Scores by clip and over a whole set, under any protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from hourglass_sep.scoring.averages import average_score
from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB, as_channels
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.signal.stems import SOURCES

Row = dict[str, Any]
"""One clip, system and source: clip, system, source, n_samples, then the protocol's metrics in dB (None: no score)."""

Summary = dict[str, dict[str, dict[str, float | None]]]
"""``summary[system][source]``: averages in dB under their names in lower case, and ``clips``, how many rows."""


def score_clip(
    protocol: ScoringProtocol,
    clip: str,
    references: Tensor,
    estimates: Mapping[str, Tensor],
    sample_rate_hz: int,
    sources: Sequence[str] = SOURCES,
) -> list[Row]:
    """Score every system's estimate of one clip, the unprocessed mixture among them.

    Args:
        protocol: how.
        clip: its name.
        references: (S, N) or (S, C, N).
        estimates: system name to estimates of the references' shape.
        sample_rate_hz: the rate of them all.
        sources: the names of the S sources.

    Returns:
        A row for each system and source, the mixture's first.
    """
    systems = {name: as_channels(estimate) for name, estimate in estimates.items()}
    scores = protocol.score(as_channels(references), systems, sample_rate_hz)
    return [
        {"clip": clip, "system": system, "source": source, "n_samples": references.shape[-1]}
        | {metric: _plain(float(values[metric][s])) for metric in protocol.metrics}
        for system, values in scores.items()
        for s, source in enumerate(sources)
    ]


def _plain(value: float) -> float | None:
    """A number that means something, or None: NaN by rule, or so high that only rounding errors were measured."""
    return value if math.isfinite(value) and value <= MEANINGLESS_DB else None


def merge_rows(parts: Iterable[Sequence[Row]]) -> list[Row]:
    """Rows of several processes as one list, none twice, in the order of the clips' names."""
    unique = {(row["clip"], row["system"], row["source"]): row for part in parts for row in part}
    return sorted(unique.values(), key=lambda row: row["clip"])


def summarise(rows: Sequence[Row], headline: Mapping[str, str], average: str) -> Summary:
    """Averages over clips, without the rows that have no score.

    Args:
        rows: of one protocol.
        headline: the metrics to average and what the averages are called, `ScoringProtocol.headline`.
        average: a name from `hourglass_sep.scoring.averages.AVERAGES`.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["source"]), []).append(row)
    summary: Summary = {}
    for (system, source), group in groups.items():
        lengths = [row["n_samples"] for row in group]
        scores: dict[str, float | None] = {"clips": len(group)}
        for metric, label in headline.items():
            values = [math.nan if row[metric] is None else row[metric] for row in group]
            scores[key(label)] = _plain(average_score(values, lengths, average))
        summary.setdefault(system, {})[source] = scores
    return summary


def key(label: str) -> str:
    """``SI-SDR`` to ``si_sdr``: how a label is spelt in files and logs."""
    return label.lower().replace("-", "_")


def as_metrics(rows: Sequence[Row], protocol: ScoringProtocol, system: str, prefix: str) -> dict[str, float]:
    """One system's averages under the names they are logged by: ``PREFIX/gnsdr_vocals``, NaN for no score."""
    return {
        f"{prefix}/{name}_{source}": math.nan if value is None else value
        for source, scores in summarise(rows, protocol.headline, protocol.average).get(system, {}).items()
        for name, value in scores.items()
        if name != "clips"
    }


def count_unscored(rows: Sequence[Row], metric: str) -> int:
    """How many rows are left out of the averages because they have no score."""
    return sum(row[metric] is None for row in rows)
