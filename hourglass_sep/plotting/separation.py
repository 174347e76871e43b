"""Figures of a separation: plain matplotlib figures, no global state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.inference.refinement.refine import by_channel
from hourglass_sep.inference.separator import Separator
from hourglass_sep.plotting.panels import DYNAMIC_RANGE_DB, draw

_MOST_SOURCES = 8
_WIDTH_INCHES = 14.0
_PANEL_INCHES = (1.6, 3.2)
"""Least and largest width of a panel."""

Row = list[tuple[str, Tensor] | None]
"""Panels of a row, each a title and an image (F, T); None for an empty place."""


@torch.inference_mode()
def picture(
    separator: Separator,
    mixture: Tensor,
    sample_rate_hz: int,
    references: Tensor | None = None,
    start_seconds: float = 0.0,
) -> Figure:
    """Draw spectrograms of mixture, estimates and references, the masks of every stack, and refined masks, if any.

    Spectrograms and masks are those of the channels' mean.

    Args:
        separator: separator that makes the masks and estimates.
        mixture: waveform (N) or (C, N).
        sample_rate_hz: sample rate of mixture and references in Hz.
        references: true sources (S, N) or (S, C, N); None if they are unknown.
        start_seconds: time of the first sample in seconds, for the axes.

    Returns:
        The figure: the mixture on the left, a column for each of the first `_MOST_SOURCES` sources, and rows of
        spectrograms in dB (estimates, references), of each stack's masks, and of the masks that refinement changes.
    """
    stft = separator.spectrogram
    names = separator.sources[:_MOST_SOURCES]

    def level(title: str, waveform: Tensor) -> tuple[str, Tensor]:
        low = resample(torch.atleast_2d(waveform).cpu(), sample_rate_hz, stft.sample_rate_hz)
        return title, 20 * stft.mono_magnitude(stft(low[None]))[0, 0].clamp_min(1e-8).log10()

    estimates = separator(torch.atleast_2d(mixture)[None], sample_rate_hz)[0]  # (S, C, N)
    whole = level("mixture", mixture)
    spectrograms: list[Row] = [[whole, *(level(f"{name}, estimate", estimates[s]) for s, name in enumerate(names))]]
    if references is not None:
        spectrograms.append([None, *(level(f"{name}, reference", references[s]) for s, name in enumerate(names))])

    magnitude = separator.magnitude(torch.atleast_2d(mixture).cpu()[None], sample_rate_hz)
    stack_masks = separator.stack_masks(magnitude)[:, 0].cpu()  # (K, S, 1|C, F, T)
    masks: list[Row] = [
        [None, *((f"mask of {name}, stack {k + 1}", image) for name, image in zip(names, _mono(stack), strict=False))]
        for k, stack in enumerate(stack_masks)
    ]
    masks += _refinement(separator, magnitude, stack_masks[-1], names)

    columns = 1 + len(names)
    width = min(max(_WIDTH_INCHES / columns, _PANEL_INCHES[0]), _PANEL_INCHES[1])
    top_db = float(whole[1].max())
    extent = (
        start_seconds,
        start_seconds + mixture.shape[-1] / sample_rate_hz,
        0.0,
        stft.n_freq / stft.n_fft * stft.sample_rate_hz / 1000,
    )
    parts = {"dB": (spectrograms, top_db - DYNAMIC_RANGE_DB, top_db), "mask": (masks, 0.0, 1.0)}
    n_rows = [len(rows) for rows, _, _ in parts.values()]
    figure = Figure(figsize=(width * columns + 0.8, (0.68 * width + 0.35) * sum(n_rows) + 0.3), layout="constrained")
    boxes = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=n_rows)[:, 0]
    for box, (unit, (rows, low, high)) in zip(boxes, parts.items(), strict=True):
        axes = box.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
        image = None
        for axis, panel in zip(axes.flat, (panel for row in rows for panel in _filled(row, columns)), strict=True):
            if panel is None:
                axis.set_axis_off()
                continue
            title, values = panel
            if values.is_floating_point():
                image = draw(axis, values.numpy(), extent, low, high)
            else:  # labels, whose order has no meaning
                draw(axis, (values % 20).numpy(), extent, 0, 19).set(cmap="tab20", interpolation="nearest")
            axis.set_title(title, fontsize="small")
            axis.label_outer()
        for axis in axes[-1, 1:]:
            axis.set_xlabel("seconds", fontsize="small")
        for row in axes:
            shown = next(axis for axis in row if axis.axison)
            shown.set_ylabel("kHz", fontsize="small")
            shown.tick_params(labelleft=True)
        if image is not None:
            box.colorbar(image, ax=axes.ravel().tolist(), label=unit, fraction=0.03, pad=0.01)
    return figure


def _filled(row: Row, columns: int) -> Row:
    """The row with empty places up to the number of columns."""
    return [*row, *[None] * (columns - len(row))]


def _mono(masks: Tensor) -> Tensor:
    """Masks (S, F, T) or (S, C, F, T), averaged over channels: (S, F, T)."""
    return masks.reshape(len(masks), -1, *masks.shape[-2:]).mean(1)


def _refinement(separator: Separator, magnitude: Tensor, masks: Tensor, names: Sequence[str]) -> list[Row]:
    """Label map, and the masks that refinement changes, before and after it.

    Args:
        separator: separator whose refinement is drawn.
        magnitude: input of the network (1, C, F, T).
        masks: masks of the last stack (S, 1|C, F, T), clamped at 0.
        names: names of the sources to draw.

    Returns:
        Rows with the label map on the left; none for a separator without refinement.
    """
    label_map = torch.full(masks.shape[-2:], -1)
    label_maps = getattr(separator.refine, "label_maps", None)
    for frames, labels in label_maps(magnitude[0, 0]) if label_maps else ():
        if labels is not None:
            label_map[:, frames] = labels.cpu()
    refined = by_channel(separator.refine, masks[None].to(magnitude), magnitude)[0].cpu()
    changed = {name: s for s, name in enumerate(names) if not torch.equal(masks[s], refined[s])}
    labelled = ("label map", label_map) if (label_map >= 0).any() else None
    if not changed:
        return [] if labelled is None else [[labelled]]
    before, after = _mono(masks), _mono(refined)
    return [
        [left, *((f"mask of {name}, {when}", values[s]) if name in changed else None for s, name in enumerate(names))]
        for left, when, values in ((labelled, "before", before), (None, "after", after))
    ]
