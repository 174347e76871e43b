"""Which device to compute on."""

from __future__ import annotations

import torch

from hourglass_sep.errors import UserError

CHOICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: there is no such device here.
    """
    if name not in CHOICES:
        raise UserError(f"device {name!r} is not known: choose from {', '.join(CHOICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device found here: use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
