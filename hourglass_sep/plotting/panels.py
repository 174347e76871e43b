"""Spectrogram panels, and conversion of figures to PNG files and pixel arrays."""

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
    """Draw values (F, T) over time in seconds and frequency in kHz.

    Args:
        axis: axes to draw on.
        values: levels in dB, or a mask, (F, T).
        extent: first and last second, lowest and highest frequency in kHz.
        low: value of the darkest colour.
        high: value of the brightest colour.

    Returns:
        The image, for a colour bar.
    """
    return axis.imshow(values, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=low, vmax=high)


@dataclass(frozen=True)
class Example:
    """Spectrograms of one clip and source.

    Attributes:
        title: clip, source and score.
        levels_db: spectrograms (F, T) of mixture, reference and estimate in dB, 0 at the mixture's peak.
        seconds: their duration in seconds.
        top_khz: their highest frequency in kHz.
    """

    title: str
    levels_db: dict[str, np.ndarray]
    seconds: float
    top_khz: float


def spectrograms(examples: Sequence[Example]) -> Figure:
    """Figure with a row per example: mixture, reference and estimate, all on one colour scale."""
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
    """Prepare a text for matplotlib: no control characters, no TeX (dollar signs are escaped), limited length."""
    return clean(shortened(text, 2 * _LONGEST_NAME)).replace("$", r"\$")


def shortened(text: str, longest: int = _LONGEST_NAME) -> str:
    """Cut a name to at most `longest` characters, with ``...`` at its end."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def png(figure: Figure) -> bytes:
    """The content of a PNG file of the figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font may lack characters of a song's name
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray:
    """The figure as an RGB image (height, width, 3), uint8."""
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
