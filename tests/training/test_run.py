import csv
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import open_dict
from pytorch_lightning.callbacks import ModelCheckpoint

from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.data.patches import RandomPatches
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import CheckpointError, UserError
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.training import run as training
from hourglass_sep.training.build import build_callbacks
from hourglass_sep.training.callbacks import RecentCheckpoint
from tests.helpers.runs import TINY, config, logged, logged_steps
from tests.helpers.wandb_files import OfflineRun


def test_a_run_of_two_steps_logs_validates_and_leaves_plain_checkpoints(tiny_mir1k: Path, tmp_path: Path) -> None:
    metrics = training.run(config(tiny_mir1k, tmp_path))
    assert len(logged(tmp_path, "train/loss")) == 2
    for loss, *stacks in zip(
        *(logged(tmp_path, f"train/{k}") for k in ("loss", "loss_stack0", "loss_stack1")), strict=True
    ):
        assert loss == pytest.approx(sum(stacks), rel=1e-5)
    for source in ("vocals", "accompaniment"):
        for score in ("gnsdr", "gsir", "gsar"):
            assert f"val/{score}_{source}" in metrics
    assert logged(tmp_path, "train/patches_per_second")
    for name in ("best", "last"):
        path = tmp_path / "checkpoints" / f"{name}.ckpt"
        torch.load(path, weights_only=True)
        assert Separator.from_checkpoint(path).description["network"]["arguments"]["channels"] == 4


def test_training_lowers_the_loss(tiny_mir1k: Path, tmp_path: Path) -> None:
    training.run(
        config(
            tiny_mir1k,
            tmp_path,
            "trainer.max_steps=40",
            "data.steps_per_epoch=40",
            "optimizer.lr=0.01",
            "trainer.log_every_n_steps=1",
            "data.split=all",
        )
    )
    losses = logged(tmp_path, "train/loss")
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_a_compiled_network_trains_as_the_one_it_was_compiled_from(tiny_mir1k: Path, tmp_path: Path) -> None:
    # Everything but the code generation, which wants a compiler.
    options = ["trainer.max_steps=4"]
    compiled = ["compile=inductor", "+compile.backend=aot_eager"]
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    training.run(config(tiny_mir1k, tmp_path / "eager", *options))
    assert graphs["unique_graphs"] == before
    training.run(config(tiny_mir1k, tmp_path / "compiled", *options, *compiled))
    assert graphs["unique_graphs"] == before + 1  # validation's windows come in other numbers and are not compiled for
    ends = [torch.load(tmp_path / d / "checkpoints" / "last.ckpt", weights_only=True) for d in ("eager", "compiled")]
    assert ends[0]["state_dict"].keys() == ends[1]["state_dict"].keys()
    for name, value in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][name], value, msg=name)


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(tiny_mir1k: Path, tmp_path: Path) -> None:
    recipe = ("augment=remix", "model.dropout=0.3", "callbacks=ema")
    training.run(config(tiny_mir1k, tmp_path / "whole", "trainer.max_steps=4", *recipe))
    training.run(config(tiny_mir1k, tmp_path / "half", *recipe))
    last = f"ckpt_path={tmp_path / 'half' / 'checkpoints' / 'last.ckpt'}"
    training.run(config(tiny_mir1k, tmp_path / "rest", "trainer.max_steps=4", *recipe, last))
    ends = [torch.load(tmp_path / d / "checkpoints" / "last.ckpt", weights_only=True) for d in ("whole", "rest")]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 4
    for weights in ("state_dict", "current_model_state"):  # their average, and themselves
        for name, value in ends[0][weights].items():
            assert torch.equal(value, ends[1][weights][name]), name


def test_a_run_is_resumed_from_the_middle_of_an_epoch_with_accumulated_gradients(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["+trainer.accumulate_grad_batches=2", "data.steps_per_epoch=8", "trainer.max_steps=6", "augment=remix"]
    kept = tmp_path / "kept.ckpt"

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: object, *_: object) -> None:
            last = tmp_path / "whole" / "checkpoints" / "last.ckpt"
            if last.exists() and not kept.exists():
                shutil.copy(last, kept)

    # Checkpoints are written after all other callbacks: the copy is made at the batch after.
    monkeypatch.setattr(training, "build_callbacks", lambda cfg: [*build_callbacks(cfg), Keep()])
    training.run(config(tiny_mir1k, tmp_path / "whole", *options, "callbacks.recent.train_time_interval.minutes=0"))
    monkeypatch.undo()
    assert torch.load(kept, weights_only=True)["global_step"] == 1
    training.run(config(tiny_mir1k, tmp_path / "rest", *options, f"ckpt_path={kept}"))
    ends = [torch.load(tmp_path / d / "checkpoints" / "last.ckpt", weights_only=True) for d in ("whole", "rest")]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 6
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


@pytest.mark.parametrize("batch", range(8))
def test_recent_checkpoints_wait_for_whole_steps_and_leave_the_epochs_end_to_others(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_batch_end", lambda *_: asked.append(batch))
    trainer = SimpleNamespace(accumulate_grad_batches=2, is_last_batch=batch == 7)
    RecentCheckpoint().on_train_batch_end(trainer, None, None, None, batch)  # type: ignore[arg-type]
    assert bool(asked) == (batch in (1, 3, 5))


def test_a_checkpoint_says_growth_or_not_as_its_version_had_it_and_is_resumed_if_it_is_none(
    tiny_mir1k: Path, tmp_path: Path
) -> None:
    training.run(config(tiny_mir1k, tmp_path / "run"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    arguments = checkpoint[KEY]["network"]["arguments"]
    assert "growth" not in arguments
    for growth in (0, 8):
        arguments["growth"] = growth
        torch.save(checkpoint, tmp_path / f"{growth}.ckpt")
    more = ("trainer.max_steps=3", f"ckpt_path={tmp_path}/")
    training.run(config(tiny_mir1k, tmp_path / "rest", more[0], f"{more[1]}0.ckpt"))
    with pytest.raises(CheckpointError, match=r"network\.growth=8, which only earlier versions"):
        training.run(config(tiny_mir1k, tmp_path / "other", more[0], f"{more[1]}8.ckpt"))


def test_a_run_is_resumed_with_its_own_options_only(tiny_mir1k: Path, tmp_path: Path) -> None:
    training.run(config(tiny_mir1k, tmp_path / "run"))
    last = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}"
    for message, override in {
        r"another model: .* model\.channels=4": "model.channels=8",
        "another audio": "spectrogram.hop_length=128",
        r"2 steps behind it: raise trainer\.max_steps": "trainer.max_steps=2",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            training.run(config(tiny_mir1k, tmp_path / "other", last, override))


@pytest.mark.slow
@pytest.mark.parametrize("stacks", [1, 2, 4])
def test_the_papers_network_and_recipe_take_fifty_steps_and_learn(
    stacks: int, tiny_mir1k: Path, tmp_path: Path
) -> None:
    # Full width and every setting of the recipe; only fewer and shorter patches.
    small = [f"model.stacks={stacks}", "trainer=cpu", "trainer.max_steps=50", "data.steps_per_epoch=50"]
    small += ["data.batch_size=1", "audio.segment_frames=16", "inference.window_frames=64", "logger=csv"]
    small += ["trainer.log_every_n_steps=1"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        paths = [f"data.root={tiny_mir1k}", f"paths.run_dir={tmp_path}"]
        cfg = compose("train", ["experiment=paper_mir1k", *small, *paths])
    training.run(cfg)
    losses = logged(tmp_path, "train/loss")
    assert len(losses) == 50
    assert sum(losses[-10:]) < sum(losses[:10])
    described = Separator.from_checkpoint(tmp_path / "checkpoints" / "last.ckpt").description["network"]
    assert described["arguments"]["channels"] == 256


def test_training_that_diverges_ends_at_once_and_leaves_no_best_checkpoint(tiny_mir1k: Path, tmp_path: Path) -> None:
    diverging = (
        "optimizer.lr=1e30",
        "trainer.max_steps=9",
        "data.steps_per_epoch=9",
        "callbacks.skip_non_finite.most_in_a_row=3",
    )
    with pytest.raises(UserError, match=r"not finite at step \d, the last 4 steps were skipped: lower optimizer\.lr"):
        training.run(config(tiny_mir1k, tmp_path, *diverging))
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_weights_that_the_last_step_made_infinite_are_not_written(tiny_mir1k: Path, tmp_path: Path) -> None:
    last_step = ("optimizer.lr=inf", "trainer.max_steps=1", "data.steps_per_epoch=1")
    with pytest.raises(UserError, match=r"is not finite after 1 steps, .*: lower optimizer\.lr"):
        training.run(config(tiny_mir1k, tmp_path, *last_step))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_step_that_is_not_finite_is_skipped_and_counted_and_training_goes_on(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = RandomPatches.__getitem__
    weights = []

    def damaged(patches: RandomPatches, index: int) -> dict[str, torch.Tensor]:
        patch = draw(patches, index)
        return patch | {"sources": patch["sources"] * torch.nan} if index // 4 in (1, 2) else patch

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            weights.append([p.detach().clone() for p in pl_module.parameters()])

    monkeypatch.setattr(RandomPatches, "__getitem__", damaged)
    monkeypatch.setattr(training, "build_callbacks", lambda cfg: [*build_callbacks(cfg), Watch()])
    training.run(config(tiny_mir1k, tmp_path, "trainer.max_steps=4", "data.steps_per_epoch=4"))
    same = [all(map(torch.equal, *pair)) for pair in pairwise(weights)]
    assert same == [True, True, False]
    assert logged(tmp_path, "train/skipped_steps") == [0, 1, 2, 2]
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["callbacks"]["SkipNonFiniteSteps"] == {"skipped": 2}


@pytest.mark.slow
def test_training_that_is_killed_goes_on_as_if_it_had_not_been(tiny_mir1k: Path, tmp_path: Path) -> None:
    overrides = [*TINY, f"data.root={tiny_mir1k}", "logger=csv", "augment=remix", "callbacks=ema", "data.split=all"]
    overrides += ["data.steps_per_epoch=60", "trainer.max_steps=150", "trainer.log_every_n_steps=1"]
    training.run(config(tiny_mir1k, tmp_path / "whole", *overrides[5:]))
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "hourglass_sep.train", *overrides, f"hydra.run.dir={killed}"]
    command += ["callbacks.recent.train_time_interval.minutes=0"]
    # As many threads as here: another number adds up gradients in another order.
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}) as process:
        while process.poll() is None and not (killed / "metrics.csv").exists():
            time.sleep(0.02)
        while process.poll() is None and max(map(int, logged_steps(killed)), default=0) < 75:
            time.sleep(0.02)
        process.kill()
    last = killed / "checkpoints" / "last.ckpt"
    stopped_at = torch.load(last, weights_only=True)["global_step"]
    assert 60 < stopped_at < 120, "not in the middle of the second epoch"
    training.run(config(tiny_mir1k, tmp_path / "rest", *overrides[5:], f"ckpt_path={last}"))
    losses = [logged(tmp_path / name, "train/loss") for name in ("whole", "rest")]
    assert losses[1] == losses[0][stopped_at:]
    ends = [torch.load(tmp_path / d / "checkpoints" / "last.ckpt", weights_only=True) for d in ("whole", "rest")]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 150
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


def test_without_a_seed_runs_differ(tiny_mir1k: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        training.run(config(tiny_mir1k, tmp_path / name, "seed=null"))
    assert logged(tmp_path / "first", "train/loss") != logged(tmp_path / "second", "train/loss")


def test_a_bad_clip_of_any_part_is_found_before_training(tiny_mir1k: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_mir1k, tmp_path / "data")
    for name, overrides in {"amy_2_01": [], "amy_9_01": [], "bug_2_01": ["test=true"]}.items():
        path = tmp_path / "data" / "Wavfile" / f"{name}.wav"
        whole = path.read_bytes()
        path.write_bytes(whole[:9000])
        with pytest.raises(UserError, match=rf"{name}\.wav is truncated"):
            training.run(config(tmp_path / "data", tmp_path / "run", *overrides))
        path.write_bytes(whole)
    assert not (tmp_path / "run").exists()


def test_training_reads_no_test_clip_unless_asked(tiny_mir1k: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "Wavfile").mkdir(parents=True)
    for path in (tiny_mir1k / "Wavfile").iterdir():
        is_train = path.name.split("_")[0] in ("abjones", "amy")
        (root / "Wavfile" / path.name).write_bytes(path.read_bytes() if is_train else b"no audio")
    training.run(config(root, tmp_path / "untested"))
    with pytest.raises(UserError, match="cannot be read as audio"):
        training.run(config(root, tmp_path / "tested", "test=true"))


def test_a_test_at_the_end_scores_the_test_singers_only(tiny_mir1k: Path, tmp_path: Path) -> None:
    metrics = training.run(config(tiny_mir1k, tmp_path, "test=true"))
    assert {"test/gnsdr_vocals", "test/gnsdr_accompaniment"} <= metrics.keys()
    with (tmp_path / "scores.csv").open() as file:
        scored = list(csv.DictReader(file))
    assert {row["clip"].split("_")[0] for row in scored} == {"Ani", "bug"}
    assert {row["system"] for row in scored} == {MIXTURE, "model", "ideal ratio mask"}


def test_all_175_clips_train_without_validation_when_the_split_is_all(tiny_mir1k: Path, tmp_path: Path) -> None:
    metrics = training.run(config(tiny_mir1k, tmp_path, "data.split=all"))
    assert not [name for name in metrics if name.startswith("val/")]
    assert training.best_checkpoint(config(tiny_mir1k, tmp_path)).name == "last.ckpt"


def test_wandb_run_has_metrics_config_and_versions_and_is_finished(tiny_mir1k: Path, tmp_path: Path) -> None:
    training.run(config(tiny_mir1k, tmp_path, "logger=wandb"))
    run = OfflineRun(tmp_path)
    assert run.exit_code == 0
    assert run.name == tmp_path.name
    for key in ("train/loss", "train/loss_stack1", "val/gnsdr_vocals", "lr-AdamW", "train/patches_per_second"):
        assert run.values(key), key
    assert run.config["config"]["model"]["channels"] == 4
    assert run.config["versions"]["torch"] == importlib.metadata.version("torch")
    assert {"commit", "hardware"} <= run.config.keys()
    assert (run.values("val/preview/nrows"), run.values("val/preview/ncols")) == ([2], [7])
    assert [*run.folder.glob("files/media/images/val/pictures*.png")]


class Failure(pl.Callback):
    def on_train_batch_end(self, *_: object) -> None:
        raise RuntimeError("power cut")


def test_wandb_run_is_finished_as_failed_when_training_raises(tiny_mir1k: Path, tmp_path: Path) -> None:
    cfg = config(tiny_mir1k, tmp_path, "logger=wandb")
    with open_dict(cfg):
        cfg.callbacks.failure = {"_target_": f"{__name__}.Failure"}
    with pytest.raises(RuntimeError, match="power cut"):
        training.run(cfg)
    assert OfflineRun(tmp_path).exit_code == 1


def test_bad_requests_are_refused_before_anything_is_written(tiny_mir1k: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    for message, overrides in {
        "no MIR-1K clips": [f"data.root={tmp_path}"],
        "is not a file": ["ckpt_path=nowhere.ckpt"],
        "no clip to validate on": ["data.validation_songs=[zz_1]"],
        "model.sources is not allowed": ["+model.sources=3"],
        "optimizer": ["optimizer.lr=abc"],
        "trainer or strategy": ["trainer.precision=foo"],
        "trainer.max_steps=abc": ["trainer.max_steps=abc"],
        "trainer.devices=1.5": ["trainer.devices=1.5"],
        "seed=-1": ["seed=-1"],
        "trainer.precision=bf16-true .* give bf16-mixed": ["trainer.precision=bf16-true"],
        "give compile=inductor": ["compile=cudagraphs", "+trainer.accumulate_grad_batches=2"],
        "compile: .*nonsense": ["compile=inductor", "+compile.mode=nonsense"],
        "compile: .*nothing": ["compile=inductor", "+compile.backend=nothing"],
        "data.scale": ["data.scale=song"],
        "trainer.accelerator=cpu": ["trainer.accelerator=gpu", "trainer.devices=8"],
        "trainer.devices": ["trainer.devices=0"],
    }.items():
        with pytest.raises(UserError, match=message):
            training.run(config(tiny_mir1k, run_dir, *overrides))
    junk = tmp_path / "junk.ckpt"
    torch.save({"state_dict": {}}, junk)
    with pytest.raises(CheckpointError, match="something else"):
        training.run(config(tiny_mir1k, run_dir, f"ckpt_path={junk}"))
    assert not (run_dir / "checkpoints").exists()
