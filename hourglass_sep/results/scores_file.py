"""Score tables: on the screen and in files."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB
from hourglass_sep.scoring.protocols import Protocol
from hourglass_sep.scoring.rows import Row, Summary, count_unscored, key, summarise
from hourglass_sep.signal.stems import MIXTURE
from hourglass_sep.support.files import write_all
from hourglass_sep.support.screen import Screen
from hourglass_sep.support.terminal import clean, printing


def write_results(folder: Path, rows: Sequence[Row], protocol: Protocol, model: str, facts: Mapping[str, Any]) -> None:
    """Write ``scores.csv``, a line per clip, system and source, and ``scores.json`` with the averages and the facts.

    Args:
        folder: where; made if need be.
        rows: at least one.
        protocol: under which they were made.
        model: the system that this is about; the others stand beside it.
        facts: what else belongs beside the numbers, in plain types.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    content = {
        "protocol": protocol.describe(),
        "model": model,
        **facts,
        "summary": summarise(rows, protocol.headline, protocol.average),
        "unscored_rows": count_unscored(rows, protocol.metrics[0]),
    }
    lines = table.getvalue().encode(errors="backslashreplace")  # names of files need not be text
    write_all(folder, {"scores.csv": lines, "scores.json": as_json(content, rows).encode()})


def as_json(content: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """A file of scores: the content, then the rows, one a line, which is legible and half the size."""
    head = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in rows)
    return f'{head},\n "rows": [\n  {lines}\n ]\n}}\n'


def table(content: Mapping[str, Any]) -> Table:
    """Averages of every system and source in dB, best systems last, of what is in a ``scores.json``."""
    protocol, summary = content["protocol"], content["summary"]
    clips = len({row["clip"] for row in content["rows"]})
    title = Text(f"{clips} clips, dB; protocol {protocol['name']} {protocol['hash']}")
    result = Table("system", "source", title=title)
    labels = list(protocol["headline"].values())
    for label in labels:
        result.add_column(label, justify="right")
    for system in by_score(summary, key(labels[0])):
        for place, (source, scores) in enumerate(reversed(summary[system].items())):
            cells = [scores[key(label)] for label in labels]
            name = "" if place else system
            result.add_row(
                Text(clean(name)), Text(clean(source)), *("-" if cell is None else f"{cell:.2f}" for cell in cells)
            )
        result.add_section()
    return result


def by_score(summary: Summary, name: str) -> list[str]:
    """The systems, the mixture first, the others from worst to best by the mean of an average over the sources."""

    def rank(system: str) -> tuple[bool, float]:
        values = [scores[name] for scores in summary[system].values()]
        known = [value for value in values if value is not None]
        return system != MIXTURE, sum(known) / len(known) if known else -math.inf

    return sorted(summary, key=rank)


def show(folder: Path) -> None:
    """Print the table of the scores that `write_results` left in a folder, and what a reader has to know."""
    content = json.loads((folder / "scores.json").read_text())
    console = Screen(width=None if sys.stdout.isatty() else 120)
    with printing():
        console.print(table(content))
        protocol = content["protocol"]
        console.print(
            f"{protocol['name']} {protocol['hash']}: {protocol['description']}", highlight=False, markup=False
        )
        if content["unscored_rows"]:
            console.print(
                f"{content['unscored_rows']} rows have no score (silent, too short, not to be told apart, or above "
                f"{MEANINGLESS_DB:.0f} dB) and are left out of the averages"
            )
        console.print(f"-: no score, or one above {MEANINGLESS_DB:.0f} dB, as the {MIXTURE}'s SAR is: only rounding")
        rows = clean(f"rows: {folder}/scores.csv and scores.json")
        Screen(soft_wrap=True).print(rows, markup=False)
