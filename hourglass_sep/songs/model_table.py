"""Table of weights on the terminal: ``hourglass-sep models`` and ``separate --list-models``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from hourglass_sep.checkpoints.shipped import Summary, headline
from hourglass_sep.support.screen import Screen
from hourglass_sep.support.terminal import clean, printing

_CHANNELS = {1: "mono", 2: "stereo"}


def show_models(summaries: Sequence[Summary]) -> None:
    """Print weights with their sources, rate, channels, size, scores, data and licences."""
    table = Table("name", "sources", "input", "parameters", "test scores", "data and licence", show_lines=True)
    for each in summaries:
        audio = f"{each['sample_rate_hz']} Hz\n{_CHANNELS.get(each['channels'], each['channels'])}"
        size = f"{each['parameters'] / 1e6:.2f} M\n{each['bytes'] / 1e6:.1f} MB"
        facts = {"data": each["data_licence"], "weights": each["licence"]}
        licences = [f"{what}: {text}" for what, text in facts.items() if text]
        about = "\n".join(filter(None, [each["trained_on"], *licences]))
        cells = [each["name"], "\n".join(each["sources"]), audio, size, "\n".join(headline(each)), about]
        table.add_row(*(Text("\n".join(map(clean, cell.split("\n"))) or "-") for cell in cells))
    with printing():
        Screen(file=sys.stdout, highlight=False).print(table)
