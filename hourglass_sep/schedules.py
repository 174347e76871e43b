"""Learning-rate schedules that torch has not got."""

from __future__ import annotations

import math


def warmup_cosine(step: int, warmup_steps: int, steps: int) -> float:
    """The learning rate's factor at a step: from 0 to 1 in ``warmup_steps``, down to 0 at ``steps`` along a cosine."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return (1 + math.cos(math.pi * min(step / steps, 1))) / 2
