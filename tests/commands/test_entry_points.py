"""Whole commands in processes of their own, from a folder that is not the checkout."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hourglass_sep.cli import COMMANDS
from tests.helpers.runs import TINY
from tests.helpers.wandb_files import OfflineRun

REPO = Path(__file__).resolve().parents[2]


def command(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("HOURGLASS_DATA_DIR", "WANDB_API_KEY")}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env=clean | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


def succeed(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    result = command(*arguments, cwd=cwd, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def refused(*arguments: str | Path, cwd: Path) -> str:
    """The one line that a refused command prints."""
    result = command(*arguments, cwd=cwd)
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_help_lists_every_command_and_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from hourglass_sep import cli; print(cli.usage()); assert 'torch' not in sys.modules"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(name in out for name in COMMANDS)


def test_an_unknown_command_is_named(tmp_path: Path) -> None:
    assert "seperate" in refused("hourglass_sep", "seperate", cwd=tmp_path)


@pytest.mark.slow
def test_train_evaluate_and_separate_work_one_after_the_other(tiny_mir1k: Path, tmp_path: Path) -> None:
    out = succeed("hourglass_sep.train", *TINY, "hydra.run.dir=run", HOURGLASS_DATA_DIR=str(tiny_mir1k), cwd=tmp_path)
    assert "run/checkpoints/best.ckpt" in out
    weights = tmp_path / "run" / "checkpoints" / "best.ckpt"

    arguments = (f"ckpt_path={weights}", f"data.root={tiny_mir1k}", "hydra.run.dir=scores", "limit=1")
    out = succeed("hourglass_sep", "evaluate", *arguments, cwd=tmp_path)
    assert all(word in out for word in ("mixture", "model", "ideal ratio mask", "GNSDR", "GSIR", "GSAR"))
    with (tmp_path / "scores" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 2
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["rows"][0]["clip"] == rows[0]["clip"]

    sound = np.random.default_rng(0).normal(0, 0.1, (22051, 2))
    soundfile.write(tmp_path / "my song.wav", sound, 44100)
    for module in (["hourglass_sep", "separate"], ["hourglass_sep.separate"]):
        out = succeed(*module, "my song.wav", "-o", "stems", "-n", weights, "--overwrite", cwd=tmp_path)
        for line in out.splitlines():
            assert soundfile.info(tmp_path / line).frames == 22051
            assert soundfile.info(tmp_path / line).channels == 2
            assert soundfile.info(tmp_path / line).samplerate == 44100
        assert len(out.splitlines()) == 2


@pytest.mark.slow
def test_the_demo_trains_scores_separates_and_says_where_everything_is(tmp_path: Path) -> None:
    small = ("model.channels=4", "data.clips_per_song=1", "data.steps_per_epoch=2", "trainer.max_steps=2")
    out = succeed("hourglass_sep", "demo", *small, cwd=tmp_path)
    assert all(word in out for word in ("mixture", "model", "ideal ratio mask", "GNSDR", "GSIR", "GSAR"))
    places = dict(line.split(":", 1) for line in out.splitlines() if ": " in line and "/" in line)
    for what in ("song", "stems", "picture", "scores", "checkpoint", "W&B run"):
        assert Path(places[what].strip()).exists(), what
    stems = [soundfile.read(Path(places["stems"].strip()) / f"{name}.wav")[0] for name in ("vocals", "accompaniment")]
    song = soundfile.read(places["song"].strip())[0]
    np.testing.assert_allclose(stems[0] + stems[1], song, atol=1e-4)
    assert np.abs(stems[0]).max() > 0.01
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("outputs", "data")] == []


@pytest.mark.slow
def test_a_multirun_gives_each_job_its_own_wandb_run_in_one_group(tiny_mir1k: Path, tmp_path: Path) -> None:
    sweep = ("model.stacks=1,2", "hydra.sweep.dir=sweep", f"data.root={tiny_mir1k}", "logger=both")
    succeed("hourglass_sep.train", "-m", *TINY, *sweep, cwd=tmp_path)
    runs = [OfflineRun(tmp_path / "sweep" / job) for job in ("0", "1")]
    assert runs[0].run_id != runs[1].run_id
    assert {run.group for run in runs} == {"sweep"}
    for run, stacks in zip(runs, (1, 2), strict=True):
        assert f"model.stacks={stacks}" in run.name
        assert run.config["config"]["model"]["stacks"] == stacks
        assert run.values("val/gnsdr_vocals")
        assert bool(run.values("train/loss_stack1")) == (stacks == 2)
    assert (tmp_path / "sweep" / "1" / "metrics.csv").exists()


@pytest.mark.slow
def test_evaluate_sweeps_over_refinements_and_the_test_of_a_training_run_refines_alike(
    tiny_mir1k: Path, tmp_path: Path
) -> None:
    options = (f"data.root={tiny_mir1k}", "logger=none", "test=true", "refine=nmf", "reconstruct=misi")
    succeed("hourglass_sep.train", *TINY, "hydra.run.dir=run", *options, cwd=tmp_path)
    sweep = ("refine=none,nmf", "reconstruct=mixture_phase,misi", "hydra.sweep.dir=sweep", "baselines=none")
    arguments = ("ckpt_path=run/checkpoints/best.ckpt", f"data.root={tiny_mir1k}")
    succeed("hourglass_sep.evaluate", "-m", *arguments, *sweep, cwd=tmp_path)
    contents = [json.loads((tmp_path / "sweep" / str(job) / "scores.json").read_text()) for job in range(4)]
    refinements = [content["post"]["refine"]["_target_"].rsplit(".")[-1] for content in contents]
    assert refinements == ["NoRefinement"] * 2 + ["NmfRefinement"] * 2
    scores = [content["summary"]["model"]["vocals"]["gnsdr"] for content in contents]
    assert len(set(scores)) == 4
    tested = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert tested["summary"]["model"]["vocals"]["gnsdr"] == pytest.approx(scores[3], abs=1e-6)


@pytest.mark.slow
def test_two_devices_take_the_steps_of_one_and_count_no_clip_twice(tiny_mir1k: Path, tmp_path: Path) -> None:
    shared = (*TINY, f"data.root={tiny_mir1k}", "logger=csv", "trainer.max_steps=4", "augment=remix", "strategy=auto")
    for devices in (1, 2):
        succeed(
            "hourglass_sep", "train", *shared, f"trainer.devices={devices}", f"hydra.run.dir=on{devices}", cwd=tmp_path
        )
    metrics = []
    for devices in (1, 2):
        with (tmp_path / f"on{devices}" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        metrics.append([float(row["val/gnsdr_vocals"]) for row in rows if row["val/gnsdr_vocals"]])
    assert len(metrics[0]) == len(metrics[1]) == 2
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-3)
    assert metrics[0][0] != metrics[0][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hourglass_sep.train"], ["data/MIR-1K", "HOURGLASS_DATA_DIR", "data=synthetic"]),
        (["hourglass_sep.train", "stacks=three"], ["stacks/three"]),
        (["hourglass_sep.train", "model.stacks=abc"], ["model.stacks='abc'", "whole number"]),
        (["hourglass_sep.train", "modle.stacks=2"], ["modle"]),
        (["hourglass_sep.train", "trainer.accelerator=gpu", "trainer.devices=2"], ["trainer.accelerator=cpu"]),
        (["hourglass_sep.train", "-m", "model.stacks=1,2", "trainer.devices=2"], ["--multirun", "trainer.devices=1"]),
        (["hourglass_sep.train", "data.batch_size=3", "trainer.devices=2"], ["data.batch_size=3", "multiple of 2"]),
        (["hourglass_sep.evaluate", "ckpt_path=nothing.ckpt"], ["nothing.ckpt"]),
        (["hourglass_sep.evaluate", "ckpt_path=song.wav"], ["song.wav"]),
        (["hourglass_sep.evaluate", "+baselines.mixture=${baselines.repet_sim}"], ["baselines.mixture", "another"]),
        (["hourglass_sep.separate", "song.wav", "--format", "flac", "--float32"], ["float32", "--format wav"]),
        (["hourglass_sep.separate", "song.wav", "-o", ".", "--filename", "song.wav"], ["song.wav", "stem"]),
        (["hourglass_sep.separate", "song.wav", "-n", "nobody"], ["nobody", "default"]),
        (["hourglass_sep.separate", "song.wav", "--two-stems", "drums"], ["drums", "vocals, accompaniment"]),
        (["hourglass_sep", "models", "nobody"], ["nobody", "default"]),
        (["hourglass_sep.models", "song.wav"], ["song.wav"]),
    ],
    ids=lambda value: " ".join(value[1:]) if "hourglass" in value[0] else "",
)
def test_bad_input_is_refused_with_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(0, 0.1, 4000), 8000)
    before = (tmp_path / "song.wav").read_bytes()
    line = refused(*arguments, cwd=tmp_path)
    assert all(word in line for word in words), line
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("song.wav", "outputs", "multirun")] == []
    assert (tmp_path / "song.wav").read_bytes() == before


@pytest.mark.slow
def test_the_wheel_brings_configs_and_weights_and_works_from_another_folder(tmp_path: Path) -> None:
    build = ("build", "--wheel", "--no-isolation", "--outdir", tmp_path, REPO)
    succeed(*build, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert (site / "hourglass_sep" / "conf" / "model" / "paper.yaml").exists()
    for arguments in (["hourglass_sep.train"], ["hourglass_sep", "train"]):
        out = succeed(*arguments, "--cfg", "job", "experiment=paper_mir1k", cwd=tmp_path, PYTHONPATH=str(site))
        assert "channels: 256" in out
    code = "import hourglass_sep.support.paths as p; print(p.CONFIG_DIR)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == str(site / "hourglass_sep" / "conf")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_evaluation_that_is_ended_goes_on_where_it_was(how: signal.Signals, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        noise = rng.normal(0, 0.1, (20000, 2))
        (tmp_path / "MIR-1K" / "Wavfile").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "MIR-1K" / "Wavfile" / f"Ani_1_{number:02}.wav", noise, 16000)
    words = [sys.executable, "-m", "hourglass_sep.evaluate", "data.root=MIR-1K", "workers=1", "hydra.run.dir=scores"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells let background jobs ignore it
    )
    journals: list[Path] = []
    while not journals or len(journals[0].read_text().splitlines()) < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        journals = list((tmp_path / "outputs" / "unfinished").glob("*.jsonl"))
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    kept = len(journals[0].read_text().splitlines()) - 1
    assert 3 <= kept < 40
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.decode().splitlines() == [
            f"error: interrupted: {kept} of 40 clips are done and kept: run the same command again to go on"
        ]
    assert not (tmp_path / "scores" / "scores.json").exists()
    first = json.loads(journals[0].read_text().splitlines()[1])
    value = first["rows"][0]["sdr"]
    journals[0].write_text(journals[0].read_text().replace(f'"sdr": {value}', '"sdr": 1000.0', 1))  # a mark
    out = succeed(*words[2:], cwd=tmp_path)
    assert "40 clips" in out
    rows = json.loads((tmp_path / "scores" / "scores.json").read_text())["rows"]
    assert len(rows) == 40 * 6 * 2
    marked = [row for row in rows if row["sdr"] == 1000.0]
    assert [row["clip"] for row in marked] == [first["clip"]]  # taken over, not computed again
    assert list((tmp_path / "outputs" / "unfinished").iterdir()) == []
