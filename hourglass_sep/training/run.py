"""A training run: from a composed config to checkpoints, metrics and, with ``test=true``, test scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from rich.console import Console

from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.data.datamodule import SeparationDataModule
from hourglass_sep.data.synthetic.sets import release
from hourglass_sep.dsp.masks import ideal_ratio_mask
from hourglass_sep.dsp.stems import ESTIMATE
from hourglass_sep.inference.separator import Separator
from hourglass_sep.results.scores_file import write_results
from hourglass_sep.results.show import show_scores
from hourglass_sep.scoring.evaluation import evaluate_all
from hourglass_sep.scoring.rows import Row, as_metrics
from hourglass_sep.scoring.systems import OracleMask
from hourglass_sep.support.checks import LARGEST_SEED, check_whole
from hourglass_sep.support.errors import SettingError, UserError
from hourglass_sep.support.paths import at_home
from hourglass_sep.support.provenance import provenance
from hourglass_sep.support.terminal import clean, complain
from hourglass_sep.training.build import (
    build_callbacks,
    build_loggers,
    build_system,
    build_trainer,
    check_trainer,
    count_devices,
    settings_named,
)
from hourglass_sep.training.build_separator import build_post, trusted
from hourglass_sep.training.loggers import finalize
from hourglass_sep.training.ranks import is_further_rank
from hourglass_sep.training.resuming import check_callbacks, read_resumable
from hourglass_sep.training.run_folder import claimed
from hourglass_sep.training.starting import origin_of, start_from, with_origin
from hourglass_sep.training.stopping import Stop
from hourglass_sep.training.system import SeparationSystem

_NO_CHECKPOINT = "no steps were taken, or trainer.fast_dev_run or callbacks= left it out"


def run(cfg: DictConfig) -> dict[str, float]:
    """Train according to a config; see `best_checkpoint` for the resulting weights.

    Args:
        cfg: composed config ``train``.

    Returns:
        Metric names to their last logged values, test scores included.

    Raises:
        UserError: missing data, too few devices, an invalid setting, a checkpoint that cannot be resumed, or a run
            folder of another run.
        Interrupted: a signal ended training; the message names the checkpoint that was kept.
    """
    for name in ("run_dir", "checkpoint_dir"):
        if not cfg.paths[name]:
            raise SettingError(f"paths.{name}={cfg.paths[name]} is not allowed: give a folder")
    stop = Stop(Path(cfg.paths.checkpoint_dir) / "last.ckpt", cfg.ckpt_path)
    with stop.listening():
        try:
            return _run(cfg, stop)
        finally:
            for root in _roots(cfg.data):
                release(root)


def _roots(data: DictConfig) -> list[str]:
    """The folders of a data config and of the sets that it mixes."""
    own = data.get("root")
    return [str(own)] * bool(own) + [root for part in (data.get("sets") or {}).values() for root in _roots(part)]


def _run(cfg: DictConfig, stop: Stop) -> dict[str, float]:
    refuse_parallel_sweep(cfg)
    check_trainer(cfg)
    if cfg.init_from is not None and cfg.ckpt_path is not None:
        raise SettingError("ckpt_path and init_from do not go together: ckpt_path goes on, init_from begins anew")
    if cfg.seed is not None:
        check_whole("seed", cfg.seed, least=0, most=LARGEST_SEED)
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = instantiate(cfg.data)
    system = build_system(cfg, datamodule.sources)
    callbacks = build_callbacks(cfg.callbacks)
    origin = ""
    if cfg.ckpt_path is not None:
        origin = check_resuming(cfg, system, callbacks)
    if cfg.init_from is not None:
        started, origin = start_from(system.separator, str(cfg.init_from), trusted(cfg))
        if not is_further_rank():
            complain(started)
    datamodule.check(count_devices(cfg.trainer.devices), cfg.test)
    system.separator.facts = with_origin(datamodule.facts, origin)
    loggers: Sequence[Logger] = []
    status = "failed"
    with claimed(cfg):
        try:
            loggers = build_loggers(cfg.logger)
            trainer = build_trainer(cfg, [*callbacks, stop], loggers)
            facts = {"config": OmegaConf.to_container(cfg, resolve=True)} | provenance()
            for logger in loggers:
                logger.log_hyperparams(facts)
            ckpt_path = None if cfg.ckpt_path is None else str(at_home(cfg.ckpt_path).absolute())
            with settings_named():
                stop.fit(trainer, lambda: trainer.fit(system, None, None, datamodule, ckpt_path, weights_only=True))
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            if cfg.test and trainer.is_global_zero:
                metrics |= _test(cfg, system, datamodule, trainer, facts, loggers)
            status = "success"
        finally:
            for logger in loggers:
                finalize(logger, status)
    return metrics


def _test(
    cfg: DictConfig,
    system: SeparationSystem,
    datamodule: SeparationDataModule,
    trainer: pl.Trainer,
    facts: dict[str, Any],
    loggers: Sequence[Logger],
) -> dict[str, float]:
    """Score the test clips with the best checkpoint; write, log and return the scores."""
    path = best_checkpoint(cfg)
    if not path.exists():
        raise UserError(f"test={cfg.test} is not possible without a checkpoint: {_NO_CHECKPOINT}")
    best = Separator.from_checkpoint(path, trust=trusted(cfg), **build_post(cfg))
    ceiling = {"ideal_ratio_mask": OracleMask(ideal_ratio_mask)}
    folder = Path(cfg.paths.run_dir)

    def keep(rows: list[Row], worst: bytes) -> None:
        write_results(folder, rows, system.protocol, ESTIMATE, facts | {"part": "test"}, worst)

    clips, mixture = datamodule.clips().test, datamodule.mixture
    rows = evaluate_all(best, clips, system.protocol, ceiling, what="testing", keep=keep, mixture=mixture)
    scores = as_metrics(rows, system.protocol, ESTIMATE, "test")
    for logger in loggers:
        logger.log_metrics(scores, step=trainer.global_step)
    return scores


def check_resuming(cfg: DictConfig, system: SeparationSystem, callbacks: Sequence[Callback]) -> str:
    """Check before training whether ``cfg.ckpt_path`` can be resumed, and print the settings that change.

    Args:
        cfg: composed config ``train``.
        system: the LightningModule to be trained.
        callbacks: callbacks of the run.

    Returns:
        The weights that the run was started from, with the licence of their data, see `start_from`; '' if none.

    Raises:
        CheckpointError: the checkpoint cannot be resumed.
    """
    path = cfg.ckpt_path
    limits = cfg.trainer.max_steps, cfg.trainer.get("max_epochs")
    checkpoint = read_resumable(path, system.separator, *limits, trusted(cfg))
    check_callbacks(path, checkpoint, callbacks)
    changes = system.check_recipe(path, checkpoint)
    if changes and not is_further_rank():
        complain(f"{path} is resumed with other settings than before: {', '.join(changes)}")
    return origin_of(checkpoint[KEY].get("facts", {}))


def best_checkpoint(cfg: DictConfig) -> Path:
    """Path of the checkpoint with the best validation score, or of the last one if there was no validation."""
    folder = Path(cfg.paths.checkpoint_dir)
    best = folder / "best.ckpt"
    return best if best.exists() else folder / "last.ckpt"


def refuse_parallel_sweep(cfg: DictConfig) -> None:
    """Refuse a multirun on several devices, where each further process would start the whole sweep again.

    Raises:
        UserError: a multirun with more than one device.
    """
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if sweep and count_devices(cfg.trainer.devices) > 1:
        raise UserError(
            f"--multirun with trainer.devices={cfg.trainer.devices} is not possible: sweep with trainer.devices=1, "
            "or start one run after the other without --multirun"
        )


def print_outcome(cfg: DictConfig, metrics: dict[str, float]) -> None:
    """Print the scores, the checkpoint and the folder of a run, in the first process only."""
    if is_further_rank():
        return
    if cfg.test:
        show_scores(Path(cfg.paths.run_dir))
    console = Console(soft_wrap=True)
    for name in sorted(name for name in metrics if name.startswith("val/gnsdr_")):
        console.print(f"{name} {metrics[name]:.2f} dB")
    if best_checkpoint(cfg).exists():
        console.print(clean(f"checkpoint: {best_checkpoint(cfg)}"), markup=False)
    else:
        console.print(f"no checkpoint was written: {_NO_CHECKPOINT}")
    console.print(clean(f"run folder: {cfg.paths.run_dir}"), markup=False)
