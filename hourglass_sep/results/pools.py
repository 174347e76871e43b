"""What a report is made from: files of scores, put together by protocol, every system under a name of its own."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hourglass_sep.results.bootstrap import AVERAGES, Array, average
from hourglass_sep.signal.stems import MIXTURE
from hourglass_sep.support.checks import is_score
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.terminal import clean

if TYPE_CHECKING:
    from hourglass_sep.scoring.rows import Row

_SAME_DB = 1e-3  # the same audio scored on another machine
_LONGEST_SAMPLES = 1 << 50
_LONGEST_NAME = 4096
_MOST_BYTES = 1 << 28  # 300 000 clips of two systems and two sources
_MOST = {"system": 256, "source": 64}
_MOST_METRICS = 32
_MOST_SINGERS = 256
_NAME = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True)
class Scores:
    """One file of scores.

    Attributes:
        name: of its model in a report.
        named: whether the user gave the name.
        path: the file.
        protocol: name, hash, metrics, headline, average.
        model: the system that the file is about; all others are baselines.
        audio: where the sounds were that were scored.
        rows: one a clip, system and source.
    """

    name: str
    named: bool
    path: Path
    protocol: dict[str, Any]
    model: str
    audio: dict[str, Any]
    rows: list[Row]


class Column(NamedTuple):
    """The scores of one system, source and metric that there are: clip names, dB and lengths, all (n_clips,)."""

    clips: list[str]
    values: Array
    n_samples: Array


@dataclass(frozen=True)
class System:
    """One system of one file: its `name` in the report, the name it has in the `file`, rows by (clip, source)."""

    name: str
    own_name: str
    file: Scores
    rows: dict[tuple[str, str], Row]

    @property
    def is_baseline(self) -> bool:
        """Whether it only stands beside the models."""
        return self.own_name != self.file.model

    @property
    def clips(self) -> set[str]:
        """The names of its clips."""
        return {clip for clip, _ in self.rows}

    @property
    def sources(self) -> set[str]:
        """The names of its sources."""
        return {source for _, source in self.rows}

    def column(self, source: str, metric: str, clips: Collection[str] | None = None) -> Column:
        """Its scores, or those of some clips, in the order of the clips' names, without clips that have none."""
        rows = [row for (clip, name), row in self.rows.items() if name == source and (clips is None or clip in clips)]
        kept = sorted((row for row in rows if has_score(row, metric)), key=lambda row: row["clip"])
        return Column(
            [row["clip"] for row in kept],
            np.array([row[metric] for row in kept], np.float64),
            np.array([row["n_samples"] for row in kept], np.float64),
        )


@dataclass(frozen=True)
class Pool:
    """All that was scored by one protocol.

    Attributes:
        protocol: as in the files.
        systems: by name in the report: the mixture, then from the worst to the best by the first headline metric.
        sources: the vocals first.
        singers: of every clip that is MIR-1K's.
    """

    protocol: dict[str, Any]
    systems: dict[str, System]
    sources: list[str]
    singers: dict[str, str]

    @property
    def title(self) -> str:
        """Name and hash of the protocol."""
        return f"{self.protocol['name']} ({self.protocol['hash']})"

    @property
    def headline(self) -> dict[str, str]:
        """Metric to the label of its average, for the metrics that are shown."""
        return self.protocol["headline"]

    @property
    def metrics(self) -> list[str]:
        """All metrics that the rows have, those that are shown first."""
        return list(dict.fromkeys([*self.headline, *self.protocol["metrics"]]))

    @property
    def average(self) -> str:
        """How clips are averaged, a name from `hourglass_sep.results.bootstrap.AVERAGES`."""
        return self.protocol["average"]

    @property
    def clips(self) -> set[str]:
        """The names of all clips."""
        return set().union(*(system.clips for system in self.systems.values()))

    @property
    def models(self) -> list[System]:
        """The systems that are no baselines."""
        return [system for system in self.systems.values() if not system.is_baseline]

    def find(self, name: str) -> System | None:
        """A system by its name, or by the name of its file where that has one model."""
        by_file = [system for system in self.models if system.file.name == name]
        return self.systems.get(name) or (by_file[0] if len(by_file) == 1 else None)


def spelt(metric: str) -> str:
    """``si_sdr`` to ``SI-SDR``: how people write a metric."""
    return metric.upper().replace("_", "-").replace("SDRI", "SDRi")


def has_score(row: Row, metric: str) -> bool:
    """Whether a row has a score: null, or NaN where another program wrote it, is none."""
    return row[metric] is not None and math.isfinite(row[metric])


def read_scores(inputs: Sequence[str | Path]) -> list[Scores]:
    """Read files of scores.

    Args:
        inputs: files, folders that hold a ``scores.json``, or NAME=PATH of either.

    Raises:
        UserError: one is missing, no file of scores or without rows, or two have the same name.
    """
    files = [_read(str(text)) for text in inputs]
    for file in files:
        twins = [other.path for other in files if other.name == file.name]
        if len(twins) > 1:
            raise UserError(f"{' and '.join(map(str, twins))} are both called {file.name!r}: give NAME=PATH for each")
    return files


def _read(text: str) -> Scores:
    name, path = "", Path(text)
    if "=" in text and not os.path.exists(text):  # a run folder of a sweep has = in its name
        name, _, rest = text.partition("=")
        path = Path(rest)
    if not str(path.name) and not path.is_absolute() and text not in (".", "./"):
        raise UserError(f"{text!r} names no file: give a scores.json, its folder, or NAME=PATH of either")
    path = path / "scores.json" if os.path.isdir(path) else path
    try:
        with path.open("rb") as file:  # which may be a pipe, or a device that has no end
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES >> 20} MB: name a scores.json with fewer clips")
        content = json.loads(data.decode())
        del data
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a scores.json or its folder") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise UserError(f"{path} is no JSON: name a scores.json that evaluate or score wrote") from error
    problem = clean(_problem(content))
    if problem:
        raise UserError(f"{path} {problem}: make it again with hourglass-sep evaluate or score")
    folder = path.resolve().parent
    own = folder.name if path.name == "scores.json" else path.stem
    audio = content.get("audio") or {}
    return Scores(name or own, bool(name), path, content["protocol"], content["model"], audio, content["rows"])


def _problem(content: Any) -> str:
    """What keeps a file's content from being scores; '' if nothing does."""
    protocol = content.get("protocol") if isinstance(content, dict) else None
    keys = {"name": str, "hash": str, "headline": dict, "metrics": list, "average": str}
    if not isinstance(protocol, dict) or not all(isinstance(protocol.get(key), kind) for key, kind in keys.items()):
        return "is no file of scores (it does not say by which protocol)"
    if not isinstance(content.get("model"), str):
        return "does not name its model"
    words = [*protocol["metrics"], *protocol["headline"].values(), protocol.get("description", "")]
    if not all(isinstance(word, str) for word in words) or not isinstance(content.get("audio") or {}, dict):
        return "has a protocol or a place of its sounds that is not understood"
    if not all(_NAME.fullmatch(metric) for metric in (*protocol["metrics"], *protocol["headline"])):
        return "has a metric whose name is none"  # pictures are named by it
    if not protocol["headline"] or protocol["average"] not in AVERAGES:
        return f"has a protocol without headline metrics, or with an average other than {', '.join(AVERAGES)}"
    if len({*protocol["metrics"], *protocol["headline"]}) > _MOST_METRICS:
        return f"has more than {_MOST_METRICS} metrics"
    rows = content.get("rows")
    if not isinstance(rows, list) or not rows:
        return "has no rows"
    seen: set[tuple[Any, ...]] = set()
    for number, row in enumerate(rows):
        names = tuple(row.get(key) for key in ("clip", "system", "source")) if isinstance(row, dict) else ()
        if not names or not all(isinstance(name, str) for name in names):
            return f"has a row without clip, system or source (number {number})"
        if max(len(str(name)) for name in names) > _LONGEST_NAME:
            return f"has a row with a name of more than {_LONGEST_NAME} characters (number {number})"
        length = row.get("n_samples")
        if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= _LONGEST_SAMPLES:
            return f"has a row without n_samples (number {number})"
        for metric in (*protocol["headline"], *protocol["metrics"]):
            if metric not in row or not (row[metric] is None or is_score(row[metric])):
                return f"has a row without {metric} (number {number})"
        if names in seen:
            return f"has {' / '.join(names)} twice"
        seen.add(names)
    for key, most in _MOST.items():
        if len({row[key] for row in rows}) > most:
            return f"has more than {most} {key}s"
    return ""


def pools(files: Iterable[Scores]) -> list[Pool]:
    """Put the files of each protocol together, in the order in which the protocols come."""
    by_hash: dict[str, list[Scores]] = {}
    for file in files:
        by_hash.setdefault(file.protocol["hash"], []).append(file)
    return [_pool(group) for group in by_hash.values()]


def _pool(files: Sequence[Scores]) -> Pool:
    protocol = files[0].protocol
    rows = [row for file in files for row in file.rows]
    sources = sorted(dict.fromkeys(row["source"] for row in rows), key=lambda source: source != "vocals")
    ours = [row for file in files if file.audio.get("kind") == "mir1k" for row in file.rows]
    systems = _named(files, list(protocol["headline"]))
    stems = {file.path: frozenset(row["source"] for row in file.rows) for file in files}
    if len(set(stems.values())) > 1:
        lists = "; ".join(f"{path}: {', '.join(sorted(names))}" for path, names in stems.items())
        raise UserError(
            f"scores depend on which stems there are, and these files have others ({lists}): report them apart"
        )
    first_metric = next(iter(protocol["headline"]))

    def rank(system: System) -> tuple[bool, float]:
        columns = [system.column(source, first_metric) for source in sources]
        scores = [average(c.values, c.n_samples, protocol["average"]) for c in columns if c.clips]
        return system.own_name != MIXTURE, sum(scores) / len(scores) if scores else -math.inf

    singers = {row["clip"]: row["clip"].split("_")[0] for row in ours}
    if len(set(singers.values())) > _MOST_SINGERS:  # names of other clips
        singers = {}
    return Pool(protocol, {system.name: system for system in sorted(systems, key=rank)}, sources, singers)


def _named(files: Sequence[Scores], metrics: Sequence[str]) -> list[System]:
    """The systems of all files: baselines that agree once, and what shares a name with others behind its file's."""
    groups: dict[str, list[System]] = {}
    for file in files:
        parts: dict[str, dict[tuple[str, str], Row]] = {}
        for row in file.rows:
            parts.setdefault(row["system"], {})[row["clip"], row["source"]] = row
        for own_name, rows in parts.items():
            system = System(own_name, own_name, file, rows)
            known = groups.setdefault(own_name, [])
            if not system.is_baseline or not any(_agree(rows, other.rows, metrics) for other in known):
                known.append(system)
    return [
        System(f"{system.file.name}: {own_name}", own_name, system.file, system.rows)
        if len(group) > 1 or (system.file.named and not system.is_baseline)
        else system
        for own_name, group in groups.items()
        for system in group
    ]


def _agree(first: dict[tuple[str, str], Row], second: dict[tuple[str, str], Row], metrics: Sequence[str]) -> bool:
    """Whether two systems have the same scores of the same clips."""

    def same(a: Row, b: Row, metric: str) -> bool:
        if has_score(a, metric) and has_score(b, metric):
            return abs(a[metric] - b[metric]) < _SAME_DB
        return has_score(a, metric) == has_score(b, metric)

    return first.keys() == second.keys() and all(
        row["n_samples"] == second[key]["n_samples"] and all(same(row, second[key], m) for m in metrics)
        for key, row in first.items()
    )
