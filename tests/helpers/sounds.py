"""White noise, and museval's BSS Eval as a reference."""

import importlib.util
import runpy
from pathlib import Path

import torch


def noise(*shape: int, seed: int = 0, level: float = 1.0) -> torch.Tensor:
    """White Gaussian noise of the given shape, float32, with standard deviation ``level``."""
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MUSEVAL = importlib.util.find_spec("museval")
assert MUSEVAL is not None
assert MUSEVAL.origin is not None
# Only the metrics module is loaded: importing the whole package requires FFmpeg, which is not needed here.
museval_bss_eval = runpy.run_path(str(Path(MUSEVAL.origin).with_name("metrics.py")))["bss_eval"]
