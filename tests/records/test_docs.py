"""Every command in README and docs/ is run: as it stands, but small, and on data made here."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep.training import run as training
from hourglass_sep.training.quoting import hydra_arguments
from tests.helpers.av_files import encode, with_two_streams
from tests.helpers.runs import composed, config

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text()
PAGES = {
    path.name: path.read_text()
    for path in (REPO / "README.md", REPO / "CONTRIBUTING.md", *(REPO / "docs").glob("*.md"))
}


def blocks(language: str) -> list[tuple[str, str]]:
    """The code blocks of all pages, each with its page's name."""
    pattern = rf"```{language}\n(.*?)```"
    return [(name, block) for name, text in PAGES.items() for block in re.findall(pattern, text, flags=re.DOTALL)]


COMMANDS = list(
    dict.fromkeys(
        re.sub(r"\s+#.*", "", line) for _, block in blocks("bash") for line in block.splitlines() if line.strip()
    )
)
RECORDED = {
    name: json.loads((REPO / "experiments" / f"{name}_weights" / "scores.json").read_text())["summary"]
    for name in ("default", "large")
}
LABELS = {
    ("default", "repet sim"): "REPET-SIM",
    ("default", "model"): "default weights",
    ("default", "stack 1"): "their first stack",
    ("default", "phase sensitive mask"): "phase-sensitive mask",
    ("large", "model"): "large weights",
    ("large", "stack 1"): "the large weights' first stack",
}
TINY_RUN = [
    "model.channels=4",
    "model.depth=1",
    "data.steps_per_epoch=2",
    "trainer.max_steps=2",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "++compile.disable=true",  # what it makes of a network is tested elsewhere, and wants a C++ compiler on a CPU
]
STEM_FOLDERS = {
    "MUSDB18-HQ/test": ("bass", "drums", "other", "vocals"),
    "separated/htdemucs": ("bass", "drums", "other", "vocals"),
    "separated/spleeter": ("vocals", "accompaniment"),
}
DEMUCS = ["--reference", "MUSDB18-HQ/test", "--estimate", "separated/htdemucs", "-o", "scores/demucs"]
SMALL = {
    "hourglass_sep.train": TINY_RUN,
    "hourglass_sep.evaluate": ["limit=1"],
}


def run(words: list[str], cwd: Path, **environment: str) -> None:
    own = {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        words, cwd=cwd, env=os.environ | own | environment, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, f"{words}\n{result.stdout}{result.stderr}"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_mir1k: Path) -> Path:
    """A folder with a song and a run that can be resumed and scored."""
    folder = tmp_path_factory.mktemp("readme")
    noise = np.random.default_rng(0).normal(0, 0.1, (30000, 2))
    (folder / "music" / "live").mkdir(parents=True)
    (folder / "live").mkdir()
    for name in ("song.mp3", "music/one.ogg", "music/live/two.flac"):
        soundfile.write(folder / name, noise, 44100)
    soundfile.write(folder / "song.mp3", np.tile(noise, (150, 1)), 44100)
    with_two_streams(encode(folder / "film.mp4", noise.T, 44100, "aac", video=True), folder / "film.mkv")
    encode(folder / "live" / "three.m4a", noise.T, 44100, "aac")
    first = [sys.executable, "-m", "hourglass_sep.train", *TINY_RUN]
    run([*first, "hydra.run.dir=outputs/train/RUN", f"data.root={tiny_mir1k}"], folder)
    for name in ("RUN", "OTHER"):
        scores = [f"data.root={tiny_mir1k}", "limit=1", f"hydra.run.dir=outputs/evaluate/{name}"]
        run([sys.executable, "-m", "hourglass_sep.evaluate", *scores, "seed=1"], folder)
    rng = np.random.default_rng(1)
    for stem in ("bass", "drums", "other", "vocals", "accompaniment"):
        for root, stems in STEM_FOLDERS.items():
            if stem in stems:
                (folder / root / "Song").mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / root / "Song" / f"{stem}.wav", rng.normal(0, 0.1, (40000, 2)), 16000)
    run([sys.executable, "-m", "hourglass_sep.score", *DEMUCS], folder)
    return folder


def test_the_readme_names_the_commands_that_people_need() -> None:
    for words in ("make demo", "make test", "hourglass-sep separate song.mp3", "wandb sync", "wandb beta leet"):
        assert any(command.startswith(words) for command in COMMANDS), words


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(command: str, workplace: Path, tiny_mir1k: Path) -> None:
    words = shlex.split(command.replace("/path/to/MIR-1K", str(tiny_mir1k)))
    if words[0] == "make":
        run(["make", "--dry-run", *words[1:]], REPO)
    elif words[0] == "wandb":
        run([*words[: 1 + (words[1] == "beta")], words[1 + (words[1] == "beta")], "--help"], workplace)
        assert (workplace / words[-1]).exists()
    elif words[0] in ("pip", "export"):
        assert words[1:] in (["install", "-e", "."], [f"HOURGLASS_DATA_DIR={tiny_mir1k}"])
    elif words[0] == "python":
        small = [sys.executable, *words[1:], *SMALL[words[2]]]
        small += ["trainer.max_steps=4"] * any("last.ckpt" in word for word in words)  # there is something to resume
        run(small, workplace, HOURGLASS_DATA_DIR=str(tiny_mir1k))
    else:
        run(["bash", "-c", f"set -o pipefail; {command}"], workplace)


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_a_python_block_works(page: str, block: str) -> None:
    names: dict[str, object] = {"waveform": 0.1 * torch.randn(2, 44100), "sample_rate_hz": 44100}
    exec(block, names)
    assert isinstance(names.get("stems", {}), dict)


def test_a_loss_of_a_users_own_is_trained_with(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of docs/extending.md, by the override that stands there."""
    (block,) = (block for _, block in blocks("python") if "def masked_l2" in block)
    (tmp_path / "my_losses.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    (override,) = re.findall(r"`(loss\._target_=[^`]+)`", PAGES["extending.md"])
    assert "train/loss" in training.run(config(tiny_mir1k, tmp_path / "run", override))


@pytest.mark.parametrize(("weights", "system"), [(name, system) for name in RECORDED for system in RECORDED[name]])
def test_the_results_in_the_readme_are_those_on_record(weights: str, system: str) -> None:
    recorded = RECORDED[weights][system]
    label = LABELS.get((weights, system), system)
    (row,) = re.findall(rf"^\| \**{label}\** \|(.*)\|$", README, flags=re.MULTILINE)
    sources, metrics = ("vocals", "accompaniment"), ("gnsdr", "gsir", "gsar")
    values = [recorded[source][metric] for source in sources for metric in metrics]
    expected = ["-" if value is None else f"{value:z.2f}" for value in values]
    assert [cell.strip(" *") for cell in row.split("|")] == expected


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_or_names_exists(page: str) -> None:
    folder = REPO if (REPO / page).exists() else REPO / "docs"
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", PAGES[page]):
        assert (folder / target).exists(), target
    for name in re.findall(r"`((?:hourglass_sep|conf|experiments|tests|docs)/[\w./]+)`", PAGES[page]):
        if "NAME" not in name:
            assert (REPO / name).exists(), name


def recorded_commands() -> list[str]:
    """Trainings and evaluations of the studies, without those that name the commit that they need."""
    texts = [path.read_text().replace("\\\n", " ") for path in sorted((REPO / "experiments").glob("*/README.md"))]
    lines = [line for text in texts for line in text.splitlines() if re.match(r"python -m hourglass_sep\.", line)]
    return [line for line in dict.fromkeys(lines) if not re.search(r"# .*at [0-9a-f]{7}", line)]


@pytest.mark.parametrize("command", recorded_commands())
def test_a_command_of_a_study_has_settings_that_exist(command: str) -> None:
    _, _, module, *arguments = shlex.split(command, comments=True)
    sweep = "-m" in arguments
    overrides = [argument.split(",")[0] if sweep else argument for argument in arguments if argument != "-m"]
    overrides = [argument for argument in hydra_arguments(overrides) if not argument.startswith("hydra.")]
    assert composed(module.rpartition(".")[2], *overrides)


def test_the_studies_have_commands() -> None:
    assert len(recorded_commands()) > 8
