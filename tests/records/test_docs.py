"""Every command in README and docs/ is run: as it stands, but small, and on data made here."""

import csv
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import hourglass_sep
from hourglass_sep import score
from hourglass_sep.training import evaluation_run, run
from hourglass_sep.training.quoting import hydra_arguments
from tests.helpers.av_files import encode, with_two_streams
from tests.helpers.runs import composed, config
from tests.helpers.stems import noise, write_clip

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
        re.sub(r"\s+#.*", "", line)
        for _, block in blocks("bash")
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines()
        if line.strip()
    )
)
FILES = {
    name: block
    for text in PAGES.values()
    for name, block in re.findall(r'```\w+ title="(.+?)"\n(.*?)```', text, re.DOTALL)
}
"""Files that pages tell to write, by their paths."""

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
    "++model.channels=4",
    "++model.depth=1",
    "data.steps_per_epoch=2",
    "trainer.max_steps=2",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "++compile.disable=true",  # what it makes of a network is tested elsewhere, and wants a C++ compiler on a CPU
]
STEMS = ("bass", "drums", "other", "vocals")
TRACKS = {
    "songs": ("Ada - Morning", "Bela - Evening", "Cleo - Noon", "Dora - Dusk", "Emil - Night", "Finn - Dawn"),
    "lacking": ("Ada - Morning", "Bela - Evening", "Cleo - Noon", "Dora - Dusk"),
    "takes": ("ada1", "ada2", "bela1", "cleo1"),
    "parted/train": ("Ada - Morning", "Bela - Evening"),
    "parted/valid": ("Cleo - Noon",),
    "parted/test": ("Dora - Dusk",),
    "MUSDB18-HQ/train": ("ANiMAL - Rockshow", "Gina - Spring", "Hugo - Autumn"),
    "MUSDB18-HQ/test": ("Song",),
    "separated/htdemucs": ("Song",),
    "DSD100/Sources/Dev": ("051 - Ada - Morning", "052 - Bela - Evening"),
    "DSD100/Sources/Test": ("001 - Cleo - Noon",),
}
"""Tracks of the folders of stems that pages name."""

DEMUCS = ["--reference", "MUSDB18-HQ/test", "--estimate", "separated/htdemucs", "-o", "scores/demucs"]


def start(words: list[str], cwd: Path, **environment: str) -> None:
    own = {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        words, cwd=cwd, env=os.environ | own | environment, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, f"{words}\n{result.stdout}{result.stderr}"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_mir1k: Path) -> Path:
    """A folder with a song and a run that can be resumed and scored."""
    folder = tmp_path_factory.mktemp("readme")
    short = np.random.default_rng(0).normal(0, 0.1, (30000, 2))
    (folder / "music" / "live").mkdir(parents=True)
    (folder / "live").mkdir()
    for name in ("song.mp3", "music/one.ogg", "music/live/two.flac"):
        soundfile.write(folder / name, short, 44100)
    soundfile.write(folder / "song.mp3", np.tile(short, (150, 1)), 44100)
    with_two_streams(encode(folder / "film.mp4", short.T, 44100, "aac", video=True), folder / "film.mkv")
    encode(folder / "live" / "three.m4a", short.T, 44100, "aac")
    first = [sys.executable, "-m", "hourglass_sep.train", *TINY_RUN]
    start([*first, "hydra.run.dir=outputs/train/RUN", f"data.root={tiny_mir1k}"], folder)
    for root, tracks in TRACKS.items():
        for number, track in enumerate(tracks):
            stems = {stem: noise(2, 16000, seed=4 * number + s, peak=0.1) for s, stem in enumerate(STEMS)}
            write_clip(folder / root, track, stems, 16000)
    (folder / "lacking" / "Cleo - Noon" / "vocals.wav").unlink()
    one, other = (noise(2, 16000, seed=seed, peak=0.1) for seed in range(2))
    write_clip(folder / "separated" / "spleeter", "Song", {"vocals": one, "accompaniment": other}, 16000)
    for letter in "abc":
        write_clip(folder, "voices", {letter: one}, 16000)
        write_clip(folder, "flat", {f"{letter}.voice": one, f"{letter}.band": other}, 16000)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for _, _, _, *files in csv.reader(FILES["stems.csv"].splitlines()[1:]):
        for number, name in enumerate(files):
            (folder / name).parent.mkdir(exist_ok=True)
            soundfile.write(folder / name, noise(16000, 2, seed=number, peak=0.1).numpy(), 16000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for name in ("RUN", "OTHER"):
            small("evaluate", [f"data.root={tiny_mir1k}", "seed=1"], folder / "outputs/evaluate" / name)
        small("train", ["data=stems", "data.root=songs"], folder / "outputs/train/FOUR")
        small("train", ["--config-dir", "conf", "model=unet", "data=synthetic4"], folder / "unet")
        score.run(DEMUCS)
    return folder


def small(name: str, words: list[str], run_dir: Path) -> None:
    """Run ``train`` or ``evaluate`` in this process, small, as the command with these arguments would."""
    tiny = ["limit=1"] if name == "evaluate" else [*TINY_RUN, "logger=csv"]
    if any(word.startswith("init_from=") for word in words):
        tiny = [word for word in tiny if not word.startswith("++model.")]
    tiny += ["trainer.max_steps=4"] * any("last.ckpt" in word for word in words)  # there is something to resume
    tiny += ["data.seconds=[1.0,1.2]"] * any(word.startswith("data=synthetic") for word in words)
    if words[:1] == ["--config-dir"]:
        words = [f"hydra.searchpath=[file://{Path(words[1]).absolute()}]", *words[2:]]
    kept = [word for word in hydra_arguments(words) if not word.startswith("hydra.run")]
    cfg = composed(name, *kept, *tiny, run_dir=run_dir)
    (run if name == "train" else evaluation_run).run(cfg)


def test_the_readme_names_the_commands_that_people_need() -> None:
    for words in ("make demo", "make test", "hourglass-sep separate song.mp3", "wandb sync", "wandb beta leet"):
        assert any(command.startswith(words) for command in COMMANDS), words


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(
    command: str, workplace: Path, tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command.replace("/path/to/MIR-1K", str(tiny_mir1k)))
    if words[0] == "make":
        start(["make", "--dry-run", *words[1:]], REPO)
    elif words[0] == "wandb":
        start([*words[: 1 + (words[1] == "beta")], words[1 + (words[1] == "beta")], "--help"], workplace)
        assert (workplace / words[-1]).exists()
    elif words[0] in ("pip", "export"):
        assert words[1:] in (["install", "-e", "."], [f"HOURGLASS_DATA_DIR={tiny_mir1k}"])
    elif words[0] == "python" and not {"-m", "trainer.devices=4", "logger=wandb"} & set(words[3:]):
        monkeypatch.chdir(workplace)
        monkeypatch.syspath_prepend(workplace)
        monkeypatch.setenv("HOURGLASS_DATA_DIR", str(tiny_mir1k))
        small(words[2].removeprefix("hourglass_sep."), words[3:], tmp_path)
    elif words[0] == "python":
        tiny = ["limit=1"] if words[2] == "hourglass_sep.evaluate" else TINY_RUN
        start([sys.executable, *words[1:], *tiny], workplace, HOURGLASS_DATA_DIR=str(tiny_mir1k))
    else:
        start(["bash", "-c", f"set -o pipefail; {command}"], workplace)


def in_place(block: str) -> list[pytest.MarkDecorator]:
    """Marks of a block of Python: those that read files run in the workplace."""
    return [pytest.mark.slow] * bool(re.search(r'"[\w/]+\.(mp3|ckpt)"', block))


@pytest.mark.parametrize(
    ("page", "block"), [pytest.param(page, block, marks=in_place(block)) for page, block in blocks("python")]
)
def test_a_python_block_works(
    page: str, block: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(request.getfixturevalue("workplace") if in_place(block) else tmp_path)
    monkeypatch.syspath_prepend(".")
    names: dict[str, object] = {"waveform": 0.1 * torch.randn(2, 44100), "sample_rate_hz": 44100}
    exec(re.sub(r"(steps|steps_per_epoch|T_max)=\d+", r"\1=2", block), names)
    assert isinstance(names.get("stems", {}), Mapping)


def test_a_network_of_ones_own_takes_fifty_lines_and_the_library_twenty() -> None:
    section = PAGES["extending.md"].partition("## A network")[2].partition("\n## ")[0]
    assert sum(len(block.splitlines()) for block in re.findall(r"```.*?\n(.*?)```", section, re.DOTALL)) <= 50
    (block,) = re.findall(r"```python\n(.*?)```", PAGES["library.md"], re.DOTALL)
    assert len([line for line in block.splitlines() if line and not line.startswith(("import", "from"))]) <= 20


def test_the_library_page_uses_public_names_only() -> None:
    (block,) = (block for page, block in blocks("python") if page == "library.md")
    modules = re.findall(r"^(?:from|import) ([\w.]+)", block, re.MULTILINE)
    names = [
        name
        for line in re.findall(r"^from hourglass_sep import (.+)$", block, re.MULTILINE)
        for name in line.split(", ")
    ]
    assert set(modules) == {"functools", "pytorch_lightning", "torch", "hourglass_sep"}
    assert set(names) <= set(hourglass_sep.__all__)


def test_a_loss_of_a_users_own_is_trained_with(
    tiny_mir1k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of docs/extending.md, by the override that stands there."""
    (block,) = (block for _, block in blocks("python") if "def masked_l2" in block)
    (tmp_path / "my_losses.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    (override,) = re.findall(r"`(loss\._target_=[^`]+)`", PAGES["extending.md"])
    assert "train/loss" in run.run(config(tiny_mir1k, tmp_path / "run", override))


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
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", PAGES[page]):
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


@pytest.mark.parametrize("script", sorted((REPO / "experiments").rglob("*.py")), ids=lambda path: path.stem)
def test_a_script_of_a_study_finds_what_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(script.parent)  # as python SCRIPT has it
    runpy.run_path(str(script), run_name="imported")
