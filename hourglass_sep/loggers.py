"""The Weights & Biases logger: offline without an account, one run per job of a sweep."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.loggers import Logger, WandbLogger


def wandb_logger(project: str, save_dir: str, name: str | None = None, group: str | None = None) -> WandbLogger:
    """A W&B run in ``save_dir``; offline unless there is an API key or ``WANDB_MODE`` says otherwise.

    Args:
        project: W&B project.
        save_dir: the run folder. The run's id is kept there in ``wandb_id.txt``, so that training that is resumed in
            the same folder goes on with the same run.
        name: run name; by default the overrides of a multirun's job, else the run folder's name.
        group: by default the folder of the multirun.
    """
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        hydra = HydraConfig.get()
        name = name or hydra.job.override_dirname.replace("'", "")
        group = group or Path(hydra.sweep.dir).name
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    logger = WandbLogger(
        project=project,
        save_dir=str(folder),
        name=name or folder.resolve().name,
        group=group,
        id=_run_id(folder / "wandb_id.txt"),
        mode=mode,
        settings=wandb.Settings(silent=True),
    )
    logger._wandb_init.pop("anonymous")  # wandb warns of the setting whatever its value
    return logger


def finalize(logger: Logger, status: str) -> None:
    """End a logger; a W&B run for good, or the next job of a sweep would go on in it."""
    logger.finalize(status)
    if isinstance(logger, WandbLogger) and logger._experiment is not None:
        logger.experiment.finish(exit_code=0 if status == "success" else 1)


def _run_id(path: Path) -> str:
    """The id in the file, a new one if there is none."""
    if not path.exists():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()
