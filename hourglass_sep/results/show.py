"""Tables of scores on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.table import Table
from rich.text import Text

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.results.pools import vocals_first
from hourglass_sep.results.report import Report
from hourglass_sep.results.scores_file import ranked
from hourglass_sep.results.tables import main_table
from hourglass_sep.scoring.bsseval.projection import MEANINGLESS_DB
from hourglass_sep.scoring.rows import key
from hourglass_sep.support.screen import Screen
from hourglass_sep.support.terminal import clean, printing, tell_path

_COLUMNS = 100
"""Width of a report's tables in characters; narrower only on a narrower terminal."""


def table(title: str, labels: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of scores: a section for each system, a row for each of its sources.

    Args:
        title: title above the table.
        labels: headers of the columns of numbers.
        rows: system, source and one cell per label; the rows of a system follow each other.
    """
    result = Table("", title=Text(clean(title)))
    for label in labels:
        result.add_column(Text(clean(label)), justify="right", no_wrap=True)
    for system, group in groupby(rows, key=lambda row: row[0]):
        result.add_section()
        result.add_row(Text(clean(system), "bold"))
        for _, source, *cells in group:
            result.add_row(*map(Text, [f"  {clean(source)}", *cells]))
    return result


def show_scores(folder: Path) -> None:
    """Print a table of the ``scores.json`` in a folder, with its protocol and notes on missing scores."""
    content = json.loads((folder / "scores.json").read_text())
    protocol, summary = content["protocol"], content["summary"]
    labels = list(protocol["headline"].values())
    first = {
        system: [scores[key(labels[0])] for scores in sources.values() if scores[key(labels[0])] is not None]
        for system, sources in summary.items()
    }
    rows = [
        [system, source, *("-" if scores[key(label)] is None else f"{scores[key(label)]:.2f}" for label in labels)]
        for system in ranked(first)
        for source, scores in ((name, summary[system][name]) for name in vocals_first(summary[system]))
    ]
    clips = len({row["clip"] for row in content["rows"]})
    console = Screen(width=None if sys.stdout.isatty() else 120)
    with printing():
        console.print(table(f"{clips} clips, dB; protocol {protocol['name']} {protocol['hash']}", labels, rows))
        console.print(
            f"{protocol['name']} {protocol['hash']}: {protocol['description']}", highlight=False, markup=False
        )
        if content["unscored_rows"]:
            console.print(
                f"{content['unscored_rows']} rows have no score (silent, too short, not to be told apart, or above "
                f"{MEANINGLESS_DB:.0f} dB) and are left out of the averages"
            )
        console.print(f"-: no score, or one above {MEANINGLESS_DB:.0f} dB, as the {MIXTURE}'s SAR is: only rounding")
        files = clean(f"rows: {folder}/scores.csv and scores.json")
        Screen(soft_wrap=True).print(files, markup=False)


def show_report(report: Report) -> None:
    """Print a report's tables, at most `_COLUMNS` wide, and the paths of its files."""
    console = Screen(width=min(Screen().width, _COLUMNS) if sys.stdout.isatty() else _COLUMNS)
    for part in report.parts:
        separator = " " if len(part.pool.headline) <= 3 else "\n"
        header, *body = main_table(part.pool, part.scores, separator)
        title = f"{part.pool.title}, {len(part.pool.clips)} clips, dB [95 % interval]"
        with printing():
            console.print(table(title, header[2:], body))
    for path in report.paths:
        tell_path(path, sys.stdout)
