"""Figures of a report: box plots of the scores by clip, and spectrograms of the worst clips. No global state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.plotting.panels import Example, plain, shortened
from hourglass_sep.results.pools import Pool, ScoredSystem, spelt
from hourglass_sep.results.worst_file import stored_levels
from hourglass_sep.scoring.averages import Array, average
from hourglass_sep.scoring.worst import HOP, RATE_HZ, beginning, levels_db
from hourglass_sep.support.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BOXES = 40
_MOST_PANELS = 8


def box_plot(pool: Pool, metric: str) -> Figure:
    """Box plot of a metric: a panel per source, a box per system, a dot per clip, a diamond for the average.

    Args:
        pool: scores of one protocol. At most the `_MOST_BOXES` best systems and `_MOST_PANELS` sources are shown.
        metric: a headline metric of the protocol.
    """
    columns = {
        (name, source): system.column(source, metric)
        for name, system in pool.systems.items()
        for source in pool.sources
    }
    names = [name for name in pool.systems if any(columns[name, source].clips for source in pool.sources)]
    names = names[-_MOST_BOXES:]  # the last ones are the best
    sources = pool.sources[:_MOST_PANELS]
    n_columns = min(2, len(sources))
    n_rows = -(-len(sources) // n_columns)
    size = (2.4 + 4.6 * n_columns, 0.9 + n_rows * (1.0 + 0.46 * max(len(names), 2)))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1))
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(sources) :]:
        axis.set_axis_off()
    rng = np.random.default_rng(0)
    for axis, source in zip(axes.flat, sources, strict=False):
        for position, name in enumerate(names):
            colour = "tab:gray" if pool.systems[name].is_baseline else "tab:blue"
            _, values, lengths = columns[name, source]
            if not len(values):
                axis.text(0.5, position, "no score", transform=axis.get_yaxis_transform(), ha="center", va="center")
                continue
            heights = position + rng.uniform(-0.28, 0.28, len(values))
            axis.scatter(values, heights, s=7, color=colour, alpha=0.3, linewidths=0)
            lines = {"color": colour, "linewidth": 1.3}
            axis.boxplot(
                values,
                positions=[position],
                widths=0.62,
                orientation="horizontal",
                manage_ticks=False,
                showfliers=False,
                boxprops=lines,
                whiskerprops=lines,
                capprops=lines,
                medianprops=lines | {"linewidth": 2},
            )
            centre = average(values, lengths, pool.average)
            axis.plot(centre, position, "D", color=colour, markersize=6, markeredgecolor="white", zorder=5)
        axis.set_title(plain(shortened(source)))
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.set_yticks(range(len(names)), [plain(shortened(name)) for name in names])
        axis.set_ylim(-0.6, max(len(names), 1) - 0.4)
    for axis in axes[-1]:
        axis.set_xlabel(plain(f"{spelt(metric)}, dB"))
    title = f"{pool.protocol['name']}, {len(pool.clips)} clips: {spelt(metric)} of each (dots), quartiles (boxes)"
    figure.suptitle(plain(f"{title}, the table's {pool.headline[metric]} (diamonds)"), fontsize="medium")
    return figure


def find_examples(system: ScoredSystem, records: Sequence[dict[str, Any]], metric: str) -> tuple[list[Example], str]:
    """Spectrograms of the worst clips of a system: stored by the evaluation, or computed from files of stems.

    Args:
        system: the system with these clips.
        records: records of `hourglass_sep.results.tables.worst_records`.
        metric: the metric by which the clips are ranked.

    Returns:
        The examples, without the clips that failed, and the reason of the first failure ('' for none).
    """
    examples, problems = [], []
    try:
        load = _loader(system, metric)
    except UserError as error:
        return [], str(error)
    for record in records:
        try:
            levels = load(record["clip"], record["source"])
        except UserError as error:
            problems.append(str(error))
            continue
        except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
            problems.append(
                f"the sounds of {record['clip']} do not fit together ({' '.join(str(error).split())[:200]})"
            )
            continue
        seconds = levels[MIXTURE].shape[1] * HOP / RATE_HZ
        examples.append(Example(title(record, metric), levels, seconds, RATE_HZ / 2000))
    return examples, problems[0] if problems else ""


def title(record: dict[str, Any], metric: str) -> str:
    """Title of a worst clip: rank, clip, source and score."""
    name = spelt(metric)
    return f"{record['rank']}. {record['clip']}, {record['source']}: {name} {record[name]:z.2f} dB"


def _loader(system: ScoredSystem, metric: str) -> Callable[[str, str], dict[str, Array]]:
    """A function from (clip, source) to spectrograms (F, T) in dB of mixture, reference and the system's estimate.

    Raises:
        UserError: they are neither stored nor can be computed; the returned function raises it, too.
    """
    facts = system.file.audio
    if facts.get("kind") == "stems" and "tracks" in facts and (system.own_name == MIXTURE or not system.is_baseline):
        return _stems_loader(system)
    if not system.is_baseline:
        return stored_levels(system.file, metric)
    raise UserError(f"{system.file.path} has spectrograms of {system.file.model} only, not of {system.own_name}")


def _stems_loader(system: ScoredSystem) -> Callable[[str, str], dict[str, Array]]:
    from hourglass_sep import audio

    tracks = system.file.audio["tracks"]

    def read(paths: Sequence[str]) -> Tensor:
        return _sum([beginning(*audio.read(path)) for path in paths])

    def load(clip: str, source: str) -> dict[str, Array]:
        try:
            files = tracks[clip]["references"] | {None: [tracks[clip]["estimates"][source]]}
        except (KeyError, TypeError) as error:
            raise UserError(f"{system.file.path} does not say where {clip} is") from error
        estimate = files.pop(None)
        references = {name: read(paths) for name, paths in files.items()}
        mixture = _sum([*references.values()])
        heard = mixture if system.own_name == MIXTURE else read(estimate)
        return levels_db({MIXTURE: mixture, "reference": references[source], "estimate": heard})

    return load


def _sum(waveforms: Sequence[Tensor]) -> Tensor:
    """Sum of waveforms (N); all are cut or zero-padded to the length of the first."""
    from torch.nn import functional as F

    total = waveforms[0].clone()
    for waveform in waveforms[1:]:
        total += F.pad(waveform, (0, len(total) - len(waveform)))
    return total
