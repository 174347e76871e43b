"""Output of `bench_separation.py`: CSV files, tables and a figure.

python experiments/bench_separation_plot.py       # show and draw the stored measurements again
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from rich.console import Console
from rich.table import Table

FILES = {"spleeter": "separation.csv", "windows": "separation.csv", "length": "separation_length.csv"}
COLOURS = {"ours": "C0", "Spleeter": "C1"}
LABELS = {"ours": "hourglass_sep", "Spleeter": "Spleeter 2-stems (PyTorch)"}

Row = Mapping[str, Any]


def summarise(
    comparison: str, threads: int, runs: Mapping[str, Sequence[Row]], pairs: Mapping[str, str], sound: float | None
) -> list[dict[str, Any]]:
    """Median times of each system, and speed ratios of the compared pairs.

    Args:
        comparison: description of the comparison.
        threads: number of threads.
        runs: name of each system to its runs, with wall and CPU seconds and peak memory in MiB.
        pairs: name of a system to the name of the one it is compared with. ``times_faster`` is the ratio of their
            median wall times; ``lowest`` and ``highest`` are the extreme ratios of single runs.
        sound: length of the audio in seconds, if any.

    Returns:
        One row per system.
    """
    rows = []
    for name, found in runs.items():
        walls = [run["wall_seconds"] for run in found]
        row: dict[str, Any] = {"comparison": comparison, "system": name, "threads": threads, "seconds_of_sound": sound}
        row["wall_seconds"] = round(statistics.median(walls), 4)
        row["cpu_seconds"] = round(statistics.median(run["cpu_seconds"] for run in found), 4)
        row["peak_memory_mib"] = found[-1]["peak_memory_mib"] and round(found[-1]["peak_memory_mib"])
        row |= dict.fromkeys(("times_faster", "lowest", "highest", "than"))
        if name in pairs:
            others = [run["wall_seconds"] for run in runs[pairs[name]]]
            each = [other / wall for wall, other in zip(walls, others, strict=True)]
            ratios = (statistics.median(others) / statistics.median(walls), min(each), max(each))
            row |= zip(("times_faster", "lowest", "highest"), (round(ratio, 3) for ratio in ratios), strict=True)
            row["than"] = pairs[name]
        row["runs_wall_seconds"] = " ".join(f"{wall:.3f}" for wall in walls)
        rows.append(row)
    return rows


def report(folder: Path, found: Mapping[str, Sequence[Row]]) -> None:
    """Write new measurements, keep the stored ones of other parts, and show and draw all of them.

    Args:
        folder: output folder; created if missing.
        found: name of each measured part to its rows, which replace its stored rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in dict.fromkeys(FILES.values()):
        parts = [part for part, name in FILES.items() if name == file]
        old = read(folder / file)
        rows = [{"part": part, **row} for part in parts for row in found.get(part, [])]
        rows += [row for row in old if row["part"] not in found]
        rows.sort(key=lambda row: parts.index(row["part"]))
        if rows:
            with (folder / file).open("w", newline="") as opened:
                writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        elif old:
            (folder / file).unlink()
    show(folder)


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; empty if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def show(folder: Path) -> None:
    """Print tables of the measurements in a folder, and draw them into separation.png."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows, lengths = (read(folder / name) for name in dict.fromkeys(FILES.values()))
    for facts in dict.fromkeys((row["hardware"], row["torch"], row["commit"][:9]) for row in rows + lengths):
        console.print("{}, torch {}, commit {}".format(*facts))
    for comparison, group in groupby(rows, lambda row: row["comparison"]):
        console.print(ratios(comparison, list(group)))
    if lengths:
        console.print(by_length(lengths))
        draw(lengths, folder / "separation.png")


def ratios(title: str, rows: Sequence[Row]) -> Table:
    """Table of the systems of one comparison, with their speed ratios."""
    table = Table("system", title=title)
    names = ("threads", "wall s", "CPU s", "wall / playing", "peak MiB", "times faster", "each run")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        wall, sound = float(row["wall_seconds"]), row["seconds_of_sound"]
        table.add_row(
            row["system"],
            row["threads"],
            f"{wall:.2f}",
            f"{float(row['cpu_seconds']):.2f}",
            f"{wall / float(sound):.4f}" if sound else "",
            row["peak_memory_mib"],
            f"{float(row['times_faster']):.2f}" if row["times_faster"] else "",
            f"{float(row['lowest']):.2f} to {float(row['highest']):.2f}" if row["times_faster"] else "",
        )
    return table


def by_length(rows: Sequence[Row]) -> Table:
    """Table of time and peak memory for each length and system."""
    table = Table("song", title=f"fresh processes, {rows[0]['threads']} thread(s)")
    for name in ("system", "work s", "work / playing", "peak MiB"):
        table.add_column(name, justify="right")
    for row in rows:
        sound = clock(float(row["seconds_of_sound"]))
        table.add_row(sound, row["system"], row["work_seconds"], row["real_time_factor"], row["peak_memory_mib"])
    return table


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw time and peak memory over the length of the song."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for system, colour in COLOURS.items():
        line = [row for row in rows if row["system"] == system]
        if line:
            sound, work, peak = (
                [float(row[name]) for row in line] for name in ("seconds_of_sound", "work_seconds", "peak_memory_mib")
            )
            time.plot(sound, work, color=colour, marker="o", markersize=4, label=LABELS[system])
            memory.plot(sound, [mib / 1024 for mib in peak], color=colour, marker="o", markersize=4)
    ends = [end([float(row["seconds_of_sound"]) for row in rows]) for end in (min, max)]
    time.plot(ends, ends, color="grey", linewidth=0.8, linestyle="--")
    middle = (ends[0] * ends[1]) ** 0.5
    time.annotate("as long as playing it", (middle, middle), (-6, 3), textcoords="offset points", color="dimgrey",
                  fontsize="small", ha="right")  # fmt: skip
    memory.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    memory.annotate("1 GiB", (1, 1), (-4, 4), xycoords=("axes fraction", "data"), textcoords="offset points",
                    color="dimgrey", fontsize="small", ha="right")  # fmt: skip
    scale(time, sorted({float(row["seconds_of_sound"]) for row in rows}))
    scale(memory, sorted({float(row["seconds_of_sound"]) for row in rows}))
    time.set_title("time from file to files", fontsize="medium")
    time.yaxis.set_major_locator(FixedLocator([0.1, 1, 10, 60, 600, 3600]))
    time.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    time.yaxis.set_minor_locator(NullLocator())
    memory.set_title("peak memory of the process, GiB", fontsize="medium")
    memory.yaxis.set_major_locator(FixedLocator([2**power for power in range(-2, 7)]))
    memory.yaxis.set_major_formatter(FuncFormatter(lambda gib, _: f"{gib:g}"))
    memory.yaxis.set_minor_locator(NullLocator())
    low, high = memory.get_ylim()
    memory.set_ylim(min(low, 0.45), max(high, 2.1))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=100)


def scale(axis: Axes, lengths: Sequence[float]) -> None:
    """Make both axes logarithmic, with the songs' lengths in seconds as x ticks."""
    axis.loglog()
    axis.grid(color="0.9")
    axis.set_xticks(lengths, [clock(length) for length in lengths])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("length of the song")


def clock(seconds: float) -> str:
    """Format a duration in the largest unit in which it is at least 1: h, min or s; shorter ones in s."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


if __name__ == "__main__":
    show(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "speed")
