"""Lightning callbacks of this project."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import wandb
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import WandbLogger

from hourglass_sep.constants import SOURCES
from hourglass_sep.data.datamodule import ClipBatch
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.errors import UserError
from hourglass_sep.figures import picture
from hourglass_sep.system import SeparationSystem


class Throughput(Callback):
    """Logs ``train/patches_per_second`` over the steps since the last logging, validation not counted.

    Args:
        batch_size: patches per step over all devices.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._steps = 0
        self._since: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a step; log when Lightning logs. The first step after a pause only starts the clock."""
        if self._since is None:
            self._since, self._steps = time.perf_counter(), 0
            return
        self._steps += 1
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            now = time.perf_counter()
            pl_module.log("train/patches_per_second", self._steps * self.batch_size / (now - self._since))
            self._since, self._steps = now, 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._since = None


class StopOnDivergence(Callback):
    """Ends training, in one line, when the loss is no number any more; looks whenever Lightning logs."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Look at the step's loss.

        Raises:
            UserError: it is NaN or infinite.
        """
        is_logged = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if (is_logged or trainer.is_last_batch) and not torch.isfinite(outputs["loss"]):
            raise UserError(f"the loss is {float(outputs['loss'])} at step {trainer.global_step}: lower optimizer.lr")


class StepProgress(RichProgressBar):
    """Rich progress bars that say how far the whole training is: its length is counted in steps, not in epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        whole = self.trainer.max_steps if self.trainer.max_steps > 0 else "unlimited"
        return f"from step {self.trainer.global_step} of {whole}"


class Preview(Callback):
    """After every validation, a W&B table ``val/preview`` of the first validation clips, always the same ones.

    A row has the clip's name, its mixture, estimates and references to listen to, and a picture of their spectrograms
    and of every stack's masks.

    Args:
        clips: how many.
    """

    def __init__(self, clips: int = 2) -> None:
        self.clips = clips
        self._rows: list[list[Any]] = []
        self._pictures: dict[str, np.ndarray] = {}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what there is to see and hear; while an average of the weights is in place, it is that one's."""
        if batch_idx >= self.clips or self._logger(trainer) is None:
            return
        assert isinstance(pl_module, SeparationSystem)
        mixture = batch.sources.sum(0)
        estimates = pl_module.separator(mixture[None, None], SAMPLE_RATE_HZ)[0, :, 0]
        sounds = [wandb.Audio(x.cpu().numpy(), SAMPLE_RATE_HZ) for x in (mixture, *estimates, *batch.sources)]
        canvas = FigureCanvasAgg(picture(pl_module.separator, mixture, SAMPLE_RATE_HZ, batch.sources))
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[..., :3]
        self._rows.append([batch.name, *sounds, wandb.Image(image)])
        self._pictures[batch.name] = image

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the table."""
        logger = self._logger(trainer)
        if logger is not None and self._rows:
            columns = ["clip", "mixture"]
            columns += [f"{name} {kind}" for kind in ("estimate", "reference") for name in SOURCES]
            logger.log_table("val/preview", columns=[*columns, "spectrograms and masks"], data=self._rows)
            # Offline, a table's media wait in W&B's own cache; pictures by themselves lie in the run folder.
            logger.log_image("val/pictures", [*self._pictures.values()], caption=[*self._pictures])
        self._rows, self._pictures = [], {}

    @staticmethod
    def _logger(trainer: pl.Trainer) -> WandbLogger | None:
        """The W&B logger, on the one process that writes."""
        found = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        return found[0] if found and trainer.is_global_zero else None
