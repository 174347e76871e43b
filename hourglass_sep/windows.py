"""A network's masks for a spectrogram of any length, window by window."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass_sep.scaling import input_scale


def masks_by_window(
    network: nn.Module,
    magnitude: Tensor,
    window_frames: int | None,
    context_frames: int,
    scale: str,
    batch_windows: int,
    device: torch.device,
    tick: Callable[[float], object],
    stacks: slice = slice(None),
    first_frame: int = 0,
) -> Tensor:
    """Cut a magnitude into windows, and keep the middle of each one's masks (Park 2018, section 3.4).

    Args:
        network: (B, 1, F, T) to (K, B, S, F, T).
        magnitude: (B, 1, F, T).
        window_frames: T of the network's input; None for all frames at once.
        context_frames: frames discarded on each side of a window.
        scale: a name from `hourglass_sep.scaling.SCALES`.
        batch_windows: windows that go through the network together.
        device: the network's.
        tick: called with the fraction that is done.
        stacks: whose masks to return.
        first_frame: the number of the magnitude's first frame; windows keep what begins at multiples of their hop.

    Returns:
        Raw masks (K, B, S, F, T), float32, on the magnitude's device.
    """
    n_batch, _, n_freq, n_frames = magnitude.shape
    context = 0 if window_frames is None else context_frames
    window = window_frames or n_frames
    hop = window - 2 * context
    before = first_frame % hop if window_frames is not None else 0
    n_windows = -(-(before + n_frames) // hop)
    padded = F.pad(magnitude, (before + context, n_windows * hop - before - n_frames + context))
    windows = padded.unfold(-1, window, hop)  # (B, 1, F, n_windows, T)
    windows = windows.permute(0, 3, 1, 2, 4).reshape(-1, 1, n_freq, window)
    clip_scale = input_scale(magnitude).repeat_interleave(n_windows, 0)
    scales = clip_scale if scale == "clip" else input_scale(windows)
    some = []
    for first in range(0, len(windows), batch_windows):
        batch = slice(first, first + batch_windows)
        masks = network((windows[batch] / scales[batch]).to(device))
        some.append(masks[stacks, ..., context : context + hop].float().to(magnitude.device))
        tick(min(batch.stop / len(windows), 1.0))
    masks = torch.cat(some, dim=1)  # (K, B * n_windows, S, F, hop)
    n_stacks, _, n_sources = masks.shape[:3]
    masks = masks.reshape(n_stacks, n_batch, n_windows, n_sources, n_freq, hop)
    masks = masks.permute(0, 1, 3, 4, 2, 5).flatten(-2)  # (K, B, S, F, n_windows * hop)
    return masks[..., before : before + n_frames]
