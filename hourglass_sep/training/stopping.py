"""Signals (Ctrl-C, SIGTERM, a closed terminal): finish the step, write ``last.ckpt``, print the option to resume."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from hourglass_sep.support.errors import Interrupted
from hourglass_sep.support.terminal import complain
from hourglass_sep.training.ranks import is_further_rank

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):
    _NAMES[signal.SIGHUP] = "the terminal was closed"


class Stop(Checkpoint):
    """Stops training after the current step when a signal arrives; a second signal stops it at once.

    Training stops where the checkpoint makes a resumed run bit-equal to an uninterrupted one: after a whole optimiser
    step and, at the end of an epoch, after its validation. All ranks of a DDP run stop at the same step. The class is
    a `Checkpoint` so that Lightning calls it after all other callbacks.

    Args:
        last: path of ``last.ckpt``.
        ckpt_path: the checkpoint that this run resumes, if any; used in messages.
    """

    def __init__(self, last: Path, ckpt_path: str | None = None) -> None:
        self.last = last
        self.ckpt_path = ckpt_path
        self.received: signal.Signals | None = None
        self._in_steps = False
        self._first_step = 0
        self._step = 0
        self._written: int | None = None
        self._complete = False
        self._launcher: Any = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the block and restore the previous handlers after it.

        Outside the main thread, where Python cannot set handlers, nothing is done.

        Raises:
            Interrupted: a signal ended the block. The exit code is 128 + the signal's number.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _NAMES}
        self._listen()
        try:
            yield
        except (KeyboardInterrupt, SystemExit, Interrupted):  # Lightning turns KeyboardInterrupt into SystemExit
            if self.received is None:
                raise
            raise self._interrupted() from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def fit(self, trainer: pl.Trainer, fit: Callable[[], None]) -> None:
        """Call ``fit``; with several processes, Ctrl-C in a terminal is handled by the first rank only.

        A terminal sends SIGINT to all processes. It is blocked while further ranks are started, which inherit this,
        and unblocked in the first rank afterwards (`setup`).

        Args:
            trainer: the trainer that ``fit`` uses.
            fit: trains; takes no arguments.

        Raises:
            Interrupted: a signal arrived in the last steps, which were finished.
        """
        self._launcher = getattr(trainer.strategy, "launcher", None)
        if trainer.world_size > 1 and hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            fit()
        finally:
            self._unblock()
            self._in_steps = False
        if self.received is not None:  # during the last steps, which were finished
            raise Interrupted("stopped")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Unblock SIGINT in the first rank: all processes have been started."""
        self._unblock()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Delay signals to the end of a step from now on; set the handlers again, as Lightning has replaced them."""
        if self.received is None:
            self._listen()
        self._first_step = self._step = trainer.global_step
        self._in_steps = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after a whole optimiser step, but not before the validation at the end of an epoch."""
        self._step = trainer.global_step
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self._complete = trainer.global_step == trainer.max_steps
        if whole and not trainer.is_last_batch:
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop between epochs, unless all steps are done and training ends by itself."""
        self._stop_if_asked(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Kill the further ranks, which would wait for this one."""
        self._end_others()

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self._complete or not trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            return
        self.received = self.received or signal.SIGTERM  # another rank received the signal
        trainer.save_checkpoint(self.last, weights_only=False)
        self._written = trainer.global_step
        raise Interrupted("stopped")

    def _listen(self) -> None:
        for number in _NAMES:
            if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup and in background jobs it stays ignored
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number)
        if is_further_rank():
            return
        if again or not self._in_steps:
            self._end_others()
            raise KeyboardInterrupt
        what = f"{_NAMES[self.received]}: finishing this step, or the validation, and writing {self.last}"
        with suppress(RuntimeError):  # the signal arrived while another line was being printed
            complain(f"{what}; once more ends at once")

    def _end_others(self) -> None:
        """Kill the processes started by this one and clear their list: Lightning would kill this one if they fail."""
        processes = getattr(self._launcher, "procs", None) or []
        for process in processes:
            with suppress(OSError):
                process.kill()
                process.wait()
        if processes:
            processes.clear()

    @staticmethod
    def _unblock() -> None:
        if hasattr(signal, "pthread_sigmask") and not is_further_rank():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _interrupted(self) -> Interrupted:
        """The exception to raise, with a message on the checkpoint that was kept and the option to resume."""
        assert self.received is not None
        resume = f"ckpt_path={shlex.quote(os.path.relpath(self.last))}"
        again = "start it again, with another hydra.run.dir if you gave one"
        on = f"go on with {resume} and the same options"
        if self._written is not None:
            text = f"interrupted at step {self._written}: {self.last} is written: {on}"
        elif self._complete and self.last.exists():
            text = f"interrupted after the last step: training is complete, its weights are {self.last}"
        elif self._step == self._first_step:
            kept = f"{self.ckpt_path} is as it was" if self.ckpt_path else "nothing is kept"
            text = f"interrupted before a step was taken: nothing was trained, {kept}: {again}"
        elif self.last.exists():
            text = f"interrupted at once after step {self._step}: {self.last} is of that step or an earlier one: {on}"
        else:
            text = f"interrupted at once after step {self._step}: no checkpoint was written: {again}"
        error = Interrupted(text)
        error.exit_code = 128 + self.received
        return error
