"""How loud the network sees its input: one rule for training and inference."""

from __future__ import annotations

from torch import Tensor

SCALES = ("window", "clip")
"""``window`` divides every inference window or training patch by its own maximum; ``clip`` divides all of a file by
one maximum (Park 2018), or all of a segment where it has more than one (`separator.SEGMENT_SECONDS`); it
leaves the quiet parts of a song with long dynamics too small to be separated."""

FLOOR = 1e-4
"""The least scale: a sine some 38 dB below the last bit of a 16-bit file. Keeps digital silence at zero."""


def input_scale(magnitude: Tensor) -> Tensor:
    """The divisor of a magnitude (..., F, T): its maximum, floored; (..., 1, 1)."""
    return magnitude.amax(dim=(-2, -1), keepdim=True).clamp_min(FLOOR)
