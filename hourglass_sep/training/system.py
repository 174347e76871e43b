"""The LightningModule: training steps, validation scores, optimiser; no file access."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.data.clips import ClipBatch
from hourglass_sep.dsp.stems import ESTIMATE
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.base import masks_of
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, as_metrics, merge_rows, score_clip
from hourglass_sep.training.losses import Batch
from hourglass_sep.training.parallel import Scoring
from hourglass_sep.training.resuming import RECIPE, follow_config, keep_patience, recipe_of


class SeparationSystem(pl.LightningModule):
    """LightningModule that trains a separator's bare network and validates the whole separator.

    Args:
        separator: holds the network to train; validation uses its inference settings, and checkpoints store them.
        loss: function of masks (K, B, S, 1|C, F, T) and a batch of patches that returns losses (K, S); see
            `hourglass_sep.training.losses`.
        optimizer: function that returns an optimiser of the given parameters.
        scheduler: function that returns a learning-rate schedule of the given optimiser; it counts optimiser steps.
        protocol: scoring protocol of validation.
        compile: function that returns a compiled version of the network for training steps; see ``conf/compile``.
    """

    def __init__(
        self,
        separator: Separator,
        loss: Callable[[Tensor, Batch], Tensor],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        protocol: ScoringProtocol,
        compile: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda network: network,
    ) -> None:
        super().__init__()
        self.separator = separator
        self.loss = loss
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.protocol = protocol
        self._compile = compile
        self._seed = torch.initial_seed()
        # In a tuple, as `nn.Module` would register it and checkpoints would hold the network twice.
        self._training_network: tuple[Callable[[Tensor], Tensor]] = (separator.network,)
        self._scoring = Scoring()
        self.validation_rows: list[Row] = []
        """Score rows of the last validation, of all ranks."""

    def forward(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Separate (B, C, N) into (B, S, C, N)."""
        return self.separator(waveform, sample_rate_hz)

    def on_fit_start(self) -> None:
        """Compile the network for training patches; validation, whose batch sizes vary, uses it uncompiled."""
        self._training_network = (self._compile(self.separator.network),)
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Seed dropout from run seed, step and rank, so that a resumed run is equal to an uninterrupted one."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        drawn = np.random.SeedSequence((self._seed, self.trainer.global_step, part, self.global_rank))
        torch.manual_seed(int(drawn.generate_state(1)[0]))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, a scalar: the sum over stacks and sources (Park 2018, section 3.3)."""
        masks = masks_of(self._training_network[0], batch["mixture"], len(self.separator.sources))
        per_stack = self.loss(masks, batch).sum(-1)  # (K,)
        loss = per_stack.sum()
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/loss_stack{k}": value for k, value in enumerate(per_stack)})
        # The derivative of |NaN| is 0: this factor makes all gradients NaN if the loss is not finite, on all ranks, for
        # `SkipNonFiniteSteps`.
        return loss * (1 + 0 * loss.detach())

    def on_validation_epoch_start(self) -> None:
        """Clear the rows of the previous validation."""
        self.validation_rows = []

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Separate one whole clip as evaluation does, and score it while the next one is separated."""
        estimate = self.separator(batch.mixture[None], batch.sample_rate_hz)[0].cpu()
        clip = batch._replace(sources=batch.sources.cpu(), mixture=batch.mixture.cpu())
        self._scoring.add(partial(self._score, clip, estimate))

    def _score(self, clip: ClipBatch, estimate: Tensor) -> list[Row]:
        return score_clip(
            self.protocol,
            clip.name,
            clip.sources,
            {ESTIMATE: estimate},
            clip.sample_rate_hz,
            self.separator.sources,
            clip.group,
            clip.mixture,
        )

    def on_validation_epoch_end(self) -> None:
        """Gather the rows of all ranks and log the global scores."""
        self.validation_rows = [row for rows in self._scoring.results() for row in rows]
        self.validation_rows = merge_rows(self._gather(self.validation_rows))
        metrics = as_metrics(self.validation_rows, self.protocol, ESTIMATE, "val")
        # Sources without a score (silent references) do not hide the others from the choice of checkpoints.
        gnsdr = [value for name, value in metrics.items() if name.startswith("val/gnsdr") and math.isfinite(value)]
        self.log_dict(metrics)
        self.log("val/gnsdr", sum(gnsdr) / len(gnsdr) if gnsdr else math.nan if metrics else 0.0, prog_bar=True)

    def _gather(self, rows: list[Row]) -> list[list[Row]]:
        if self.trainer.world_size == 1:
            return [rows]
        parts: list[list[Row]] = [[] for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather_object(parts, rows)
        return parts

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule, which counts optimiser steps."""
        optimizer, scheduler = self.make_recipe(self.separator.network.parameters())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def make_recipe(self, parameters: Iterable[nn.Parameter]) -> tuple[Optimizer, LRScheduler]:
        """Make an optimiser of these parameters, and its schedule."""
        optimizer = self._optimizer(parameters)
        return optimizer, self._scheduler(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the separator's description and the class names of optimiser and schedule, in plain types."""
        checkpoint[KEY] = self.separator.description
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        checkpoint[RECIPE] = {"optimizer": type(optimizer).__name__, "scheduler": type(scheduler).__name__}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take settings (optimiser, schedule, patience) from the config, the optimiser's state from the checkpoint."""
        follow_config(checkpoint, *self._rehearsal(), "ckpt_path")
        keep_patience(checkpoint, self.trainer.callbacks)  # type: ignore[attr-defined]

    def _rehearsal(self) -> tuple[Optimizer, LRScheduler]:
        return self.make_recipe([nn.Parameter(torch.zeros(1))])

    def check_recipe(self, path: str, checkpoint: dict[str, Any]) -> list[str]:
        """List the settings of optimiser and schedule that differ from a checkpoint's run; see `follow_config`.

        Args:
            path: the checkpoint's file, for error messages.
            checkpoint: the content of that file; not changed.

        Returns:
            Differences such as ``optimizer.lr=0.001 (was 0.0001)``.

        Raises:
            CheckpointError: the optimiser is of another kind, or the schedule cannot take the checkpoint's steps.
        """
        return follow_config(recipe_of(checkpoint), *self._rehearsal(), path)
