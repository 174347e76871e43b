"""Builders: LightningModule, callbacks, loggers and trainer from a composed config."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import SettingError, UserError
from hourglass_sep.training.build_separator import build_separator
from hourglass_sep.training.callbacks import CountSteps, StepProgress
from hourglass_sep.training.checkpoint_io import AtomicCheckpointIO
from hourglass_sep.training.loggers import forgiving
from hourglass_sep.training.system import SeparationSystem

_REHEARSED = 20000
_TRAINERS = ("pytorch_lightning", "lightning_fabric", "torchmetrics", "torch.optim", "torch.amp")
_IMPOSSIBLE = {
    "overfit_batches": "every patch is drawn anew: give a data.root of one or two clips and augment=none",
    "use_distributed_sampler": "the data module numbers the samples of all devices itself: leave it false",
}
_NUMBERS: dict[str, tuple[float, tuple[type, ...]]] = {
    "max_epochs": (-1, (int,)),
    "min_epochs": (0, (int,)),
    "min_steps": (0, (int,)),
    "check_val_every_n_epoch": (1, (int,)),
    "num_sanity_val_steps": (-1, (int,)),
    "limit_train_batches": (0, (int, float)),
    "limit_val_batches": (0, (int, float)),
    "val_check_interval": (1e-9, (int, float, str)),
    "gradient_clip_val": (0, (int, float)),
    "fast_dev_run": (0, (int,)),
}
"""Trainer settings for which Lightning's own errors are unclear: minimum value and allowed types."""
_FLAGS = ("benchmark", "detect_anomaly", "deterministic", "inference_mode", "sync_batchnorm")
_ROUNDED_INPUTS = ("bf16-true", "16-true")

VALIDATION_PROTOCOL = "mir1k"
"""Scoring protocol of validation, whose GNSDR selects the best checkpoint; `hourglass_sep.evaluate` accepts any."""


def build_system(cfg: DictConfig, sources: Sequence[str] = SOURCES) -> SeparationSystem:
    """Build the LightningModule of a training config.

    Args:
        cfg: composed config ``train``.
        sources: names of the sources, in the order of the S axis.

    Raises:
        UserError: an invalid setting of the separator, the compiler, the optimiser or the schedule.
    """
    try:
        compiler = instantiate(cfg.compile)
        compiler(torch.nn.Identity())
    except Exception as error:  # each backend raises its own types
        reason = " ".join(str(error).split())[:300]
        raise SettingError(f"compile: {reason}: see conf/compile, compile=none does without") from error
    system = SeparationSystem(
        build_separator(cfg, sources),
        instantiate(cfg.loss),
        instantiate(cfg.optimizer),
        instantiate(cfg.scheduler),
        load_protocol(VALIDATION_PROTOCOL),
        compiler,
    )
    _rehearse(system, cfg)
    return system


def _rehearse(system: SeparationSystem, cfg: DictConfig) -> None:
    """Run optimiser and schedule without the network, so that an error at step 12 000 is found before training.

    Raises:
        SettingError: an invalid setting of the optimiser or the schedule.
    """
    max_steps = cfg.trainer.max_steps
    steps = min(max_steps, _REHEARSED) if isinstance(max_steps, int) and max_steps > 0 else 2
    try:
        system.configure_optimizers()
        optimizer, scheduler = system.make_recipe([torch.nn.Parameter(torch.zeros(1))])
        if getattr(scheduler, "T_max", 1) < 1:
            raise ValueError("scheduler.T_max is below 1: give trainer.max_steps or scheduler.T_max")
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
    except Exception as error:  # torch raises various types
        settings = [(group, name) for group in ("optimizer", "scheduler") for name in cfg[group] if name[0] != "_"]
        found = " ".join(f"{group}.{name}={cfg[group][name]}" for group, name in settings)
        raise SettingError(f"{found}: {error}: see conf/optimizer and conf/scheduler") from error


def build_callbacks(cfg: DictConfig | None) -> list[Callback]:
    """Build the callbacks of the config group, and progress bars if standard output is a terminal.

    Raises:
        UserError: an entry is not a callback of Lightning.
    """
    callbacks = [_make("callbacks", str(name), node, Callback) for name, node in (cfg or {}).items() if node]
    return callbacks + [StepProgress()] * sys.stdout.isatty()


def build_loggers(cfg: DictConfig | None) -> list[Logger]:
    """Build the loggers of the config group, each with failures turned into warnings; see `forgiving`.

    Raises:
        UserError: an invalid setting of a logger, or an entry that is not a logger of Lightning.
    """
    makers = [functools.partial(_make, "logger", str(name), node, Logger) for name, node in (cfg or {}).items() if node]
    return [forgiving(make) for make in makers]


def _make(group: str, name: str, node: Any, kind: type[Any]) -> Any:
    """Instantiate a group's entry and check its type; Lightning would fail much later, at a missing method."""
    made = instantiate(node) if isinstance(node, DictConfig) else node
    if not isinstance(made, kind):
        raise SettingError(f"{group}.{name}={node} is no {kind.__name__} of Lightning: see conf/{group}")
    return made


def check_trainer(cfg: DictConfig) -> None:
    """Check the trainer's settings before anything is built.

    Raises:
        UserError: an invalid setting, or too few GPUs.
    """
    check_devices(cfg.trainer.accelerator, cfg.trainer.devices)
    if str(cfg.trainer.precision) in _ROUNDED_INPUTS:
        mixed = str(cfg.trainer.precision).replace("true", "mixed")
        raise SettingError(
            f"trainer.precision={cfg.trainer.precision} is not allowed, it rounds waveforms before their STFT: "
            f"give {mixed}"
        )
    if cfg.compile.get("mode") == "reduce-overhead" and cfg.trainer.get("accumulate_grad_batches", 1) > 1:
        raise SettingError(
            f"compile=cudagraphs is not allowed with trainer.accumulate_grad_batches="
            f"{cfg.trainer.accumulate_grad_batches}, whose gradients the next pass overwrites: give compile=inductor"
        )
    for name, remedy in _IMPOSSIBLE.items():
        if cfg.trainer.get(name):
            raise SettingError(f"trainer.{name}={cfg.trainer[name]} is not allowed, {remedy}")
    check_whole("trainer.accumulate_grad_batches", cfg.trainer.get("accumulate_grad_batches", 1))
    for name, (least, kinds) in _NUMBERS.items():
        value: Any = cfg.trainer.get(name)
        if value is not None and not _is_number(value, least, kinds):
            whole = " whole" if float not in kinds else ""
            raise SettingError(f"trainer.{name}={value!r} is not allowed: give a{whole} number from {least} on")
    for name in _FLAGS:
        value = cfg.trainer.get(name)
        if not isinstance(value, bool | None) and (name, value) != ("deterministic", "warn"):
            raise SettingError(f"trainer.{name}={value!r} is not allowed: give true or false")
    for name in ("max_steps", "log_every_n_steps"):
        if not isinstance(cfg.trainer[name], int) or not (cfg.trainer[name] >= 1 or cfg.trainer[name] == -1):
            raise SettingError(f"trainer.{name}={cfg.trainer[name]} is not allowed: give a whole number from 1 on")


def _is_number(value: Any, least: float, kinds: tuple[type, ...]) -> bool:
    """Whether a value is a bool or of one of these types and, unless it is a string, not below the minimum."""
    return type(value) in (*kinds, bool) and (type(value) is str or value >= least)


def build_trainer(cfg: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> pl.Trainer:
    """Build the trainer; a run that is shorter than the logging interval logs every step.

    Args:
        cfg: composed config ``train``.
        callbacks: callbacks of the run; `CountSteps` is put before them.
        loggers: loggers of the run; may be empty.

    Raises:
        UserError: a setting that Lightning refuses.
    """
    settings: dict[str, Any] = {}
    if 0 < cfg.trainer.max_steps < cfg.trainer.log_every_n_steps:
        settings["log_every_n_steps"] = 1
    # Partial, as Hydra would inspect callbacks and loggers given to it, and a `DummyLogger` has every attribute.
    make = instantiate(cfg.trainer, _partial_=True)
    plugins = make.keywords.pop("plugins", None) or []
    plugins = plugins if isinstance(plugins, list) else [plugins]
    try:
        return make(
            callbacks=[CountSteps(), *callbacks],
            plugins=[AtomicCheckpointIO(), *plugins],
            logger=loggers or False,
            enable_progress_bar=any(isinstance(callback, StepProgress) for callback in callbacks),
            **settings,
        )
    except Exception as error:  # Lightning raises various types
        raise UserError(f"trainer or strategy: {error}: see conf/trainer and conf/strategy") from error


@contextmanager
def settings_named() -> Iterator[None]:
    """Turn exceptions that Lightning raises about settings during training into errors of one line.

    Raises:
        UserError: memory ran out, or the innermost frame of an exception is in Lightning, torchmetrics, `torch.optim`
            or `torch.amp`.
    """
    try:
        yield
    except UserError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError("out of memory: lower data.batch_size, or model.channels or model.stacks") from error
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__")).startswith(_TRAINERS):
            raise
        raise UserError(f"trainer, callbacks or optimizer: {error}: see conf/ for the settings of these") from error


def count_devices(devices: int | str | list[int]) -> int:
    """Number of devices that ``trainer.devices`` selects; 1 for "auto", where Lightning decides.

    Args:
        devices: a number, -1 for all GPUs, a list of device indices, or "auto".

    Raises:
        UserError: any other value.
    """
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, int) and not isinstance(devices, bool):
        if devices == -1:
            return max(torch.cuda.device_count(), 1)
        if devices >= 1:
            return devices
    elif devices == "auto":
        return 1
    elif isinstance(devices, Sequence) and not isinstance(devices, str) and len(devices):
        return len(devices)
    raise UserError(f"trainer.devices={devices} is not allowed: give a number from 1 on, a list of them or auto")


def check_devices(accelerator: str, devices: int | str | list[int]) -> None:
    """Check that there are as many GPUs as the settings select.

    Args:
        accelerator: ``trainer.accelerator``.
        devices: ``trainer.devices``, see `count_devices`.

    Raises:
        UserError: fewer GPUs were found, or an invalid ``trainer.devices``.
    """
    wanted, found = count_devices(devices), torch.cuda.device_count()
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and found > 0)
    if on_gpu and wanted > found:
        fewer = f"set trainer.devices=N to at most {found}, or " if found else ""
        raise UserError(
            f"{wanted} GPU(s) asked for, {found} found: {fewer}set "
            f"trainer.accelerator=cpu trainer.devices={wanted} to train on the CPU"
        )
