"""Input scale: the divisor of the network's input, one rule for training and inference."""

from __future__ import annotations

from torch import Tensor

SCALES = ("window", "clip")
"""``window`` divides each inference window or training patch by its own maximum; ``clip`` divides a whole file by its
maximum (Park 2018), or each segment of a longer file (`segments.SEGMENT_SECONDS`), which separates the quiet parts of
songs with a large dynamic range poorly."""

FLOOR = 1e-4
"""Least divisor: a sine about 38 dB below one step of a 16-bit file. Digital silence stays zero."""


def input_scale(magnitude: Tensor) -> Tensor:
    """The divisor of a magnitude (..., C, F, T), one for all channels: its maximum, floored; (..., 1, 1, 1)."""
    return magnitude.amax(dim=(-3, -2, -1), keepdim=True).clamp_min(FLOOR)
