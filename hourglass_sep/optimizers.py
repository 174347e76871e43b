"""Optimisers that need to know more than a list of parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pytorch_optimizer import Muon
from torch import nn
from torch.optim import Optimizer

_LEAST_SIDE = 16
"""Kernels from or to fewer feature maps, those of the first layer and of the masks, are left to Adam."""


def muon(
    parameters: Iterable[nn.Parameter], lr: float = 0.02, adam_lr: float = 1e-3, weight_decay: float = 0.01, **more: Any
) -> Optimizer:
    """Muon for the kernels of hidden layers, Adam for all other parameters (Jordan et al. 2024).

    A kernel (c_out, c_in, kh, kw) is taken for a matrix (c_out, c_in * kh * kw), and its momentum made orthogonal.

    Args:
        parameters: all of a network's.
        lr: Muon's learning rate.
        adam_lr: Adam's.
        weight_decay: of both, decoupled.
        more: further settings of `pytorch_optimizer.Muon`.
    """
    everything = list(parameters)
    hidden = {id(p) for p in everything if p.ndim == 4 and min(p.shape[:2]) >= _LEAST_SIDE}
    groups = [
        {"params": [p for p in everything if id(p) in hidden], "use_muon": True},
        {"params": [p for p in everything if id(p) not in hidden], "use_muon": False, "betas": (0.9, 0.999)},
    ]
    settings = {"adamw_lr": adam_lr, "weight_decay": weight_decay, "adamw_wd": weight_decay, "adamw_eps": 1e-8}
    return Muon([group for group in groups if group["params"]], lr=lr, **settings, **more)


def warmup_cosine(step: int, warmup_steps: int, steps: int) -> float:
    """The learning rate's factor at a step: from 0 to 1 in ``warmup_steps``, down to 0 at ``steps`` along a cosine."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return (1 + math.cos(math.pi * min(step / steps, 1))) / 2
