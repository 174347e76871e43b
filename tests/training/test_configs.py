from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.training.build import build_callbacks, build_loggers, build_system
from hourglass_sep.training.quoting import hydra_argument
from tests.helpers.runs import composed

REPO = Path(__file__).resolve().parents[2]
GROUPS = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name != "hydra")
OPTIONS = [
    hydra_argument(f"{group}={path.stem}")
    for group in GROUPS
    if group not in ("experiment", "hparams_search")
    for path in sorted((CONFIG_DIR / group).glob("*.yaml"))
]
EXPERIMENTS = sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_group_option_composes_and_resolves(option: str) -> None:
    primary = "evaluate" if option.split("=")[0] in ("protocol", "baselines") else "train"
    left_to_the_weights = primary == "evaluate"  # settings of inference
    given = ["data.root=there"] * (option in ("data=stems", "data=musdb18", "data=dsd100"))
    OmegaConf.to_container(composed(primary, option, *given), resolve=True, throw_on_missing=not left_to_the_weights)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_builds_its_objects(experiment: str, tmp_path: Path) -> None:
    options = [f"experiment={experiment}", "logger=csv", "model.channels=4", f"data.root={tmp_path}"]
    cfg = composed("train", *options, run_dir=tmp_path)
    datamodule = instantiate(cfg.data)
    system = build_system(cfg, datamodule.sources)
    optimizers = system.configure_optimizers()
    assert optimizers["optimizer"].param_groups[0]["lr"] > 0
    assert build_callbacks(cfg.callbacks)
    assert build_loggers(cfg.logger)
    assert datamodule.scale == system.separator.windows.scale


@pytest.mark.parametrize("name", [path.stem for path in sorted((CONFIG_DIR / "hparams_search").glob("*.yaml"))])
def test_every_search_composes(name: str) -> None:
    composed("train", f"hparams_search={name}")


def test_evaluate_and_demo_compose() -> None:
    OmegaConf.to_container(composed("demo"), resolve=True, throw_on_missing=True)
    cfg = composed("evaluate", "inference.masks=raw", "inference.window_frames=null")
    found = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(found, dict)
    given = {name: value for name, value in found["inference"].items() if value != "???"}
    assert given == {"masks": "raw", "window_frames": None}


def test_stacks_group_and_model_key_are_the_same_setting() -> None:
    for override in ("stacks=two", "model.stacks=2"):
        assert composed("train", override).model.stacks == 2
    assert composed("train", "stacks=one", "model.stacks=4").model.stacks == 4
    assert composed("train").model.stacks == 4


def test_paper_experiment_is_the_papers_recipe() -> None:
    cfg = composed("train", "experiment=paper_mir1k")
    network = dict(cfg.model)
    del network["_target_"]
    assert (network["stacks"], network["channels"], network["depth"], network["fold"]) == (4, 256, 4, 1)
    assert (cfg.inference.scale, cfg.inference.masks, cfg.inference.context_frames) == ("clip", "raw", 16)
    assert (cfg.optimizer.lr, cfg.data.batch_size, cfg.trainer.max_steps) == (1e-4, 4, 15000)
    assert (list(cfg.scheduler.milestones), cfg.scheduler.gamma) == ([12000], 0.2)
    assert cfg.data.split == "all"
    assert cfg.augment._target_.endswith("NoAugmentation")
    assert cfg.loss._target_.endswith("masked_l1")


def test_the_papers_second_experiment_is_its_recipe_on_four_sources() -> None:
    cfg, first = (composed("train", f"experiment=paper_{name}", "data.root=there") for name in ("dsd100", "mir1k"))
    assert list(cfg.sources) == ["bass", "drums", "other", "vocals"]
    assert (cfg.trainer.max_steps, list(cfg.scheduler.milestones)) == (150_000, [120_000])
    assert (cfg.audio.sample_rate_hz, cfg.audio.channels, cfg.data.validation) == (8000, 1, None)
    for same in ("model", "inference", "loss", "optimizer", "augment", "audio"):
        assert cfg[same] == first[same]
    assert (cfg.scheduler.gamma, cfg.data.batch_size) == (first.scheduler.gamma, first.data.batch_size)


def test_the_songs_that_are_set_aside_are_those_that_the_field_agreed_on() -> None:
    data = composed("train").data
    assert (data.split, list(data.train_singers)) == ("standard", ["abjones", "amy"])
    assert list(data.validation_songs) == ["abjones_5", "amy_9", "amy_16"]


def test_audio_numbers_are_written_in_one_place_only() -> None:
    numbers = {"sample_rate_hz": 8000, "n_fft": 1024, "hop_length": 256, "n_freq": 512}
    for path in CONFIG_DIR.rglob("*.yaml"):
        if path == CONFIG_DIR / "audio" / "paper.yaml":
            assert numbers.items() <= yaml.safe_load(path.read_text()).items()
            continue
        text = [line.split("#")[0] for line in path.read_text().splitlines()]
        assert not [line for line in text if any(line.strip() == f"{k}: {v}" for k, v in numbers.items())], path


def test_configs_hold_no_absolute_path() -> None:
    for path in CONFIG_DIR.rglob("*.yaml"):
        assert not [line for line in path.read_text().splitlines() if ": /" in line.replace("override /", "")], path


def test_every_target_in_the_configs_is_ours_or_a_librarys() -> None:
    for path in CONFIG_DIR.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            if line.startswith("_target_:"):
                assert line.split(":")[1].strip().split(".")[0] in (
                    "hourglass_sep",
                    "torch",
                    "pytorch_lightning",
                    "hydra",
                )


def test_wandb_sweep_file_overrides_keys_that_exist() -> None:
    sweep = yaml.safe_load((REPO / "experiments" / "wandb_sweep.yaml").read_text())
    assert "${args_no_hyphens}" in sweep["command"]
    fixed = [part for part in sweep["command"] if "=" in part]
    chosen = [
        f"{key}={values['values'][0] if 'values' in values else values['min']}"
        for key, values in sweep["parameters"].items()
    ]
    cfg = composed("train", *fixed, *chosen)
    assert isinstance(instantiate(cfg.model), StackedHourglass)
