"""Configs of tiny training runs, and readers of their logged metrics."""

import csv
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from hourglass_sep.support.paths import CONFIG_DIR

TINY = (
    "model=compact",
    "model.channels=4",
    "model.depth=1",
    "optimizer=adamw",
    "trainer=cpu",
    "data.steps_per_epoch=2",
    "trainer.max_steps=2",
)
"""Overrides of a run of two training steps, which takes about a second."""


def composed(name: str, *overrides: str, run_dir: Path = Path("nowhere")) -> DictConfig:
    """Compose the config ``name`` as the command of this name does, with the given run folder."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(name, overrides=[*overrides, f"paths.run_dir={run_dir}"])


def config(root: Path, run_dir: Path, *overrides: str) -> DictConfig:
    """Config of a tiny training run on the clips in ``root``, with overrides."""
    return composed("train", *TINY, f"data.root={root}", "logger=csv", *overrides, run_dir=run_dir)


def rows(run_dir: Path) -> list[dict[str, str]]:
    """Rows of a run's metrics.csv."""
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def logged(run_dir: Path, key: str) -> list[float]:
    """All logged values of the metric ``key``, in the order of logging."""
    return [float(row[key]) for row in rows(run_dir) if row.get(key)]


def logged_steps(run_dir: Path) -> list[str]:
    """Steps of the rows of a run's metrics.csv, as strings; rows without a step are left out."""
    return [row["step"] for row in rows(run_dir) if (row.get("step") or "").isdigit()]
