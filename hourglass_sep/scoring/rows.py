"""Scores of single clips, and their averages over a set of clips, for any protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.scoring.averages import average_score
from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB
from hourglass_sep.scoring.bsseval.signals import as_channels
from hourglass_sep.scoring.protocols import ScoringProtocol

Row = dict[str, Any]
"""Scores of one clip, system and source: clip, group (singer or artist, '' if unknown), system, source, n_samples,
seconds (None where files of earlier versions do not say the rate), and the metrics in dB (None: no score)."""

Summary = dict[str, dict[str, dict[str, float | None]]]
"""``summary[system][source]``: averages in dB by their names in lower case, and ``clips``, the number of rows."""


def score_clip(
    protocol: ScoringProtocol,
    clip: str,
    references: Tensor,
    estimates: Mapping[str, Tensor],
    sample_rate_hz: int,
    sources: Sequence[str] = SOURCES,
    group: str = "",
    mixture: Tensor | None = None,
) -> list[Row]:
    """Score the estimates of all systems and the unprocessed mixture on one clip.

    Args:
        protocol: the scoring protocol.
        clip: name of the clip.
        references: (S, N) or (S, C, N).
        estimates: estimates of the references' shape by system name; each is looked up once.
        sample_rate_hz: sample rate in Hz of references and estimates.
        sources: names of the S sources.
        group: singer or artist of the clip; '' if unknown.
        mixture: the unprocessed mixture (N) or (C, N), see `ScoringProtocol.score`.

    Returns:
        A row for each system and source, those of the mixture first.
    """
    whole = None if mixture is None else torch.atleast_2d(mixture)
    scores = protocol.score(as_channels(references), estimates, sample_rate_hz, whole)
    n_samples = references.shape[-1]
    length = {"n_samples": n_samples, "seconds": n_samples / sample_rate_hz}
    return [
        {"clip": clip, "group": group, "system": system, "source": source}
        | length
        | {metric: _plain(float(values[metric][s])) for metric in protocol.metrics}
        for system, values in scores.items()
        for s, source in enumerate(sources)
    ]


def lengths(rows: Sequence[Row]) -> list[float]:
    """Lengths of clips as weights of averages: in s if their sample rates differ, otherwise in samples."""
    samples = [row["n_samples"] for row in rows]
    seconds = [row.get("seconds") for row in rows]
    known = [length for length in seconds if length is not None]
    if len(known) < len(samples):  # rows of earlier versions: all of one rate
        return samples
    rates = {round(n_samples / length) for n_samples, length in zip(samples, known, strict=True)}
    return known if len(rates) > 1 else samples


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
        scores: dict[str, float | None] = {"clips": len(group)}
        for metric, label in headline.items():
            values = [math.nan if row[metric] is None else row[metric] for row in group]
            scores[key(label)] = _plain(average_score(values, lengths(group), average))
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
