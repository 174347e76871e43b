"""Ctrl-C and SIGTERM while training: what was learned is written down, and it is said how to go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from hourglass_sep.errors import Interrupted
from hourglass_sep.terminal import complain

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LEAVE = getattr(signal, "SIGUSR1", None)
"""From the first process to those that it has started: Lightning kills all where one of them fails."""


class SaveAndStop(Callback):
    """Ends training at the first signal after the step in work, with a checkpoint; at the second one at once.

    During validation nothing new is written: the last checkpoint is that of the step before (`RecentCheckpoint`), and
    a resumed run validates again.

    Args:
        path: the checkpoint, ``last.ckpt``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before: dict[int, Any] = {}
        self._received = 0
        self._in_a_step = False

    def __enter__(self) -> Self:
        """Training begins; however it ends, the signals get their handlers back."""
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the signals over."""
        self._received = 0
        self._take(trainer)
        if not trainer.is_global_zero and _LEAVE is not None:
            signal.signal(_LEAVE, lambda *_: os._exit(0))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take them over again: Lightning has put a handler of its own in between."""
        self._take(trainer)

    def _take(self, trainer: pl.Trainer) -> None:
        for number in SIGNALS:
            signal.signal(number, self._handler(trainer))

    def _handler(self, trainer: pl.Trainer) -> Callable[[int, Any], None]:
        def stop(number: int, frame: Any) -> None:
            first, self._received = not self._received, number
            if not (first and self._in_a_step):
                self._end(trainer)
            if trainer.is_global_zero:
                complain("stopping after this step; once more stops at once")

        return stop

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on to the end of the step, a signal waits."""
        self._in_a_step = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop, on all ranks together, where a resumed run can go on as this one would."""
        stop = trainer.strategy.reduce_boolean_decision(bool(self._received), all=False)
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stop and whole and not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)
            self._end(trainer)
        self._in_a_step = not (trainer.is_last_batch and whole)
        if self._received and not self._in_a_step:
            self._end(trainer)

    def _end(self, trainer: pl.Trainer) -> None:
        """Raise; the other processes that this one started end with it."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the tidying up is not to be ended
        if trainer.is_global_zero and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher) and _LEAVE:
            trainer.strategy.launcher.kill(_LEAVE)
        at = f"interrupted at step {trainer.global_step}"
        error = Interrupted(f"{at}: nothing is kept, {self.path} was not written yet")
        if self.path.exists():
            step = torch.load(self.path, weights_only=True, mmap=True, map_location="cpu")["global_step"]
            error = Interrupted(
                f"{at}: {self.path} holds step {step}; to go on, add ckpt_path={self.path} to the run's options"
            )
        error.exit_code = 128 + (self._received or signal.SIGTERM)
        raise error
