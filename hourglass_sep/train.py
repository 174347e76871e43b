"""Train a network: ``python -m hourglass_sep.train [key=value ...]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from hourglass_sep.baselines import OracleMask
from hourglass_sep.checks import check_whole
from hourglass_sep.errors import CheckpointError, UserError
from hourglass_sep.evaluate import evaluate_all
from hourglass_sep.hydra_main import hydra_main
from hourglass_sep.instantiate import (
    build_callbacks,
    build_loggers,
    build_post,
    build_system,
    build_trainer,
    check_devices,
    count_devices,
)
from hourglass_sep.loggers import finalize
from hourglass_sep.masking import ideal_ratio_mask
from hourglass_sep.provenance import provenance
from hourglass_sep.results import show, write_results
from hourglass_sep.scoring import as_metrics
from hourglass_sep.separator import Separator
from hourglass_sep.system import ESTIMATE
from hourglass_sep.weights import describe, read


def run(cfg: DictConfig) -> dict[str, float]:
    """Train as the config says; the best checkpoint by validation is `best_checkpoint`.

    Returns:
        The last value of everything that was logged.

    Raises:
        UserError: missing data, too few devices, a checkpoint that cannot be resumed.
    """
    refuse_parallel_sweep(cfg)
    check_devices(cfg.trainer.accelerator, cfg.trainer.devices)
    if cfg.seed is not None:
        check_whole("seed", cfg.seed, least=0)
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
    system = build_system(cfg)
    datamodule = instantiate(cfg.data)
    datamodule.check(count_devices(cfg.trainer.devices), cfg.test)
    if cfg.ckpt_path is not None:
        check_resumable(cfg.ckpt_path, system.separator, cfg.trainer.max_steps)
    loggers: Sequence[Logger] = []
    status = "failed"
    try:
        loggers = build_loggers(cfg.logger)
        trainer = build_trainer(cfg, build_callbacks(cfg.callbacks), loggers)
        facts = {"config": OmegaConf.to_container(cfg, resolve=True)} | provenance()
        for logger in loggers:
            logger.log_hyperparams(facts)
        trainer.fit(system, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if cfg.test and trainer.is_global_zero:
            clips = datamodule.clips().test
            best = Separator.from_checkpoint(best_checkpoint(cfg), **build_post(cfg))
            ceiling = {"ideal_ratio_mask": OracleMask(ideal_ratio_mask)}
            rows = evaluate_all(best, clips, system.protocol, ceiling, what="testing")
            write_results(Path(cfg.paths.run_dir), rows, system.protocol, ESTIMATE, facts | {"part": "test"})
            scores = as_metrics(rows, system.protocol, ESTIMATE, "test")
            metrics |= scores
            for logger in loggers:
                logger.log_metrics(scores, step=trainer.global_step)
        status = "success"
    finally:
        for logger in loggers:
            finalize(logger, status)
    return metrics


def best_checkpoint(cfg: DictConfig) -> Path:
    """The checkpoint with the best validation score; the last one where nothing was validated."""
    folder = Path(cfg.paths.checkpoint_dir)
    best = folder / "best.ckpt"
    return best if best.exists() else folder / "last.ckpt"


def check_resumable(path: str, separator: Separator, max_steps: int) -> None:
    """Find out early whether training can go on from a checkpoint.

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


def refuse_parallel_sweep(cfg: DictConfig) -> None:
    """Raise for a multirun on several devices: each further process would start the whole sweep again.

    Raises:
        UserError: always in that case.
    """
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if sweep and count_devices(cfg.trainer.devices) > 1:
        raise UserError(
            f"--multirun with trainer.devices={cfg.trainer.devices} is not possible: sweep with trainer.devices=1, "
            "or start one run after the other without --multirun"
        )


@hydra_main("train")
def main(cfg: DictConfig) -> None:
    """The command."""
    metrics = run(cfg)
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return
    if cfg.test:
        show(Path(cfg.paths.run_dir))
    console = Console(soft_wrap=True)
    for name in ("val/gnsdr_vocals", "val/gnsdr_accompaniment"):
        if name in metrics:
            console.print(f"{name} {metrics[name]:.2f} dB")
    console.print(f"checkpoint: {best_checkpoint(cfg)}")
    console.print(f"run folder: {cfg.paths.run_dir}")


if __name__ == "__main__":
    main()
