"""Scores of single clips, and their averages over a set of clips, for any protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.scoring.averages import average_score
from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB, as_channels
from hourglass_sep.scoring.protocols import ScoringProtocol

Row = dict[str, Any]
"""Scores of one clip, system and source: clip, system, source, n_samples, and the metrics in dB (None: no score)."""

Summary = dict[str, dict[str, dict[str, float | None]]]
"""``summary[system][source]``: averages in dB by their names in lower case, and ``clips``, the number of rows."""


def score_clip(
    protocol: ScoringProtocol,
    clip: str,
    references: Tensor,
    estimates: Mapping[str, Tensor],
    sample_rate_hz: int,
    sources: Sequence[str] = SOURCES,
) -> list[Row]:
    """Score the estimates of all systems and the unprocessed mixture on one clip.

    Args:
        protocol: the scoring protocol.
        clip: name of the clip.
        references: (S, N) or (S, C, N).
        estimates: estimates of the references' shape by system name.
        sample_rate_hz: sample rate in Hz of references and estimates.
        sources: names of the S sources.

    Returns:
        A row for each system and source, those of the mixture first.
    """
    systems = {name: as_channels(estimate) for name, estimate in estimates.items()}
    scores = protocol.score(as_channels(references), systems, sample_rate_hz)
    return [
        {"clip": clip, "system": system, "source": source, "n_samples": references.shape[-1]}
        | {metric: _plain(float(values[metric][s])) for metric in protocol.metrics}
        for system, values in scores.items()
        for s, source in enumerate(sources)
    ]


def score_batch(protocol, clip, estimates, sources):  # type: ignore[no-untyped-def]
    """Stub."""
    return score_clip(protocol, clip.name, clip.sources, estimates, clip.sample_rate_hz, sources)


def _plain(value: float) -> float | None:
    """Return the score, or None if it is not finite or above `MEANINGLESS_DB` (where it measures rounding)."""
    return value if math.isfinite(value) and value <= MEANINGLESS_DB else None


def merge_rows(parts: Iterable[Sequence[Row]]) -> list[Row]:
    """Merge the rows of several processes into one list, without duplicates, sorted by clip name."""
    unique = {(row["clip"], row["system"], row["source"]): row for part in parts for row in part}
    return sorted(unique.values(), key=lambda row: row["clip"])


def summarise(rows: Sequence[Row], headline: Mapping[str, str], average: str) -> Summary:
    """Average over clips, leaving out the rows without a score.

    Args:
        rows: rows of one protocol.
        headline: labels of the averages by metric, see `ScoringProtocol.headline`.
        average: a name from `hourglass_sep.scoring.averages.AVERAGES`.

    Returns:
        The averages by system and source.
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
    """Convert a label to its form in files and logs: ``SI-SDR`` to ``si_sdr``."""
    return label.lower().replace("-", "_")


def as_metrics(rows: Sequence[Row], protocol: ScoringProtocol, system: str, prefix: str) -> dict[str, float]:
    """Averages of one system by their names in logs, for example ``PREFIX/gnsdr_vocals``; NaN for no score."""
    return {
        f"{prefix}/{name}_{source}": math.nan if value is None else value
        for source, scores in summarise(rows, protocol.headline, protocol.average).get(system, {}).items()
        for name, value in scores.items()
        if name != "clips"
    }


def count_unscored(rows: Sequence[Row], metric: str) -> int:
    """Number of rows without a score of ``metric``, which averages leave out."""
    return sum(row[metric] is None for row in rows)
