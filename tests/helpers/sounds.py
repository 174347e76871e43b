"""Noise, and museval as an oracle."""

import importlib.util
import runpy
from pathlib import Path

import torch


def noise(*shape: int, seed: int = 0, level: float = 1.0) -> torch.Tensor:
    """White noise of this shape, float32."""
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MUSEVAL = importlib.util.find_spec("museval")
assert MUSEVAL is not None
assert MUSEVAL.origin is not None
# Its metrics module by itself: importing the whole package looks for FFmpeg, which is not needed here.
museval_bss_eval = runpy.run_path(str(Path(MUSEVAL.origin).with_name("metrics.py")))["bss_eval"]
