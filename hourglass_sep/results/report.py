"""Reports: tables, intervals and figures of any number of score files, one part per protocol."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hourglass_sep.plotting import panels
from hourglass_sep.results import figures, tables
from hourglass_sep.results.choices import RESAMPLED, resampled
from hourglass_sep.results.pools import Pool, ScoredSystem, pools, spelt
from hourglass_sep.results.scores_file import ScoresFile, read_scores
from hourglass_sep.results.tables import Record, code, plain
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.files import write_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_DRAWN = 20


@dataclass(frozen=True)
class Part:
    """The part of a report about one protocol.

    Attributes:
        pool: scores of the protocol.
        metric: the metric by which the worst clips are ranked.
        scores: averages with intervals, see `hourglass_sep.results.tables`.
        differences: paired differences of two systems; empty if no two systems are compared.
        worst: the clips with the lowest scores.
        examples: spectrograms of the worst clips, as far as their audio is found.
        figures: file name without suffix to figure.
        notes: warnings about missing spectrograms.
    """

    pool: Pool
    metric: str
    scores: list[Record]
    differences: list[Record]
    worst: list[Record]
    examples: list[panels.Example]
    figures: dict[str, Figure]
    notes: list[str]


@dataclass(frozen=True)
class Report:
    """A report that has been written.

    Attributes:
        parts: one part per protocol.
        paths: the files of the report.
    """

    parts: list[Part]
    paths: list[Path]


def make_report(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    compare: Sequence[str] | None = None,
    metric: str | None = None,
    worst: int = 10,
    seed: int = 0,
    resample: str = "clip",
) -> Report:
    """Read score files and write tables and figures.

    Args:
        inputs: score files, their folders, or NAME=PATH of either.
        out: folder for ``report.md``, ``report.csv``, ``differences.csv``, ``worst.csv`` and the figures.
        compare: names of two systems, or of two files with one model each: the first's average minus the second's.
            By default the models of a protocol that has exactly two, the better one first.
        metric: metric by which the worst clips are ranked; by default a protocol's first headline metric.
        worst: number of worst clips to list; of these at most `_MOST_DRAWN` are drawn.
        seed: random seed of the bootstrap.
        resample: unit that the bootstrap draws: ``clip``, or ``group`` (earlier: ``singer``) for intervals that hold
            for new singers or artists.

    Raises:
        UserError: an invalid file or argument, an unknown name, or a folder that cannot be written to. Nothing is
            written.
    """
    check_whole("--worst", worst)
    check_whole("--seed", seed, least=0)
    resample = resampled(resample)
    check_choice("--resample", resample, RESAMPLED)
    files = read_scores(inputs)
    found = pools(files)
    pairs = [_pair(pool, compare) for pool in found]
    if compare and not any(pairs):
        names = "; ".join(f"{pool.title}: {', '.join(pool.systems)}" for pool in found)
        raise UserError(f"--compare {' '.join(map(repr, compare))}: choose two systems of one protocol ({names})")
    known = dict.fromkeys(name for pool in found for name in pool.metrics)
    if metric is not None and metric not in known:
        raise UserError(f"--metric {metric} is not in the scores: choose from {', '.join(known)}")
    parts = []
    for pool, pair in zip(found, pairs, strict=True):
        ranking = metric if metric in pool.metrics else next(iter(pool.headline))
        parts.append(_part(pool, pair, str(ranking), worst, seed, resample, _prefix(pool, found)))
    contents: dict[str, bytes] = {
        "report.md": _markdown(files, parts, seed, resample).encode(errors="backslashreplace")
    }
    for name, table in (("report", "scores"), ("differences", "differences"), ("worst", "worst")):
        contents[f"{name}.csv"] = _csv(parts, table)
    for part in parts:
        contents |= {f"{name}.png": panels.png(figure) for name, figure in part.figures.items()}
    return Report(parts, write_all(Path(out), contents))


def _pair(pool: Pool, compare: Sequence[str] | None) -> tuple[ScoredSystem, ScoredSystem] | None:
    """The two systems to compare; None if this protocol lacks one of them."""
    if compare is None:
        return (pool.models[-1], pool.models[0]) if len(pool.models) == 2 else None
    first, second = (pool.find(name) for name in compare)
    return (first, second) if first and second and first is not second else None


def _prefix(pool: Pool, found: Sequence[Pool]) -> str:
    """Prefix of the names of a protocol's figures; '' for a report of one protocol."""
    if len(found) == 1:
        return ""
    name = pool.protocol["name"]
    alone = sum(other.protocol["name"] == name for other in found) == 1
    return re.sub(r"[^\w.-]+", "_", name if alone else f"{name}-{pool.protocol['hash']}") + "-"


def _part(
    pool: Pool,
    pair: tuple[ScoredSystem, ScoredSystem] | None,
    metric: str,
    worst: int,
    seed: int,
    resample: str,
    prefix: str,
) -> Part:
    scores = tables.score_records(pool, seed, resample)
    differences = tables.difference_records(pool, *pair, seed, resample) if pair else []
    judged = pair[0] if pair else (pool.models or [*pool.systems.values()])[-1]
    clips = tables.worst_records(pool, judged, metric, worst)
    drawn = clips[:_MOST_DRAWN]
    examples, problem = figures.find_examples(judged, drawn, metric) if clips else ([], "")
    drawings = {prefix + name: figures.box_plot(pool, name) for name in pool.headline}
    if examples:
        drawings[f"{prefix}worst"] = panels.spectrograms(examples)
    notes = [f"{len(drawn) - len(examples)} spectrograms of worst clips are left out: {problem}"] if problem else []
    return Part(pool, metric, scores, differences, clips, examples, drawings, notes)


def _markdown(files: Sequence[ScoresFile], parts: Sequence[Part], seed: int, resample: str) -> str:
    sections = ["# Separation scores", "\n".join(f"- {plain(file.name)}: {code(str(file.path))}" for file in files)]
    for part in parts:
        pool = part.pool
        sections.append(f"## {plain(pool.title)}, {len(pool.clips)} clips")
        sections += [plain(pool.protocol["description"])] if pool.protocol.get("description") else []
        sections.append(tables.explanation(pool, seed, resample))
        sections.append(tables.markdown(tables.main_table(pool, part.scores)))
        remarks = [*tables.remarks(pool, part.scores), *part.notes]
        sections += ["\n".join(f"- {plain(line)}" for line in remarks)] if remarks else []
        if part.differences:
            sections.append(tables.difference_section(pool, part.differences))
        images = [f"![{name}]({name}.png)" for name in part.figures]
        sections += images[: len(pool.headline)]
        sections += [tables.worst_section(pool, part.worst, part.metric)] if part.worst else []
        sections += images[len(pool.headline) :]
        sections.append(tables.group_section(pool, part.scores, part.metric))
    return "\n\n".join(section for section in sections if section) + "\n"


def _records(parts: Sequence[Part], table: str) -> list[Record]:
    return [record for part in parts for record in getattr(part, table)]


def _csv(parts: Sequence[Part], table: str) -> bytes:
    records = _records(parts, table)
    text = io.StringIO()
    names = [*tables.COLUMNS[table], *(name for record in records for name in record)]
    writer = csv.DictWriter(text, list(dict.fromkeys(names)))
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode(errors="backslashreplace")


def log_to_wandb(report: Report, run: Any) -> None:
    """Log tables and figures to a W&B run: ``report/scores``, ``report/differences``, ``report/worst`` and figures.

    Args:
        report: the report.
        run: W&B run, as returned by ``wandb.init`` or ``WandbLogger.experiment``.
    """
    import wandb

    content: dict[str, Any] = {}
    for name in ("scores", "differences"):
        data = [list(record.values()) for record in _records(report.parts, name)]
        if data:
            content[f"report/{name}"] = wandb.Table([*tables.COLUMNS[name]], data)
    rows = []
    for part in report.parts:
        pictures = {example.title: panels.spectrograms([example]) for example in part.examples}
        for record in part.worst:
            title = figures.title(record, part.metric)
            picture = wandb.Image(panels.pixels(pictures[title])) if title in pictures else None
            shared = [record[name] for name in tables.COLUMNS["worst"]]
            rows.append([*shared, spelt(part.metric), record[spelt(part.metric)], picture])
        for name, figure in part.figures.items():
            key = f"{name}_spectrograms" if name.endswith("worst") else name  # report/worst is the key of the table
            content[f"report/{key}"] = wandb.Image(panels.pixels(figure))
    columns = [*tables.COLUMNS["worst"], "metric", "value", "spectrograms"]
    content["report/worst"] = wandb.Table([*columns], rows)
    run.log(content)
