import os
from pathlib import Path
from typing import Any

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger

from hourglass_sep.support.errors import UserError
from hourglass_sep.training import loggers
from hourglass_sep.training import run as training
from hourglass_sep.training.callbacks import Preview
from tests.helpers.runs import config, logged
from tests.helpers.wandb_files import OfflineRun


class Broken(CSVLogger):
    """Fails where it is told to."""

    def __init__(self, save_dir: str, where: str) -> None:
        super().__init__(save_dir, name="", version="")
        self.where = where

    @property
    def experiment(self) -> Any:
        self._fail("experiment")
        return super().experiment

    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        self._fail("log_metrics")

    def log_hyperparams(self, params: Any = None) -> None:
        self._fail("log_hyperparams")

    def save(self) -> None:
        self._fail("save")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self._fail("after_save_checkpoint")

    def finalize(self, status: str) -> None:
        self._fail("finalize")

    def _fail(self, where: str) -> None:
        if where == self.where:
            raise OSError("quota exceeded")


@pytest.mark.parametrize(
    "where", ["experiment", "log_metrics", "log_hyperparams", "save", "after_save_checkpoint", "finalize"]
)
def test_a_logger_that_fails_anywhere_is_one_warning_and_training_goes_on(
    where: str, tiny_mir1k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = f"+logger.mine={{_target_: {__name__}.Broken, save_dir: '{tmp_path / 'mine'}', where: {where}}}"
    training.run(config(tiny_mir1k, tmp_path, broken))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("warning: Broken: quota exceeded: training goes on")
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
    assert len(logged(tmp_path, "train/loss")) == 2  # the other logger's


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that cannot be written to, by root either, and no word to W&B of any other place."""
    home = tmp_path / "home"
    home.mkdir()
    for name in (".local", ".cache", ".config"):
        (home / name).touch()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(loggers, "_ours", {})
    return home


@pytest.mark.slow
def test_media_are_staged_in_the_run_folder(elsewhere: Path, tiny_mir1k: Path, tmp_path: Path, capsys: Any) -> None:
    for name in ("first", "second"):  # as jobs of a sweep
        run = tmp_path / name
        training.run(config(tiny_mir1k, run, "logger=wandb"))
        assert OfflineRun(run).values("val/preview/nrows") == [2]
        assert os.environ["WANDB_DATA_DIR"] == str(run / "wandb" / "staging")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["WANDB_DATA_DIR", "WANDB_CACHE_DIR"])
def test_a_staging_folder_that_cannot_be_written_to_is_one_warning_and_the_runs_is_used(
    variable: str, elsewhere: Path, tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv(variable, "/dev/null/x")
    monkeypatch.setenv("WANDB_MODE", "offline")
    training.run(config(tiny_mir1k, tmp_path, "logger=wandb"))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: {variable}=/dev/null/x: Not a directory: W&B uses")
    assert OfflineRun(tmp_path).values("val/preview/nrows") == [2]


def test_staging_follows_the_run_even_if_its_variable_was_taken_away(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers.wandb_logger("project", "first")
    monkeypatch.delenv("WANDB_DATA_DIR")
    loggers.wandb_logger("project", "second")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "second" / "wandb" / "staging")
    assert not Path("None").exists()


def test_a_logger_whose_folder_cannot_be_made_is_one_warning(
    tiny_mir1k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.run(config(tiny_mir1k, tmp_path, "logger=wandb", "logger.wandb.save_dir=/dev/null/x"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: logger: [Errno 20] Not a directory: '/dev/null/x': training goes on")


@pytest.mark.parametrize("content", ["", "a/b", "\x1b[31m", "x" * 300])
def test_an_id_of_a_run_that_is_none_is_replaced(content: str, tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_text(content)
    found = loggers._run_id(path)
    assert loggers._ID.fullmatch(found)
    assert path.read_text() == found + "\n"


@pytest.mark.slow
def test_w_and_b_that_cannot_be_reached_is_used_offline_and_the_remedy_is_said(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(**_: object) -> bool:
        raise wandb.errors.CommError("no route to host")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", unreachable)
    training.run(config(tiny_mir1k, tmp_path, "logger=wandb"))
    assert OfflineRun(tmp_path).values("train/loss")
    (line,) = capsys.readouterr().err.splitlines()
    assert "no route to host" in line
    assert "WANDB_MODE=offline" in line


@pytest.mark.parametrize(("mode", "words"), [("online", "set WANDB_MODE=offline"), ("bogus", "WANDB_MODE='bogus'")])
def test_a_mode_of_w_and_b_that_is_not_possible_is_refused(
    mode: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(UserError, match=words):
        loggers.wandb_logger("project", str(tmp_path))


@pytest.mark.slow
def test_a_preview_that_cannot_be_made_is_one_warning(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room for media")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(Preview, "_keep", fail)
    training.run(config(tiny_mir1k, tmp_path, "logger=wandb", "trainer.max_steps=4"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "no room for media" in line
