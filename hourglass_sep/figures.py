"""Pictures of a separation. Plain matplotlib figures, no global state."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.constants import SOURCES
from hourglass_sep.separator import Separator

_DYNAMIC_RANGE_DB = 70.0


@torch.inference_mode()
def picture(separator: Separator, mixture: Tensor, sample_rate_hz: int, references: Tensor | None = None) -> Figure:
    """Spectrograms of mixture, estimates and references above the masks of every stack.

    Args:
        separator: what separates.
        mixture: (N).
        sample_rate_hz: its sample rate.
        references: the true sources (S, N), if they are known.
    """
    stft = separator.spectrogram

    def low(waveforms: Tensor) -> Tensor:
        return resample(waveforms.cpu(), sample_rate_hz, stft.sample_rate_hz)

    def level_db(waveforms: Tensor) -> Tensor:
        return 20 * stft.magnitude(stft(low(waveforms))).clamp_min(1e-8).log10()

    estimates = separator(mixture[None, None], sample_rate_hz)[0, :, 0]
    sounds = {"mixture": mixture} | {f"{name}, estimate": estimates[s] for s, name in enumerate(SOURCES)}
    if references is not None:
        sounds |= {f"{name}, reference": references[s] for s, name in enumerate(SOURCES)}
    spectrograms = {title: level_db(sound) for title, sound in sounds.items()}

    magnitude = separator.mono_magnitude(stft(low(mixture)[None, None]).to(separator.device))
    stack_masks = separator.stack_masks(magnitude)[:, 0].clamp(0, 1).cpu()  # (K, S, F, T)
    masks = {
        f"mask of {name}, stack {k + 1}": stack[s]
        for k, stack in enumerate(stack_masks)
        for s, name in enumerate(SOURCES)
    }

    columns = max(len(spectrograms), len(masks))
    figure = Figure(figsize=(3.2 * columns, 5.6), layout="constrained")
    top_db = float(spectrograms["mixture"].max())
    seconds = mixture.shape[-1] / sample_rate_hz
    extent = (0.0, seconds, 0.0, stft.n_freq / stft.n_fft * stft.sample_rate_hz / 1000)
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    for part, images, low_end, high_end, unit in (
        (upper, spectrograms, top_db - _DYNAMIC_RANGE_DB, top_db, "dB"),
        (lower, masks, 0.0, 1.0, "mask"),
    ):
        axes = part.subplots(1, len(images), squeeze=False, sharex=True, sharey=True)[0]
        for axis, (title, values) in zip(axes, images.items(), strict=True):
            image = axis.imshow(
                values, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=low_end, vmax=high_end
            )
            axis.set_title(title, fontsize="small")
            axis.set_xlabel("seconds")
        axes[0].set_ylabel("kHz")
        part.colorbar(image, ax=axes.tolist(), label=unit)
    return figure
