"""White noise, and museval's BSS Eval as a reference."""

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import torch


def noise(*shape: int, seed: int = 0, level: float = 1.0) -> torch.Tensor:
    """White Gaussian noise of the given shape, float32, with standard deviation ``level``."""
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MUSEVAL = importlib.util.find_spec("museval")
assert MUSEVAL is not None
assert MUSEVAL.origin is not None
# Only the metrics module is loaded: importing the whole package requires FFmpeg, which is not needed here.
museval_bss_eval = runpy.run_path(str(Path(MUSEVAL.origin).with_name("metrics.py")))["bss_eval"]


def musevals(references: torch.Tensor, estimates: torch.Tensor) -> tuple[np.ndarray, ...]:
    """SDR, SIR, SAR (S,) of BSS Eval v3 'sources' over the whole signal."""
    sdr, _, sir, sar, _ = museval_bss_eval(
        references.double().numpy()[..., None],
        estimates.double().numpy()[..., None],
        window=np.inf,
        hop=np.inf,
        compute_permutation=False,
        filters_len=512,
        framewise_filters=False,
        bsseval_sources_version=True,
    )
    return sdr[:, 0], sir[:, 0], sar[:, 0]
