"""Pools: all score files of one protocol put together, with a unique name for every system."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.results.scores_file import ScoresFile, ranked
from hourglass_sep.scoring.averages import Array, average
from hourglass_sep.scoring.rows import Row, lengths
from hourglass_sep.support.errors import UserError

_SAME_DB = 1e-3  # two scores of the same audio may differ by this much between machines
_MOST_GROUPS = 256

EVERYONE = "all"
"""Group name of the averages over all clips."""


class Column(NamedTuple):
    """Scores of one system, source and metric, without the clips that have no score.

    Attributes:
        clips: names of the clips, (n_clips,).
        values: scores in dB, (n_clips,).
        lengths: lengths of the clips, (n_clips,), all in samples at one rate, or all in s.
    """

    clips: list[str]
    values: Array
    lengths: Array


@dataclass(frozen=True)
class ScoredSystem:
    """One system of one score file.

    Attributes:
        name: its name in the report.
        own_name: its name in the file.
        file: the score file.
        rows: its rows by (clip, source).
    """

    name: str
    own_name: str
    file: ScoresFile
    rows: dict[tuple[str, str], Row]

    @property
    def is_baseline(self) -> bool:
        """Whether the system is a baseline or an oracle: any but the model that its file is about."""
        return self.own_name != self.file.model

    @property
    def clips(self) -> set[str]:
        """Names of its clips, with and without a score."""
        return {clip for clip, _ in self.rows}

    @property
    def sources(self) -> set[str]:
        """Names of its sources."""
        return {source for _, source in self.rows}

    def column(self, source: str, metric: str, clips: Collection[str] | None = None) -> Column:
        """Scores sorted by clip name, without the clips that have none.

        Args:
            source: name of the source.
            metric: name of the metric.
            clips: names of the clips to include; all by default.
        """
        rows = [row for (clip, name), row in self.rows.items() if name == source and (clips is None or clip in clips)]
        kept = sorted((row for row in rows if has_score(row, metric)), key=lambda row: row["clip"])
        return Column(
            [row["clip"] for row in kept],
            np.array([row[metric] for row in kept], np.float64),
            np.array(lengths(kept), np.float64),
        )


@dataclass(frozen=True)
class Pool:
    """All scores of one protocol.

    Attributes:
        protocol: description of the protocol, as in the score files.
        systems: name in the report to system: the mixture, then from the worst to the best by the first headline
            metric.
        sources: names of the sources, the vocals first.
        groups: clip to its group (singer or artist), for the clips whose group is known.
    """

    protocol: dict[str, Any]
    systems: dict[str, ScoredSystem]
    sources: list[str]
    groups: dict[str, str]

    @property
    def title(self) -> str:
        """Name and hash of the protocol."""
        return f"{self.protocol['name']} ({self.protocol['hash']})"

    @property
    def headline(self) -> dict[str, str]:
        """Metric to the label of its average, for the metrics of the main table."""
        return self.protocol["headline"]

    @property
    def metrics(self) -> list[str]:
        """All metrics of the rows, the headline metrics first."""
        return list(dict.fromkeys([*self.headline, *self.protocol["metrics"]]))

    @property
    def average(self) -> str:
        """Type of average over clips, a name from `hourglass_sep.scoring.averages.AVERAGES`."""
        return self.protocol["average"]

    @property
    def clips(self) -> set[str]:
        """Names of all clips."""
        return set().union(*(system.clips for system in self.systems.values()))

    @property
    def tabled_groups(self) -> list[str]:
        """Names of the groups that get tables: none for one group, or too many, or if each clip is a group."""
        names = sorted(set(self.groups.values()))
        return names if 1 < len(names) <= min(_MOST_GROUPS, len(self.groups) - 1) else []

    @property
    def models(self) -> list[ScoredSystem]:
        """The systems that are not baselines."""
        return [system for system in self.systems.values() if not system.is_baseline]

    def find(self, name: str) -> ScoredSystem | None:
        """Find a system by its name, or a model by the name of its file, if that name has exactly one model."""
        by_file = [system for system in self.models if system.file.name == name]
        return self.systems.get(name) or (by_file[0] if len(by_file) == 1 else None)


def spelt(metric: str) -> str:
    """The usual spelling of a metric: ``si_sdr`` to ``SI-SDR``."""
    return metric.upper().replace("_", "-").replace("SDRI", "SDRi")


def has_score(row: Row, metric: str) -> bool:
    """Whether a row has a finite score. No score is null, or NaN in files of other programs."""
    return row[metric] is not None and math.isfinite(row[metric])


def pools(files: Iterable[ScoresFile]) -> list[Pool]:
    """Group score files by protocol, in the order in which the protocols first occur.

    Raises:
        UserError: files of one protocol have different sources.
    """
    by_hash: dict[str, list[ScoresFile]] = {}
    for file in files:
        by_hash.setdefault(file.protocol["hash"], []).append(file)
    return [_pool(group) for group in by_hash.values()]


def _pool(files: Sequence[ScoresFile]) -> Pool:
    protocol = files[0].protocol
    rows = [row for file in files for row in file.rows]
    sources = vocals_first(row["source"] for row in rows)
    systems = _named(files, list(protocol["headline"]))
    stems = {file.path: frozenset(row["source"] for row in file.rows) for file in files}
    if len(set(stems.values())) > 1:
        lists = "; ".join(f"{path}: {', '.join(sorted(names))}" for path, names in stems.items())
        raise UserError(
            f"scores depend on which stems there are, and these files have others ({lists}): report them apart"
        )
    first_metric = next(iter(protocol["headline"]))

    values: dict[str, list[float]] = {}
    for system in systems:
        columns = [system.column(source, first_metric) for source in sources]
        values[system.name] = [average(c.values, c.lengths, protocol["average"]) for c in columns if c.clips]
    order = ranked(values, {system.name for system in systems if system.own_name == MIXTURE})
    by_name = {system.name: system for system in systems}
    groups: dict[str, str] = {}
    for row in rows:
        if row["group"]:
            name = row["group"]
            groups.setdefault(row["clip"], f"{name} (group)" if name == EVERYONE else name)
    return Pool(protocol, {name: by_name[name] for name in order}, sources, groups)


def vocals_first(sources: Iterable[str]) -> list[str]:
    """Names of sources, each once, the vocals first and the others in their order."""
    return sorted(dict.fromkeys(sources), key=lambda source: source != "vocals")


def _named(files: Sequence[ScoresFile], metrics: Sequence[str]) -> list[ScoredSystem]:
    """The systems of all files, under unique names.

    A baseline with equal scores in several files is kept once. Systems that share a name, and models of files that
    the user has named, get the file's name as a prefix.
    """
    groups: dict[str, list[ScoredSystem]] = {}
    for file in files:
        parts: dict[str, dict[tuple[str, str], Row]] = {}
        for row in file.rows:
            parts.setdefault(row["system"], {})[row["clip"], row["source"]] = row
        for own_name, rows in parts.items():
            system = ScoredSystem(own_name, own_name, file, rows)
            known = groups.setdefault(own_name, [])
            if not system.is_baseline or not any(_agree(rows, other.rows, metrics) for other in known):
                known.append(system)
    return [
        ScoredSystem(f"{system.file.name}: {own_name}", own_name, system.file, system.rows)
        if len(group) > 1 or (system.file.named and not system.is_baseline)
        else system
        for own_name, group in groups.items()
        for system in group
    ]


def _agree(first: dict[tuple[str, str], Row], second: dict[tuple[str, str], Row], metrics: Sequence[str]) -> bool:
    """Whether two systems have the same clips, and scores that differ by less than `_SAME_DB`."""

    def same(a: Row, b: Row, metric: str) -> bool:
        if has_score(a, metric) and has_score(b, metric):
            return abs(a[metric] - b[metric]) < _SAME_DB
        return has_score(a, metric) == has_score(b, metric)

    return first.keys() == second.keys() and all(
        row["n_samples"] == second[key]["n_samples"] and all(same(row, second[key], m) for m in metrics)
        for key, row in first.items()
    )
