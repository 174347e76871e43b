"""Figures of the refinement ablation (`ablation.py`)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hourglass_sep.dsp.stems import SOURCES

Record = dict[str, Any]
COLOURS = {"max": "C3", "mean": "C0", "0.5": "C2"}


def draw(records: Sequence[Record], out: Path) -> None:
    """Draw refinement.png and reconstruction.png: changes of GNSDR with 95 % intervals, by kind of masks.

    Only refinement of the voice's mask is drawn: refining both masks scores so much lower that the other differences
    would not be visible on the same scale.

    Args:
        records: records from `ablation.tabulate`.
        out: output folder, which exists.
    """
    plain = [record for record in records if (record["reconstruct"], record["refined"]) == ("mixture_phase", "vocals")]
    figure = panels(plain, refinement, "refinement of the voice's mask: difference of GNSDR to no refinement")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title="combine")
    figure.savefig(out / "refinement.png", dpi=100)
    plain = [record for record in records if record["rank"] == "none"]
    figure = panels(plain, reconstruction, "reconstruction: difference of GNSDR to the mixture's phase")
    figure.savefig(out / "reconstruction.png", dpi=100)


def panels(records: Sequence[Record], fill: Any, title: str) -> Figure:
    """Draw one panel per source and kind of masks; network masks and degraded ideal masks have separate y scales.

    Args:
        records: records to draw.
        fill: function that draws the records of one panel, called with its axes and its records.
        title: title of the figure.
    """
    kinds = list(dict.fromkeys(record["masks"] for record in records))
    figure = Figure(figsize=(1 + 2.3 * len(kinds), 5.5), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots(2, len(kinds), sharex=True, squeeze=False)
    networks = [kind.startswith("masks of") for kind in kinds]
    for part in (True, False):
        group = [axes[row, column] for row in range(2) for column in range(len(kinds)) if networks[column] == part]
        for axis in group[1:]:
            axis.sharey(group[0])
    for (row, source), (column, kind) in itertools.product(enumerate(reversed(SOURCES)), enumerate(kinds)):
        axis = axes[row, column]
        axis.axhline(0, color="black", linewidth=0.8)
        fill(axis, [record for record in records if (record["masks"], record["source"]) == (kind, source)])
        if not row:
            axis.set_title(kind.replace(", ", ",\n"), fontsize="small")
        if not column:
            axis.set_ylabel(f"{source}, dB")
    return figure


def refinement(axis: Axes, records: Sequence[Record]) -> None:
    """Draw differences by rank, one colour per rule for combining masks and cluster means."""
    ranks = list(dict.fromkeys(record["rank"] for record in records))
    for shift, (combine, colour) in enumerate(COLOURS.items()):
        line = [record for record in records if str(record["combine"]) == combine]
        places = [ranks.index(record["rank"]) + 0.2 * (shift - 1) for record in line]
        mark(axis, places, line, color=colour, marker="o", label=combine)
    axis.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
    if axis.get_subplotspec().is_last_row():  # type: ignore[union-attr]
        axis.set_xlabel("rank")


def reconstruction(axis: Axes, records: Sequence[Record]) -> None:
    """Draw differences by reconstruction method."""
    records = [record for record in records if record["reconstruct"] != "mixture_phase"]
    mark(axis, range(len(records)), records, color="C0", marker="o")
    axis.set_xticks(range(len(records)), [record["reconstruct"] for record in records])
    axis.margins(x=0.5)


def mark(axis: Axes, places: Sequence[float], records: Sequence[Record], **style: Any) -> None:
    """Draw points at the given x positions, with their intervals."""
    values, low, high = ([float(record[name]) for record in records] for name in ("value", "low", "high"))
    errors = [[v - b for v, b in zip(values, low, strict=True)], [t - v for v, t in zip(values, high, strict=True)]]
    axis.errorbar(places, values, errors, markersize=4, linewidth=1, linestyle="none", **style)
