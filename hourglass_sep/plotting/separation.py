"""Figures of a separation: plain matplotlib figures, no global state."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.separator import Separator
from hourglass_sep.plotting.panels import DYNAMIC_RANGE_DB, draw


@torch.inference_mode()
def picture(
    separator: Separator,
    mixture: Tensor,
    sample_rate_hz: int,
    references: Tensor | None = None,
    start_seconds: float = 0.0,
) -> Figure:
    """Draw spectrograms of mixture, estimates and references, the masks of every stack, and refined masks, if any.

    Args:
        separator: separator that makes the masks and estimates.
        mixture: waveform (N) or (C, N).
        sample_rate_hz: sample rate of mixture and references in Hz.
        references: true sources (S, N); None if they are unknown.
        start_seconds: time of the first sample in seconds, for the axes.

    Returns:
        The figure: a row of spectrograms in dB, a row of masks, and a row of the masks that refinement changes.
    """
    stft = separator.spectrogram

    def seen(waveform: Tensor) -> Tensor:
        """The network's input for a waveform (N) or (C, N): mono magnitudes (1, 1, F, T)."""
        low = resample(torch.atleast_2d(waveform).cpu(), sample_rate_hz, stft.sample_rate_hz)
        return stft.mono_magnitude(stft(low[None]))

    estimates = separator(torch.atleast_2d(mixture)[None], sample_rate_hz)[0]  # (S, C, N)
    sounds = {"mixture": mixture} | {f"{name}, estimate": estimates[s] for s, name in enumerate(SOURCES)}
    if references is not None:
        sounds |= {f"{name}, reference": references[s] for s, name in enumerate(SOURCES)}
    spectrograms = {title: 20 * seen(sound)[0, 0].clamp_min(1e-8).log10() for title, sound in sounds.items()}

    magnitude = seen(mixture)
    stack_masks = separator.stack_masks(magnitude)[:, 0].cpu()  # (K, S, F, T)
    masks = {
        f"mask of {name}, stack {k + 1}": stack[s]
        for k, stack in enumerate(stack_masks)
        for s, name in enumerate(SOURCES)
    }

    rows = {"dB": spectrograms, "mask": masks}
    refined = _refinement(separator, magnitude, stack_masks[-1])
    if refined:
        rows["mask, refined"] = refined
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(3.2 * columns, 2.8 * len(rows)), layout="constrained")
    top_db = float(spectrograms["mixture"].max())
    seconds = mixture.shape[-1] / sample_rate_hz
    extent = (start_seconds, start_seconds + seconds, 0.0, stft.n_freq / stft.n_fft * stft.sample_rate_hz / 1000)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (unit, images) in zip(parts, rows.items(), strict=True):
        low_end, high_end = (top_db - DYNAMIC_RANGE_DB, top_db) if unit == "dB" else (0.0, 1.0)
        axes = part.subplots(1, len(images), squeeze=False, sharex=True, sharey=True)[0]
        for axis, (title, values) in zip(axes, images.items(), strict=True):
            if values.is_floating_point():
                image = draw(axis, values, extent, low_end, high_end)
            else:  # labels, whose order has no meaning
                draw(axis, values % 20, extent, 0, 19).set(cmap="tab20", interpolation="nearest")
            axis.set_title(title, fontsize="small")
            axis.set_xlabel("seconds")
        axes[0].set_ylabel("kHz")
        part.colorbar(image, ax=axes.tolist(), label=unit)
    return figure


def _refinement(separator: Separator, magnitude: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Label map, and the masks that refinement changes, before and after it.

    Args:
        separator: separator whose refinement is drawn.
        magnitude: input of the network (1, 1, F, T).
        masks: masks of the last stack (S, F, T), clamped at 0.

    Returns:
        Title to image (F, T); empty for a separator without refinement.
    """
    label_map = torch.full(masks.shape[1:], -1)
    label_maps = getattr(separator.refine, "label_maps", None)
    for frames, labels in label_maps(magnitude[0, 0]) if label_maps else ():
        if labels is not None:
            label_map[:, frames] = labels.cpu()
    after = separator.refine(masks[None].to(magnitude), magnitude)[0].cpu()
    changed = {name: s for s, name in enumerate(SOURCES) if not torch.equal(masks[s], after[s])}
    labelled = {"label map": label_map} if (label_map >= 0).any() else {}
    return labelled | {
        f"mask of {name}, {when}": values[s]
        for name, s in changed.items()
        for when, values in (("before", masks), ("after", after))
    }
