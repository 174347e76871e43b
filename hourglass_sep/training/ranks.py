"""Ranks: the processes of a run on several devices, of which the first one writes and speaks."""

from __future__ import annotations

import sys


def is_further_rank() -> bool:
    """Whether this process is not the first one; Lightning knows, once it is imported."""
    lightning = sys.modules.get("pytorch_lightning.utilities")
    return lightning is not None and bool(lightning.rank_zero_only.rank)
