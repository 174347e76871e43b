"""Resuming a run: state from its checkpoint, settings from the config, errors where they do not fit together."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, WeightAveraging
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hourglass_sep.checkpoints.store import read
from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import CheckpointError

RECIPE = "hourglass_sep_recipe"
"""Key of a checkpoint: the classes of optimiser and schedule, by name."""

_MACHINE = {"params", "lr", "foreach", "fused", "capturable", "differentiable", "maximize"}
_PROGRESS = {"last_epoch", "base_lrs"}


def read_resumable(
    path: str, separator: Separator, max_steps: int, max_epochs: int | None = None, trust: Collection[str] = ()
) -> dict[str, Any]:
    """Read a checkpoint and check, before training, whether training can be resumed from it.

    Args:
        path: the checkpoint file.
        separator: the separator to be trained.
        max_steps: number of steps at which training ends; -1 for no limit.
        max_epochs: number of epochs at which training ends; None or -1 for no limit.
        trust: packages whose networks may be imported, see `Separator.from_checkpoint`.

    Returns:
        The checkpoint as Lightning wrote it.

    Raises:
        CheckpointError: the file is not a training checkpoint, is of another network or STFT, or its training has
            reached ``max_steps`` or ``max_epochs``.
    """
    description, _ = read(path, trust)
    own = separator.description
    if description["network"]["_target_"] != own["network"]["_target_"]:
        raise CheckpointError(f"{path} is of another network: give model._target_={description['network']['_target_']}")
    for part, before, now in (
        ("model", description["network"]["arguments"], own["network"]["arguments"]),
        ("audio", description["audio"], own["audio"]),
    ):
        if before != now:
            wanted = " ".join(f"{part}.{key}={value}" for key, value in before.items())
            raise CheckpointError(f"{path} is of another {part}: repeat the options of its run, which gave {wanted}")
    if description["sources"] != own["sources"]:
        wanted = ",".join(description["sources"])
        raise CheckpointError(f"{path} is of other sources: repeat the options of its run, which gave [{wanted}]")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True) if path.endswith(".ckpt") else {}
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(f"{path} holds weights only: resume from a .ckpt file of a training run")
    try:
        groups, schedule = checkpoint["optimizer_states"][0]["param_groups"], checkpoint["lr_schedulers"][0]
        step, epochs = (int(place) for place in (checkpoint["global_step"], _progress(checkpoint)))
        whole = isinstance(groups[0]["lr"], float) and isinstance(schedule["last_epoch"], int)
    except (KeyError, IndexError, TypeError, ValueError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path} does not say how far its training was: resume from another checkpoint")
    if 0 <= max_steps <= step:
        raise CheckpointError(f"{path} has {step} steps behind it: raise trainer.max_steps")
    if max_epochs is not None and 0 <= max_epochs <= epochs:
        raise CheckpointError(f"{path} has {epochs} epochs behind it: raise trainer.max_epochs")
    return checkpoint


def _progress(checkpoint: dict[str, Any]) -> Any:
    """Number of completed epochs."""
    return checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def check_callbacks(path: str, checkpoint: dict[str, Any], callbacks: Iterable[Callback]) -> None:
    """Check that a checkpoint with averaged weights is resumed with weight averaging.

    Args:
        path: the checkpoint file, for the error.
        checkpoint: the content of that file.
        callbacks: callbacks of the run.

    Raises:
        CheckpointError: the weights are averages and no callback averages weights. The optimiser's state does not
            belong to the averages, but to the weights stored beside them.
    """
    averaging = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    if "averaging_state" in checkpoint and not averaging:
        raise CheckpointError(f"{path} holds averages of weights: repeat callbacks=ema")


def follow_config(
    checkpoint: dict[str, Any],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    path: str,
) -> list[str]:
    """Replace the settings of optimiser and schedule in a checkpoint by the config's; state and progress stay.

    The schedule gets the state that it has after the checkpoint's number of steps in a run with this config. With an
    unchanged config the checkpoint stays bit-identical, as the learning rate results from the same operations.

    Args:
        checkpoint: checkpoint of Lightning; changed in place.
        optimizer: new optimiser of the config, of one dummy parameter; it is stepped.
        scheduler: new schedule of the config, of that optimiser; it is stepped.
        path: the checkpoint's file, for the error.

    Returns:
        Differences from the settings of the checkpoint's run, such as ``optimizer.lr=0.001 (was 0.0001)``.

    Raises:
        CheckpointError: the optimiser is of another kind and cannot use the state, or the schedule cannot take the
            checkpoint's number of steps.
    """
    state, progress = checkpoint["optimizer_states"][0], checkpoint["lr_schedulers"][0]
    own, before = optimizer.param_groups[0], state["param_groups"][0]
    was = checkpoint.get(RECIPE, {})
    decoupled = [bool(group.get("decoupled_weight_decay")) for group in (own, before)]
    if own.keys() - _MACHINE != before.keys() - _MACHINE or decoupled[0] != decoupled[1]:
        other = f"of optimizer {was['optimizer']}" if "optimizer" in was else "of another optimizer"
        raise CheckpointError(
            f"{path} is {other}, whose state {type(optimizer).__name__} cannot take over: repeat the optimizer= option "
            "of its run, or start a new run"
        )
    names = {key: "lr" if key == "initial_lr" else key for key in own.keys() - _MACHINE}
    found = [_change(f"optimizer.{name}", own[key], before[key]) for key, name in sorted(names.items())]
    same_kind = was.get("scheduler", type(scheduler).__name__) == type(scheduler).__name__
    if same_kind:
        settings = {key: value for key, value in scheduler.state_dict().items() if key[:1] != "_"}
        found += [
            _change(f"scheduler.{key}", value, progress[key])
            for key, value in settings.items()
            if key in progress and key not in _PROGRESS
        ]
    else:
        found.append(f"scheduler {type(scheduler).__name__} (was {was['scheduler']})")
    try:
        for _ in range(progress["last_epoch"]):
            optimizer.step()
            scheduler.step()
    except (TypeError, ValueError) as error:  # a schedule that has ended, or that needs scores
        raise CheckpointError(f"{path}: {type(scheduler).__name__}: {error}: see conf/scheduler") from error
    for group in state["param_groups"]:
        group.update({key: value for key, value in own.items() if key != "params"})
    checkpoint["lr_schedulers"][0] = scheduler.state_dict()
    return [change for change in found if change]


def recipe_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A copy of the parts of a checkpoint that `follow_config` uses: settings, without the optimiser's tensors."""
    groups = [{"param_groups": state["param_groups"]} for state in checkpoint["optimizer_states"]]
    recipe = {"optimizer_states": groups, "lr_schedulers": checkpoint["lr_schedulers"]}
    return copy.deepcopy(recipe | {RECIPE: checkpoint.get(RECIPE, {})})


def keep_patience(checkpoint: dict[str, Any], callbacks: Iterable[Callback]) -> None:
    """Set the patience of early stopping in a checkpoint to the config's; Lightning would use the checkpoint's."""
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and callback.state_key in checkpoint.get("callbacks", {}):
            checkpoint["callbacks"][callback.state_key]["patience"] = callback.patience


def _change(name: str, value: Any, before: Any) -> str:
    """Difference of two values as ``name=value (was before)``; '' if there is none.

    Lists, tuples and counters are compared as lists, as files may return one type for another.
    """
    value, before = (list(v.elements()) if isinstance(v, Counter) else v for v in (value, before))
    value, before = (list(v) if isinstance(v, tuple) else v for v in (value, before))
    return "" if value == before else f"{name}={value} (was {before})"
