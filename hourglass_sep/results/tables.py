"""Tables of a report: averages with intervals, paired differences and worst clips, as records and as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.results.bootstrap import RESAMPLES, Interval, interval, paired_interval
from hourglass_sep.results.pools import EVERYONE, Pool, ScoredSystem, spelt
from hourglass_sep.scoring.averages import AVERAGES
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.terminal import clean

Record = dict[str, Any]
"""A row of a table: column name to plain value, None for no score."""

_NAMES = ("protocol", "hash")
_NUMBERS = ("clips", "value", "low", "high")
COLUMNS = {
    "scores": [*_NAMES, "group", "system", "source", "metric", *_NUMBERS],
    "differences": [*_NAMES, "system", "minus", "source", "metric", *_NUMBERS],
    "worst": [*_NAMES, "rank", "clip", "system", "source"],
}
"""Table to the names of its columns; the worst clips have a column for each listed metric, too."""


def score_records(pool: Pool, seed: int = 0, resample: str = "clip") -> list[Record]:
    """Averages with 95 % intervals for all clips and for every group, by system, source and headline metric.

    Args:
        pool: scores of one protocol.
        seed: random seed of the bootstrap.
        resample: unit that is drawn, a name from `choices.RESAMPLED`; rows of a single group always draw clips.

    Returns:
        Records with the columns ``COLUMNS["scores"]``, values in dB.
    """
    parts: dict[str, set[str] | None] = {EVERYONE: None}
    parts |= {name: {clip for clip, of in pool.groups.items() if of == name} for name in pool.tabled_groups}
    records = []
    for group, clips in parts.items():
        for system in pool.systems.values():
            if clips is not None and not clips & system.clips:
                continue
            for source in (name for name in pool.sources if name in system.sources):
                for metric, label in pool.headline.items():
                    found, values, lengths = system.column(source, metric, clips)
                    drawn = _groups(pool, found, resample) if clips is None else None
                    result = interval(values, lengths, pool.average, drawn, seed)
                    names = {"group": group, "system": system.name, "source": source, "metric": label}
                    records.append(_identity(pool) | names | _numbers(result))
    return records


def difference_records(
    pool: Pool, first: ScoredSystem, second: ScoredSystem, seed: int = 0, resample: str = "clip"
) -> list[Record]:
    """The first system's average minus the second's over their common clips, by source and headline metric.

    Args:
        pool: scores of one protocol.
        first: the first system.
        second: the second system.
        seed: random seed of the bootstrap.
        resample: unit that is drawn, a name from `choices.RESAMPLED`.

    Returns:
        Records with the columns ``COLUMNS["differences"]``, values in dB.

    Raises:
        UserError: the systems have no clip in common, or a clip has two lengths.
    """
    common = first.rows.keys() & second.rows.keys()
    if not common:
        raise UserError(f"{first.name} and {second.name} have no clip in common: score them on the same ones")
    for key in sorted(common):
        if first.rows[key]["n_samples"] != second.rows[key]["n_samples"]:
            raise UserError(
                f"{key[0]} is not as long for {first.name} as for {second.name}: score them on the same audio"
            )
    records = []
    for source in (name for name in pool.sources if name in {source for _, source in common}):
        for metric, label in pool.headline.items():
            scored = set(first.column(source, metric).clips) & set(second.column(source, metric).clips)
            found, values, lengths = first.column(source, metric, scored)
            others = second.column(source, metric, scored).values
            result = paired_interval(values, others, lengths, pool.average, _groups(pool, found, resample), seed)
            names = {"system": first.name, "minus": second.name, "source": source, "metric": label}
            records.append(_identity(pool) | names | _numbers(result))
    return records


def worst_records(pool: Pool, system: ScoredSystem, metric: str, count: int) -> list[Record]:
    """The (clip, source) pairs with the lowest scores of a system, at most `count`, the worst first."""
    rows = [row for source in pool.sources for row in system.rows.values() if row["source"] == source]
    scored = {(clip, source) for source in pool.sources for clip in system.column(source, metric).clips}
    rows = sorted((row for row in rows if (row["clip"], row["source"]) in scored), key=lambda row: row[metric])
    return [
        _identity(pool)
        | {"rank": rank, "clip": row["clip"], "system": system.name, "source": row["source"]}
        | {spelt(name): row[name] for name in _listed(pool, metric)}
        for rank, row in enumerate(rows[:count], start=1)
    ]


def _listed(pool: Pool, metric: str) -> list[str]:
    """Metrics in the table of worst clips: the ranking metric, then the headline metrics."""
    return list(dict.fromkeys((metric, *pool.headline)))


def _identity(pool: Pool) -> Record:
    return {"protocol": pool.protocol["name"], "hash": pool.protocol["hash"]}


def _numbers(result: Interval) -> Record:
    numbers = result.clips, result.value, result.low, result.high
    # NaN: no score, or too few clips to resample
    return {name: None if math.isnan(x) else x for name, x in zip(_NUMBERS, numbers, strict=True)}


def _groups(pool: Pool, clips: Sequence[str], resample: str) -> list[str] | None:
    if resample == "clip":
        return None
    unknown = [clip for clip in clips if clip not in pool.groups]
    if unknown:
        raise UserError(
            f"--resample group is not possible for {pool.title}, its scores do not say the group (singer or artist) of "
            f"{unknown[0]}: leave it out"
        )
    if clips and len(set(pool.groups.values())) < 2:
        raise UserError(f"--resample group is not possible for {pool.title}, all clips are of one group: leave it out")
    return [pool.groups[clip] for clip in clips]


def cell(record: Record, sign: str = "", separator: str = " ") -> str:
    """Format a value with its interval: ``9.42 [9.12, 9.71]``, or ``-`` for no score.

    Args:
        record: record with ``value``, ``low`` and ``high`` in dB.
        sign: sign option of the format, ``+`` to print plus signs.
        separator: text between the value and its interval.
    """
    if record["value"] is None:
        return "-"
    numbers = [f"{record[name]:{sign}z.2f}" for name in ("value", "low", "high") if record[name] is not None]
    return numbers[0] + (f"{separator}[{', '.join(numbers[1:])}]" if len(numbers) == 3 else "")


def main_table(pool: Pool, scores: Sequence[Record], separator: str = " ") -> list[list[str]]:
    """Header and rows of the main table, over all clips: a row per system and source, a column per headline metric."""
    cells = {
        (record["system"], record["source"], record["metric"]): cell(record, separator=separator)
        for record in scores
        if record["group"] == EVERYONE
    }
    labels = list(pool.headline.values())
    body = [
        [system, source, *(cells[system, source, label] for label in labels)]
        for system in pool.systems
        for source in pool.sources
        if source in pool.systems[system].sources
    ]
    return [["system", "source", *labels], *body]


def remarks(pool: Pool, scores: Sequence[Record]) -> list[str]:
    """Notes on the main table: systems with different clips, clips and averages without a score."""
    lines = []
    if len({frozenset(system.clips) for system in pool.systems.values()}) > 1:
        counts = ", ".join(f"{name} {len(system.clips)}" for name, system in pool.systems.items())
        lines.append(f"The systems' clips differ ({counts} clips): each average is over a system's own.")
    for record in scores:
        if record["group"] != EVERYONE:
            continue
        system = pool.systems[record["system"]]
        missing = sum(source == record["source"] for _, source in system.rows) - record["clips"]
        if missing and record["clips"]:
            lines.append(
                f"{record['system']}, {record['source']}: {record['metric']} is without {missing} of "
                f"{missing + record['clips']} clips, which have no score."
            )
    if any(record["value"] is None for record in scores):
        lines.append(
            "A dash: no clip has a score (silence, or, as the mixture's SAR, nothing but rounding to measure)."
        )
    return lines


def explanation(pool: Pool, seed: int, resample: str) -> str:
    """Caption of the main table: unit, type of average, and method and limits of the intervals."""
    text = (
        f"dB, {AVERAGES[pool.average]}; in brackets 95 % intervals, percentile bootstrap of {RESAMPLES} draws of "
        f"{resample}s, seed {seed}."
    )
    if resample == "clip" and len(set(pool.groups.values())) < len(pool.groups):
        text += " Clips of one group (singer or artist) are not independent: for new ones the intervals are too narrow."
    return text


def plain(text: str) -> str:
    """Escape a text for Markdown: it is shown literally, without HTML, links, images, formulas or line breaks."""
    text = re.sub(r"([\\`*\[\]<>|&@#$!~]|(?<![^\W_])_|_(?![^\W_])|^[-+=])", r"\\\1", clean(text))
    text = re.sub(r"(?i)(:)(?=//)|(?<=www)(\.)", lambda found: "\\" + found[0], text)
    text = re.sub(r"^(\d+)([.)])", r"\1\\\2", text)
    return re.sub(r"^ | $", "&#32;", text)


def code(text: str) -> str:
    """A text as a Markdown code span; it may hold backticks."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{clean(text)}{space}{fence}"


def markdown(rows: Sequence[Sequence[str]], words: int = 2) -> str:
    """A Markdown table.

    Args:
        rows: the header, then the body.
        words: number of text columns on the left, which are escaped; the others are numbers, aligned to the right.
    """
    header, *body = rows
    shown = [map(plain, header), *([*map(plain, row[:words]), *row[words:]] for row in body)]
    lines = ["| " + " | ".join(row) + " |" for row in shown]
    lines.insert(1, "|" + "".join("---|" if k < words else "---:|" for k in range(len(rows[0]))))
    return "\n".join(lines)


def difference_section(pool: Pool, records: Sequence[Record]) -> str:
    """The paired differences of two systems as Markdown."""
    labels = list(pool.headline.values())
    body = []
    for source in dict.fromkeys(record["source"] for record in records):
        group = [record for record in records if record["source"] == source]
        clips = "-".join(map(str, sorted({record["clips"] for record in group})))
        body.append([source, clips, *(_bold(cell(record, "+"), record) for record in group)])
    title = f"### {plain(records[0]['system'])} minus {plain(records[0]['minus'])}"
    text = "Paired, over the clips that have a score from both. Bold: the interval does not hold 0."
    return f"{title}\n\n{text}\n\n" + markdown([["source", "clips", *labels], *body], 1)


def _bold(text: str, record: Record) -> str:
    return f"**{text}**" if record["low"] is not None and record["low"] * record["high"] > 0 else text


def group_section(pool: Pool, scores: Sequence[Record], metric: str) -> str:
    """Averages by group as Markdown: a table per source, a row per group, a column per system; '' for no groups.

    The mixture is left out, unless it is the only system.

    Args:
        pool: scores of one protocol.
        scores: records of `score_records`.
        metric: metric of the tables; the first headline metric if it is not a headline metric.
    """
    if not pool.tabled_groups:
        return ""
    label = pool.headline.get(metric, next(iter(pool.headline.values())))
    cells = {(r["group"], r["system"], r["source"]): cell(r) for r in scores if r["metric"] == label}
    systems = [name for name, system in pool.systems.items() if system.own_name != MIXTURE] or list(pool.systems)
    parts = [f"### {plain(label)} by group\n\nIntervals over the group's own clips. report.csv has the other metrics."]
    for source in pool.sources:
        body = []
        for group in pool.tabled_groups:
            n_clips = sum(name == group for name in pool.groups.values())
            body.append([group, str(n_clips), *(cells.get((group, name, source), "-") for name in systems)])
        parts.append(f"{plain(source)}:\n\n" + markdown([["group", "clips", *systems], *body], 1))
    return "\n\n".join(parts)


def worst_section(pool: Pool, records: Sequence[Record], metric: str) -> str:
    """The worst clips as Markdown."""
    labels = [spelt(name) for name in _listed(pool, metric)]
    body = [
        [str(r["rank"]), r["clip"], r["source"], *("-" if r[k] is None else f"{r[k]:z.2f}" for k in labels)]
        for r in records
    ]
    title = f"### Worst clips of {plain(records[0]['system'])}, by {plain(spelt(metric))}\n\n"
    return title + markdown([["", "clip", "source", *labels], *body], 3)
