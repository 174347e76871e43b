"""Going on from a checkpoint: whether it can be done, and which of the run's options still count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hourglass_sep.errors import CheckpointError
from hourglass_sep.separator import Separator
from hourglass_sep.weights import describe, read

RECIPE = "recipe"
"""The key under which a checkpoint names the classes of optimiser and schedule."""

_PROGRESS = (
    "last_epoch",
    "_step_count",
    "_last_lr",
    "_get_lr_called_within_step",
    "_is_initial",
    "base_lrs",
    "verbose",
)


def recipe(optimizer: Optimizer, scheduler: LRScheduler) -> dict[str, str]:
    """The classes' names."""
    return {"optimizer": type(optimizer).__name__, "scheduler": type(scheduler).__name__}


def read_resumable(path: str, separator: Separator, max_steps: int) -> dict[str, Any]:
    """Read the checkpoint that training is to go on from.

    Raises:
        CheckpointError: it is none, of another network or STFT, or there is nothing left to do.
    """
    description, _ = read(path)
    own = describe(separator)
    for part in ("model", "audio"):
        if description[part] != own[part]:
            wanted = " ".join(f"{part}.{key}={value}" for key, value in description[part].items())
            raise CheckpointError(f"{path} is of another {part}: repeat the options of its run, which gave {wanted}")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True) if path.endswith(".ckpt") else {}
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(f"{path} holds weights only: resume from a .ckpt file of a training run")
    if 0 <= max_steps <= checkpoint["global_step"]:
        raise CheckpointError(f"{path} has {checkpoint['global_step']} steps behind it: raise trainer.max_steps")
    return checkpoint


def carry_over(
    checkpoint: dict[str, Any],
    path: str,
    make_optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer],
    make_scheduler: Callable[[Optimizer], LRScheduler],
) -> list[str]:
    """Put the schedule that is configured now into a checkpoint, where it is another one.

    The rate of the next step is what that schedule would have come to by now; unchanged schedules are left as they are,
    to the bit. The optimiser's settings remain the checkpoint's.

    Args:
        checkpoint: as Lightning has written it; changed in place.
        path: its file, for messages.
        make_optimizer: parameters to the configured optimiser.
        make_scheduler: optimiser to the configured schedule.

    Returns:
        What the user should know, a line each.

    Raises:
        CheckpointError: the optimiser is of another class, whose state would not fit.
    """
    optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    (group,), (saved, *_) = optimizer.param_groups, checkpoint["optimizer_states"][0]["param_groups"]
    former = checkpoint.get(RECIPE, {})
    ours = type(optimizer).__name__
    if former.get("optimizer", ours) != ours or not group.keys() <= saved.keys():
        raise CheckpointError(
            f"{path} was trained with {former.get('optimizer', 'another optimizer')}, not {ours}: repeat its "
            "optimizer= option"
        )
    state = checkpoint["lr_schedulers"][0]
    plain = dict(group)
    make_scheduler(optimizer)
    scheduled = {key for key, value in plain.items() if key not in ("params", "lr") and group[key] != value}
    settings = {key: value for key, value in plain.items() if key not in {"params", *scheduled}}
    settings["lr"] = group.get("initial_lr", plain["lr"])
    step, kept = state["last_epoch"], {**saved, "lr": saved.get("initial_lr", saved["lr"])}
    notes = [
        f"optimizer.{key}={_shown(value)} is ignored: {path} goes on with {_shown(kept[key])}"
        for key, value in settings.items()
        if _shown(value) != _shown(kept[key])
    ]
    group.pop("initial_lr", None)
    group.update(plain | {key: kept[key] for key in settings})
    scheduler = make_scheduler(optimizer)
    fresh = scheduler.state_dict()
    same = former.get("scheduler", type(scheduler).__name__) == type(scheduler).__name__
    if same and _settings(fresh) == _settings(state):
        return notes
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    checkpoint["lr_schedulers"][0] = scheduler.state_dict()
    for each in checkpoint["optimizer_states"][0]["param_groups"]:
        each.update({key: value for key, value in group.items() if key != "params"})
    return [
        *notes,
        f"the schedule is not the one of {path}: it goes on at step {step} with a rate of {group['lr']:.3g}",
    ]


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in _PROGRESS and not isinstance(value, LRScheduler)}


def _shown(value: Any) -> str:
    """A value as it is written in a config: lists and tuples alike."""
    return str(list(value)) if isinstance(value, list | tuple) else str(value)
