"""Lightning callbacks: throughput, step counts, checkpoints, non-finite gradients, progress bars, previews."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor
from torch.optim import Optimizer

from hourglass_sep.data.clips import ClipBatch
from hourglass_sep.plotting.panels import pixels
from hourglass_sep.plotting.separation import picture
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import SettingError, UserError
from hourglass_sep.support.terminal import Forgiving
from hourglass_sep.training.loggers import Attempt
from hourglass_sep.training.system import SeparationSystem


class Throughput(Callback):
    """Logs ``train/patches_per_second``, averaged over the steps since the last logging, without validation.

    Args:
        batch_size: number of patches per step, over all devices.
    """

    def __init__(self, batch_size: int) -> None:
        check_whole("callbacks.throughput.batch_size", batch_size)
        self.batch_size = batch_size
        self._steps = 0
        self._since: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a step, and log at Lightning's logging interval; the first step after a pause only starts the clock."""
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


class CountSteps(Callback):
    """Corrects the step numbers at which metrics of a resumed run are logged; must be the first callback.

    Lightning keeps a separate step count for loggers, which is one too high for every resume from a checkpoint that
    was written at the end of an epoch.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the loggers' step count before any metric of this step is logged."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


class RecentCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` within epochs that saves only where a resumed run continues exactly as this one.

    It does not save between the batches of an accumulated step, as a checkpoint holds no gradients, nor before the
    validation at the end of an epoch, which a resumed run would skip.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due, the step is whole and no validation is pending."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class SkipNonFiniteSteps(Callback):
    """Skips optimiser steps whose gradients are not finite, and counts them.

    The count is logged as ``train/skipped_steps`` and kept in checkpoints. One extreme patch or an overflow in low
    precision costs one step, not the run. After too many skipped steps in a row, training ends with an error of one
    line. Weights that are not finite, after too large a step, are never written into a checkpoint.

    Args:
        most_in_a_row: maximum number of consecutive skipped steps.
    """

    def __init__(self, most_in_a_row: int = 10) -> None:
        check_whole("callbacks.skip_non_finite.most_in_a_row", most_in_a_row, least=0)
        self.most_in_a_row = most_in_a_row
        self.skipped = 0
        self._in_a_row = 0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Remove all gradients if one is NaN or infinite: optimisers do not change parameters without a gradient.

        Raises:
            UserError: more than ``most_in_a_row`` consecutive steps were skipped.
        """
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self._in_a_row = 0 if torch.nn.utils.get_total_norm(gradients).isfinite() else self._in_a_row + 1
        if self._in_a_row:
            self.skipped += 1
            optimizer.zero_grad(set_to_none=True)
        if self._in_a_row > self.most_in_a_row:
            raise UserError(
                f"the loss or its gradients are not finite at step {trainer.global_step}, the last {self._in_a_row} "
                "steps were skipped: lower optimizer.lr"
            )
        pl_module.log("train/skipped_steps", float(self.skipped))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint with invalid weights before it is written; the previous one stays.

        Raises:
            UserError: a weight is not finite.
        """
        for name, weight in checkpoint["state_dict"].items():
            if not bool(weight.isfinite().all()):
                raise UserError(
                    f"{name} is not finite after {trainer.global_step} steps, no checkpoint is made of it: "
                    "lower optimizer.lr"
                )

    def state_dict(self) -> dict[str, Any]:
        """Number of steps skipped so far."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped = state_dict["skipped"]


class StepProgress(RichProgressBar):
    """Rich progress bars that show the progress of the whole training in steps, not in epochs.

    Training continues if the terminal is closed.
    """

    def __init__(self) -> None:
        super().__init__(console_kwargs={"file": Forgiving(sys.stdout)})

    def _get_train_description(self, current_epoch: int) -> str:
        whole = self.trainer.max_steps if self.trainer.max_steps > 0 else "unlimited"
        return f"from step {self.trainer.global_step} of {whole}"


class Preview(Callback):
    """Logs a W&B table ``val/preview`` of the first validation clips after every validation.

    A row has the clip's name, audio of its mixture, estimates and references, and a picture of their spectrograms and
    of every stack's masks. The pictures are also logged as ``val/pictures``.

    Args:
        clips: number of clips, always the first ones.
        seconds: length of the previews in s, from the beginning of each clip.
    """

    def __init__(self, clips: int = 2, seconds: float = 15.0) -> None:
        check_whole("callbacks.preview.clips", clips, least=0)
        if not seconds > 0:
            raise SettingError(f"callbacks.preview.seconds={seconds} is not allowed: give a number above 0")
        self.clips = clips
        self.seconds = seconds
        self._names: list[str] = []
        self._attempt = Attempt("W&B preview")
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
        """Separate a clip and keep its audio and picture; with weight averaging, those of the averaged weights."""
        if batch_idx >= self.clips or self._logger(trainer) is None:
            return
        assert isinstance(pl_module, SeparationSystem)
        rate = batch.sample_rate_hz
        n_samples = round(self.seconds * rate)
        mixture, sources = batch.mixture[..., :n_samples], batch.sources[..., :n_samples]
        estimates = pl_module.separator(mixture[None], rate)[0]  # (S, C, N)
        image = pixels(picture(pl_module.separator, mixture, rate, sources))
        self._names = list(pl_module.separator.sources)
        self._attempt(self._keep, batch.name, [mixture, *estimates, *sources], rate, image)

    def _keep(self, name: str, sounds: list[Tensor], rate: int, image: np.ndarray) -> None:
        media = [wandb.Audio(x.cpu().numpy().T, rate) for x in sounds]  # files, in the temporary folder
        self._rows.append([name, *media, wandb.Image(image)])
        self._pictures[name] = image

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the table and the pictures."""
        logger = self._logger(trainer)
        if logger is not None and self._rows:
            columns = ["clip", "mixture"]
            columns += [f"{name} {kind}" for kind in ("estimate", "reference") for name in self._names]
            logger.log_table("val/preview", columns=[*columns, "spectrograms and masks"], data=self._rows)
            logger.log_image("val/pictures", [*self._pictures.values()], caption=[*self._pictures])
        self._rows, self._pictures = [], {}

    @staticmethod
    def _logger(trainer: pl.Trainer) -> WandbLogger | None:
        """The W&B logger if there is one, in the first process only."""
        found = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        return found[0] if found and trainer.is_global_zero else None
