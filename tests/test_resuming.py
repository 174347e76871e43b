"""Runs that end early and go on: whole checkpoints, the schedule that is meant, folders of one run."""

from __future__ import annotations

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from test_training import config
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, OneCycleLR, StepLR

from hourglass_sep import train
from hourglass_sep.checkpoint_io import AtomicCheckpointIO
from hourglass_sep.errors import CheckpointError, FileError, Interrupted, UserError
from hourglass_sep.instantiate import build_callbacks
from hourglass_sep.resuming import RECIPE, carry_over, recipe
from hourglass_sep.run_folder import own

Schedule = Callable[[torch.optim.Optimizer], LRScheduler]
adam = functools.partial(torch.optim.Adam, lr=0.1)


def trained(steps: int, schedule: Schedule) -> tuple[dict[str, Any], list[float]]:
    """A checkpoint after some steps, and the rates of the next ones."""
    optimizer = adam([torch.nn.Parameter(torch.zeros(3))])
    scheduler = schedule(optimizer)
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    states = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": [scheduler.state_dict()]}
    return {**states, RECIPE: recipe(optimizer, scheduler)}, rates(optimizer, scheduler, 6)


def rates(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def resumed(checkpoint: dict[str, Any], schedule: Schedule) -> tuple[list[float], list[str]]:
    notes = carry_over(checkpoint, "last.ckpt", adam, schedule)
    optimizer = adam([torch.nn.Parameter(torch.zeros(3))])
    scheduler = schedule(optimizer)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
    return rates(optimizer, scheduler, 6), notes


SCHEDULES: dict[str, tuple[Schedule, Schedule]] = {
    "cosine, longer": (lambda o: CosineAnnealingLR(o, 4), lambda o: CosineAnnealingLR(o, 10)),
    "cosine, ended": (lambda o: CosineAnnealingLR(o, 2), lambda o: CosineAnnealingLR(o, 12)),
    "steps elsewhere": (lambda o: MultiStepLR(o, [1], 0.2), lambda o: MultiStepLR(o, [6], 0.2)),
    "steps of other height": (lambda o: MultiStepLR(o, [1], 0.2), lambda o: MultiStepLR(o, [1], 0.5)),
    "another class": (lambda o: MultiStepLR(o, [1], 0.2), lambda o: CosineAnnealingLR(o, 9)),
    "one cycle, longer": (lambda o: OneCycleLR(o, 0.1, 12), lambda o: OneCycleLR(o, 0.1, 20)),
    "a ramp": (lambda o: LinearLR(o, 0.1, 1.0, 3), lambda o: LinearLR(o, 0.1, 1.0, 8)),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_that_was_changed_goes_on_where_it_would_be_by_now(kind: str) -> None:
    before, now = SCHEDULES[kind]
    checkpoint, _ = trained(4, before)
    found, (note,) = resumed(checkpoint, now)
    assert found == pytest.approx(trained(4, now)[1])
    assert "it goes on at step 4 with a rate of" in note


@pytest.mark.parametrize("kind", SCHEDULES)
def test_an_unchanged_schedule_is_left_as_it_is_to_the_bit(kind: str) -> None:
    checkpoint, expected = trained(4, SCHEDULES[kind][0])
    found, notes = resumed(checkpoint, SCHEDULES[kind][0])
    assert found == expected
    assert notes == []


def test_settings_of_the_optimizer_that_do_not_count_are_said_and_another_one_is_refused() -> None:
    schedule: Schedule = lambda o: StepLR(o, 100)  # noqa: E731
    checkpoint, _ = trained(4, schedule)
    other = functools.partial(torch.optim.Adam, lr=0.5, betas=(0.8, 0.999))
    notes = carry_over(checkpoint, "last.ckpt", other, schedule)
    assert notes == [
        "optimizer.lr=0.5 is ignored: last.ckpt goes on with 0.1",
        "optimizer.betas=[0.8, 0.999] is ignored: last.ckpt goes on with [0.9, 0.999]",
    ]
    for optimizer in (torch.optim.AdamW, torch.optim.SGD):
        with pytest.raises(CheckpointError, match=r"trained with Adam, not .*: repeat its optimizer= option"):
            carry_over(checkpoint, "last.ckpt", optimizer, schedule)


def test_a_cosine_run_that_is_over_goes_on_down_to_zero(
    tiny_mir1k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ("scheduler=cosine", "data.split=all", "data.steps_per_epoch=3")
    train.run(config(tiny_mir1k, tmp_path / "a", *recipe, "trainer.max_steps=3"))
    last = f"ckpt_path={tmp_path / 'a' / 'checkpoints' / 'last.ckpt'}"
    train.run(config(tiny_mir1k, tmp_path / "b", *recipe, "trainer.max_steps=6", last, "optimizer.lr=0.5"))
    end = torch.load(tmp_path / "b" / "checkpoints" / "last.ckpt", weights_only=True)
    assert end["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-12)
    said = capsys.readouterr().err
    assert "optimizer.lr=0.5 is ignored" in said
    assert "goes on at step 3 with a rate of" in said


def test_the_older_checkpoint_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"step": 1}, path)
    monkeypatch.setenv("TMPDIR", "/nowhere")

    def full(content: Any, file: Any) -> None:
        file.write(b"half of it")
        assert torch.load(path, weights_only=True) == {"step": 1}
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(FileError, match=r"last\.ckpt cannot be written .*No space"):
            io.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
    io.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 2}


class Signals(Callback):
    """Sends signals to this process at a step or in validation."""

    def __init__(self, number: int, step: int | None = None) -> None:
        self.number, self.step = number, step

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, *_: Any) -> None:
        if self.step is None:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("step", "kept"), [(2, 2), (None, 2)])
def test_a_signal_ends_training_with_a_checkpoint_from_which_it_goes_on_as_if_not_interrupted(
    number: int,
    code: int,
    step: int | None,
    kept: int,
    tiny_mir1k: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = ("data.steps_per_epoch=3", "trainer.max_steps=6")
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(train, "build_callbacks", lambda cfg: [*build_callbacks(cfg), Signals(number, step)])
        with pytest.raises(Interrupted, match=rf"holds step {kept}; to go on, add ckpt_path=") as caught:
            train.run(config(tiny_mir1k, tmp_path / "half", *recipe))
    assert caught.value.exit_code == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    metrics = train.run(config(tiny_mir1k, tmp_path / "half", *recipe, f"ckpt_path={last}"))
    assert "val/gnsdr" in metrics
    train.run(config(tiny_mir1k, tmp_path / "whole", *recipe))
    ends = [torch.load(tmp_path / d / "checkpoints" / "last.ckpt", weights_only=True) for d in ("whole", "half")]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
    assert (tmp_path / "half" / "metrics.1.csv").exists()  # of the part before


def test_a_run_folder_belongs_to_one_run(tiny_mir1k: Path, tmp_path: Path) -> None:
    train.run(config(tiny_mir1k, tmp_path / "a"))
    before = (tmp_path / "a" / "metrics.csv").read_bytes()
    train.run(config(tiny_mir1k, tmp_path / "b"))
    for more in ((), (f"ckpt_path={tmp_path / 'b' / 'checkpoints' / 'last.ckpt'}", "trainer.max_steps=4")):
        with pytest.raises(UserError, match=r"a is the folder of another run \(best\.ckpt is there\): choose another"):
            train.run(config(tiny_mir1k, tmp_path / "a", *more))
    assert (tmp_path / "a" / "metrics.csv").read_bytes() == before


def test_two_runs_at_a_time_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        own(tmp_path, None),
        pytest.raises(UserError, match="is the folder of a run that is at work"),
        own(tmp_path, None),
    ):
        pytest.fail("the block was entered")
    with own(tmp_path, None):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_command_that_is_signalled_says_where_the_checkpoint_is(
    number: int, code: int, devices: int, tiny_mir1k: Path, tmp_path: Path
) -> None:
    options = ["model=compact", "model.channels=4", "model.depth=1", "trainer=cpu", "logger=none", "data.batch_size=2"]
    options += [f"data.root={tiny_mir1k}", "trainer.max_steps=100000", f"trainer.devices={devices}"]
    options += [f"hydra.run.dir={tmp_path}/run", "callbacks.recent.train_time_interval.minutes=0.02"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hourglass_sep.train", *options], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 120
    while not last.exists() and time.monotonic() < until:
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert [line for line in said.splitlines() if line.startswith("error:")] == said.splitlines()[-1:]
    assert f"to go on, add ckpt_path={last}" in said
    torch.load(last, weights_only=True)
    until = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _alive(process.pid)


def _alive(group: int) -> list[str]:
    """The processes of a group, but for those that have ended and whose parent has not looked."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return [state for state, _, its_group, *_ in fields if int(its_group) == group and state != "Z"]
