import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from hourglass_sep.support.errors import CheckpointError, FileError, Interrupted, UserError
from hourglass_sep.training import checkpoint_io
from hourglass_sep.training import run as training
from hourglass_sep.training.build import build_callbacks
from hourglass_sep.training.checkpoint_io import AtomicCheckpointIO
from tests.helpers.runs import TINY, config, logged, logged_steps

EPOCHS = ("data.steps_per_epoch=3", "trainer.max_steps=9", "augment=remix", "callbacks=ema")


class SendSignals(pl.Callback):
    """Sends signals to this process at a hook, as a terminal or a scheduler would."""

    def __init__(self, hook: str, step: int, *numbers: signal.Signals) -> None:
        self.sent = False

        def send(trainer: pl.Trainer, *_: object, **__: object) -> None:
            if trainer.global_step == step and not self.sent:
                self.sent = True
                for number in numbers:
                    os.kill(os.getpid(), number)

        setattr(self, hook, send)


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # even in a shell's background job
    before_hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even below nohup

    def at(hook: str, step: int, *numbers: signal.Signals) -> None:
        sender = SendSignals(hook, step, *numbers)
        monkeypatch.setattr(training, "build_callbacks", lambda cfg: [*build_callbacks(cfg), sender])

    yield at
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # as it was before training
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, before_hangup)


@pytest.mark.parametrize(
    ("hook", "sent_at", "written_at", "number"),
    [
        ("on_train_batch_start", 4, 5, signal.SIGINT),
        ("on_train_batch_start", 2, 3, signal.SIGTERM),  # the epoch's last step: its validation is not left out
        ("on_validation_batch_start", 6, 6, signal.SIGHUP),
    ],
)
def test_a_signal_leaves_a_checkpoint_from_which_training_goes_on_as_if_there_had_been_none(
    hook: str, sent_at: int, written_at: int, number: signal.Signals, tiny_mir1k: Path, tmp_path: Path, send: Any
) -> None:
    training.run(config(tiny_mir1k, tmp_path / "whole", *EPOCHS))
    send(hook, sent_at, number)
    with pytest.raises(
        Interrupted, match=rf"at step {written_at}: .*last\.ckpt is written: go on with ckpt_path="
    ) as end:
        training.run(config(tiny_mir1k, tmp_path / "cut", *EPOCHS))
    assert end.value.exit_code == 128 + number
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == written_at
    send("on_fit_start", -1)
    training.run(config(tiny_mir1k, tmp_path / "rest", *EPOCHS, f"ckpt_path={last}"))
    scores = [logged(tmp_path / name, "val/gnsdr_vocals") for name in ("whole", "cut", "rest")]
    assert scores[1] + scores[2] == scores[0]
    ends = [torch.load(tmp_path / d / "checkpoints" / "last.ckpt", weights_only=True) for d in ("whole", "rest")]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


def test_before_the_first_step_nothing_is_written_and_that_is_said(tiny_mir1k: Path, tmp_path: Path, send: Any) -> None:
    send("on_fit_start", 0, signal.SIGTERM)
    with pytest.raises(Interrupted, match="nothing was trained") as end:
        training.run(config(tiny_mir1k, tmp_path, *EPOCHS))
    assert end.value.exit_code == 143
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_second_signal_ends_at_once_and_leaves_the_older_checkpoint(
    tiny_mir1k: Path, tmp_path: Path, send: Any
) -> None:
    send("on_train_batch_start", 4, signal.SIGINT, signal.SIGINT)
    with pytest.raises(Interrupted, match=r"at once after step 4: .*last\.ckpt is of that step or an earlier") as end:
        training.run(config(tiny_mir1k, tmp_path, *EPOCHS))
    assert end.value.exit_code == 130
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_a_signal_in_the_last_step_lets_training_end(tiny_mir1k: Path, tmp_path: Path, send: Any) -> None:
    send("on_train_batch_start", 8, signal.SIGINT)
    with pytest.raises(Interrupted, match="training is complete"):
        training.run(config(tiny_mir1k, tmp_path, *EPOCHS, "test=true"))
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN], ids=["heard", "ignored"])
def test_a_closed_terminal_costs_no_step(tiny_mir1k: Path, tmp_path: Path, hangup: signal.Handlers) -> None:
    words = [sys.executable, "-m", "hourglass_sep.train", *TINY, f"data.root={tiny_mir1k}", "logger=csv"]
    n_steps = 99999 if hangup == signal.SIG_DFL else 300
    words += [f"data.steps_per_epoch={n_steps}", f"trainer.max_steps={n_steps}", "hydra.run.dir=run"]
    words.append("trainer.log_every_n_steps=1")
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, hangup)
        os.execv(words[0], words)
    until, shown = time.monotonic() + 120, b""
    while b"train/loss" not in shown:
        assert time.monotonic() < until, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code == (128 + signal.SIGHUP if hangup == signal.SIG_DFL else 0)
    n_done = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < n_done < n_steps if hangup == signal.SIG_DFL else n_done == n_steps


@pytest.mark.slow
def test_all_processes_of_a_run_on_two_devices_end_at_the_same_step(tiny_mir1k: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hourglass_sep.train", *TINY, f"data.root={tiny_mir1k}", "logger=csv"]
    words += ["trainer.devices=2", "data.steps_per_epoch=9999", "trainer.max_steps=9999", "hydra.run.dir=run"]
    words += ["trainer.log_every_n_steps=1", "+logger.csv.flush_logs_every_n_steps=1"]
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "run" / "metrics.csv").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    errors = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert len(errors) == 2, errors
    assert "last.ckpt is written: go on with ckpt_path=run/checkpoints/last.ckpt" in errors[1]
    torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_checkpoint_is_staged_beside_its_target_and_the_older_one_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, path)

    def full(file: int) -> None:
        assert [p.parent for p in path.parent.iterdir() if p != path] == [path.parent]  # the new one
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint_io.os, "fsync", full)
    with pytest.raises(FileError, match=r"checkpoints/last\.ckpt cannot be written to \(No space left on device\)"):
        AtomicCheckpointIO().save_checkpoint({"global_step": 2}, path)
    assert torch.load(path, weights_only=True) == {"global_step": 1}
    assert list(path.parent.iterdir()) == [path]


def test_every_checkpoint_of_a_run_is_written_that_way(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))  # where Lightning stages them
    training.run(config(tiny_mir1k, tmp_path / "run", *EPOCHS))
    assert {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lr(run_dir: Path, name: str = "AdamW") -> list[float]:
    return logged(run_dir, f"lr-{name}")


@pytest.mark.parametrize(
    "changed",
    [
        ("scheduler=cosine", "trainer.max_steps=8"),
        ("scheduler=step", "scheduler.milestones=[2,5]", "trainer.max_steps=8"),
        ("scheduler=cosine", "trainer.max_steps=8", "optimizer.lr=0.5"),
    ],
)
def test_a_resumed_run_follows_the_configs_schedule_and_says_what_changed(
    changed: tuple[str, ...], tiny_mir1k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ("data.steps_per_epoch=2", "trainer.log_every_n_steps=1", "data.split=all")
    training.run(config(tiny_mir1k, tmp_path / "first", *shared, "trainer.max_steps=4", changed[0]))
    training.run(config(tiny_mir1k, tmp_path / "whole", *shared, *changed))
    capsys.readouterr()
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    training.run(config(tiny_mir1k, tmp_path / "rest", *shared, *changed, f"ckpt_path={last}"))
    assert lr(tmp_path / "rest") == lr(tmp_path / "whole")[4:]
    assert logged_steps(tmp_path / "rest") == logged_steps(tmp_path / "whole")[8:]
    said = capsys.readouterr().err
    assert ("scheduler.T_max=8 (was 4)" if "cosine" in changed[0] else "scheduler.milestones=[2, 5]") in said
    assert ("optimizer.lr=0.5 (was 0.001)" in said) == ("optimizer.lr=0.5" in changed)


def test_what_a_resumed_run_cannot_take_over_is_refused(tiny_mir1k: Path, tmp_path: Path) -> None:
    training.run(config(tiny_mir1k, tmp_path / "run", "callbacks=ema"))
    more = ("trainer.max_steps=4", f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}")
    with pytest.raises(CheckpointError, match=r"of optimizer AdamW, whose state Adam cannot take over: .* optimizer="):
        training.run(config(tiny_mir1k, tmp_path / "a", *more, "callbacks=ema", "optimizer=adam"))
    with pytest.raises(CheckpointError, match="callbacks=ema"):
        training.run(config(tiny_mir1k, tmp_path / "b", *more))
    with pytest.raises(CheckpointError, match=r"1 epochs behind it: raise trainer\.max_epochs"):
        training.run(config(tiny_mir1k, tmp_path / "c", *more, "callbacks=ema", "+trainer.max_epochs=1"))


def test_a_run_folder_belongs_to_one_run(tiny_mir1k: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training.run(config(tiny_mir1k, run))
    before = contents(run)
    last = run / "checkpoints" / "last.ckpt"
    elsewhere = tmp_path / "copy.ckpt"
    shutil.copy(last, elsewhere)
    more = "trainer.max_steps=4"
    for options in ([], [more, f"ckpt_path={elsewhere}"]):
        with pytest.raises(UserError, match=r"holds another run's .*: choose another hydra\.run\.dir"):
            training.run(config(tiny_mir1k, run, *options))
    with pytest.raises(UserError, match="holds another run's"):
        training.run(config(tiny_mir1k, tmp_path / "new", f"paths.checkpoint_dir={last.parent}"))
    assert contents(run) == before
    metrics = (run / "metrics.csv").read_bytes()
    training.run(config(tiny_mir1k, run, more, f"ckpt_path={last}"))
    assert (run / "metrics.1.csv").read_bytes() == metrics  # of the part before
    assert torch.load(last, weights_only=True)["global_step"] == 4


@pytest.mark.slow
def test_two_trainings_at_once_do_not_share_a_folder_and_a_used_one_keeps_its_config(
    tiny_mir1k: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "hourglass_sep.train", *TINY, f"data.root={tiny_mir1k}", "logger=csv"]
    words += ["hydra.run.dir=run"]
    many = ["data.steps_per_epoch=9999", "trainer.max_steps=9999", "trainer.log_every_n_steps=1"]
    many += ["+logger.csv.flush_logs_every_n_steps=1"]
    with subprocess.Popen([*words, *many], cwd=tmp_path) as first:
        while not (tmp_path / "run" / "metrics.csv").exists():
            assert first.poll() is None
            time.sleep(0.05)
        options = (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes()
        second = subprocess.run([*words, "seed=5"], cwd=tmp_path, capture_output=True, text=True)
        first.kill()
    third = subprocess.run([*words, "seed=5"], cwd=tmp_path, capture_output=True, text=True)
    for refused, reason in ((second, "in use by another run"), (third, "holds another run's metrics.csv")):
        assert refused.returncode == 2
        assert len(refused.stderr.splitlines()) == 1
        assert reason in refused.stderr
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes() == options
