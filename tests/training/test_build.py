"""Whatever value a user gives an option of training: one line that names it, never a traceback."""

import logging
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.training import entry
from hourglass_sep.training import run as training
from hourglass_sep.training.quoting import hydra_arguments
from tests.helpers.runs import TINY

EARLY = "+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/gnsdr"
REFUSED = {  # options, separated by two spaces: words of the line
    "seed=99999999999": "seed=99999999999",
    "seed=abc": "seed='abc'",
    "+trainer.overfit_batches=2": "trainer.overfit_batches=2",
    "trainer.use_distributed_sampler=true": "trainer.use_distributed_sampler=True",
    "+trainer.limit_train_batches=abc": "trainer.limit_train_batches='abc'",
    "+trainer.limit_val_batches=-1": "trainer.limit_val_batches=-1",
    "+trainer.max_epochs=abc": "trainer.max_epochs='abc'",
    "trainer.max_steps=1.5": "trainer.max_steps=1.5",
    "+trainer.max_time=abc": "Timer(duration='abc')",
    "+trainer.val_check_interval=0": "trainer.val_check_interval=0",
    "+trainer.val_check_interval=5": "val_check_interval` (5)",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch=0",
    "trainer.num_sanity_val_steps=abc": "trainer.num_sanity_val_steps='abc'",
    "trainer.precision=float32": "Precision 'float32'",
    "trainer.accelerator=tpuu": "accelerator='tpuu'",
    "trainer.strategy=foo": "strategy='foo'",
    "trainer.gradient_clip_val=abc": "trainer.gradient_clip_val='abc'",
    "trainer.gradient_clip_val=1  +optimizer.fused=true  trainer.precision=16-mixed": "fused",
    "+trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches=0",
    "+trainer.fast_dev_run=abc": "trainer.fast_dev_run='abc'",
    "+trainer.fast_dev_run=true  test=true": "test=True is not possible without a checkpoint",
    "+trainer.detect_anomaly=abc": "trainer.detect_anomaly='abc'",
    "trainer.deterministic=abc": "trainer.deterministic='abc'",
    "+trainer.bogus=1": "bogus",
    "trainer.log_every_n_steps=0": "trainer.log_every_n_steps=0",
    "data.num_workers=-1": "data.num_workers=-1",
    "data.batch_size=1000000000000": "data.batch_size=1000000000000",
    "data.root=/MIR (1)": "/MIR (1)",
    "ckpt_path=epoch=3-step=8.ckpt": "epoch=3-step=8.ckpt",
    "ckpt_path=~no-such-user/last.ckpt": "~no-such-user/last.ckpt is not a file",
    "data.root=~no-such-user": "~no-such-user/Wavfile",
    "paths.checkpoint_dir=null": "paths.checkpoint_dir=None",
    "callbacks.best.monitor=foo": "ModelCheckpoint(monitor='foo')",
    "callbacks.best.mode=foo": "callbacks.best",
    "callbacks.preview.clips=abc": "callbacks.preview",
    "callbacks.throughput.batch_size=abc": "callbacks.throughput",
    "+callbacks.x={_target_: builtins.dict}": "callbacks.x=",
    "+callbacks.x=5": "callbacks.x=5",
    "+logger.x={_target_: builtins.dict}": "logger.x=",
    "+callbacks.x={_target_: foo.Bar}": "callbacks.x",
    EARLY.replace("val/gnsdr", "val_loss") + "}": "val_loss",
    EARLY + ", mode: foo}": "callbacks.stop",
    "optimizer.lr=null": "optimizer.lr=None",
    "optimizer._target_=torch.optim.SparseAdam": "SparseAdam",
    "+scheduler.bogus=1": "scheduler.bogus=1",
    "scheduler=cosine  trainer.max_steps=-1  +trainer.max_epochs=1": "scheduler.T_max=-1",
}


@pytest.mark.parametrize("options", REFUSED)
def test_an_option_that_is_not_possible_is_named_in_one_line(options: str, tiny_mir1k: Path, tmp_path: Path) -> None:
    arguments = hydra_arguments([*TINY, f"data.root={tiny_mir1k}", f"paths.run_dir={tmp_path}", *options.split("  ")])
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["logger=csv", *arguments])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, the command makes a line of it
        training.run(cfg)
    line = entry._explain(caught.value)
    assert line is not None, caught.value
    assert REFUSED[options] in line, line


@pytest.mark.parametrize("option", ["+trainer.fast_dev_run=true", "+trainer.limit_train_batches=0"])
def test_no_checkpoint_is_named_where_none_was_written(
    option: str, tiny_mir1k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [*TINY, f"data.root={tiny_mir1k}", f"paths.run_dir={tmp_path}", "logger=csv", option])
    training.print_outcome(cfg, training.run(cfg))
    out = capsys.readouterr().out
    assert "no checkpoint was written" in out
    assert ".ckpt" not in out


def test_a_runs_places_are_printed_without_control_characters(
    tiny_mir1k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "\x1b[31mred\nrun"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose(
            "train", hydra_arguments([*TINY, f"data.root={tiny_mir1k}", f"paths.run_dir={run}", "logger=csv"])
        )
    training.print_outcome(cfg, training.run(cfg))
    said = capsys.readouterr()
    assert "\x1b" not in said.out
    assert "\\x1b[31mred\\nrun/checkpoints/best.ckpt" in said.out
    assert not said.err


def test_a_job_is_silent_wherever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other launchers pickle the job and call it in processes of their own, where `main` is not run."""
    jobs = []
    monkeypatch.setattr("hydra.main", lambda **_: lambda job: lambda: jobs.append(job))
    monkeypatch.setattr("sys.argv", ["train"])
    advertiser = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    monkeypatch.setattr(advertiser, "level", logging.INFO)
    seen = []
    entry.hydra_main("train")(lambda cfg: seen.append(advertiser.level))()
    jobs[0](OmegaConf.create())
    assert seen == [logging.WARNING]


def test_a_job_gets_targets_of_earlier_versions_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, seen = [], []
    monkeypatch.setattr("hydra.main", lambda **_: lambda job: lambda: jobs.append(job))
    monkeypatch.setattr("sys.argv", ["train"])
    entry.hydra_main("train")(lambda cfg: seen.append(cfg.loss._target_))()
    jobs[0](OmegaConf.create({"loss": {"_target_": "hourglass_sep.losses.masked_l1"}}))
    assert seen == ["hourglass_sep.training.losses.masked_l1"]
