"""Ranks: the processes of a run on several devices, of which only the first writes files and prints."""

from __future__ import annotations

import sys


def is_further_rank() -> bool:
    """Whether this process is not the first rank; False before Lightning, which sets the rank, is imported."""
    lightning = sys.modules.get("pytorch_lightning.utilities")
    return lightning is not None and bool(lightning.rank_zero_only.rank)
