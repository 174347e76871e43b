"""Panels of spectrograms, and figures as files and images."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from hourglass_sep.support.terminal import clean

DYNAMIC_RANGE_DB = 70.0
_DPI = 110
_LONGEST_NAME = 60


def draw(axis: Axes, values: Any, extent: tuple[float, float, float, float], low: float, high: float) -> AxesImage:
    """Draw values (F, T) over seconds and kHz.

    Args:
        axis: where.
        values: dB, or a mask.
        extent: first and last second, lowest and highest kHz.
        low: the value of the darkest colour.
        high: the value of the brightest.
    """
    return axis.imshow(values, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=low, vmax=high)


@dataclass(frozen=True)
class Example:
    """A clip to look at.

    Attributes:
        title: clip, source and score.
        levels_db: spectrograms (F, T) of mixture, reference and estimate; 0 is the mixture's peak.
        seconds: how long they are.
        top_khz: their highest frequency.
    """

    title: str
    levels_db: dict[str, np.ndarray]
    seconds: float
    top_khz: float


def spectrograms(examples: Sequence[Example]) -> Figure:
    """A row per example: mixture, reference, estimate, all on one scale."""
    figure = Figure(figsize=(11.5, 0.6 + 1.7 * len(examples)), layout="constrained")
    axes = figure.subplots(len(examples), len(examples[0].levels_db), squeeze=False, sharex="row", sharey=True)
    for row, example in zip(axes, examples, strict=True):
        row[0].set_title(plain(example.title), fontsize="small", loc="left", weight="bold")
        row[0].set_ylabel("kHz", fontsize="small")
        for axis, (kind, levels_db) in zip(row, example.levels_db.items(), strict=True):
            image = draw(axis, levels_db, (0.0, example.seconds, 0.0, example.top_khz), -DYNAMIC_RANGE_DB, 0.0)
            axis.tick_params(labelsize="x-small")
            label = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 2}
            axis.text(0.01, 0.95, kind, transform=axis.transAxes, color="white", fontsize="small", va="top", bbox=label)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize="small")
    bar = figure.colorbar(image, ax=axes, aspect=15 * len(examples), fraction=0.02, pad=0.01)
    bar.set_label("dB, 0 is the mixture's peak", fontsize="small")
    bar.ax.tick_params(labelsize="x-small")
    return figure


def plain(text: str) -> str:
    """Text without TeX and control characters: dollar signs are themselves."""
    return clean(shortened(text, 2 * _LONGEST_NAME)).replace("$", r"\$")


def shortened(text: str, longest: int = _LONGEST_NAME) -> str:
    """A name of at most so many characters."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a song's name in a script that the font lacks
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray:
    """The figure as an image (height, width, 3), 8 bit."""
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
