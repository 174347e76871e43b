"""Make shipped weights, curve, picture and table of a finished run.

    python experiments/ship.py RUN_FOLDER SCORES_JSON NAME

RUN_FOLDER is a training run's, SCORES_JSON what `hourglass_sep.evaluate` wrote for its best checkpoint on the test
clips. Writes hourglass_sep/weights/NAME.{safetensors,json} and experiments/NAME_weights/.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure

from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, find_clips
from hourglass_sep.figures import picture
from hourglass_sep.paths import WEIGHTS_DIR
from hourglass_sep.separator import Separator
from hourglass_sep.weights import save_weights

HERE = Path(__file__).resolve().parent
SHOWN_CLIP = "annar_2_04"
NOT_GOOD_AT = "polyphonic choirs, 44.1 kHz studio mixes, speech: it has heard two amateur singers over karaoke tracks"


def main(run: Path, scores_path: Path, name: str) -> None:
    folder = HERE / f"{name}_weights"
    folder.mkdir(exist_ok=True)
    scores = json.loads(scores_path.read_text())
    facts = yaml.safe_load((run / "hparams.yaml").read_text())
    steps = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    separator = Separator.from_checkpoint(run / "checkpoints" / "best.ckpt")
    save_weights(separator, WEIGHTS_DIR / f"{name}.safetensors", card(facts, scores, steps))

    curve = validation_curve(run / "metrics.csv", folder / "curve.csv")
    draw(curve).savefig(folder / "curve.png", dpi=100)
    clip = next(clip for clip in find_clips(facts["config"]["data"]["root"]) if clip.name == SHOWN_CLIP)
    sources = clip.load()
    picture(separator, sources.sum(0), SAMPLE_RATE_HZ, sources).savefig(folder / "clip.png", dpi=80)
    shutil.copy(scores_path.with_name("scores.csv"), folder / "scores.csv")
    summary = {key: value for key, value in scores.items() if key != "rows"}
    (folder / "scores.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(facts["config"]))


def card(facts: dict[str, Any], scores: dict[str, Any], steps: int) -> dict[str, Any]:
    """What people should know of weights before they trust them."""
    return {
        "trained_on": "MIR-1K, the clips of abjones and amy but for the songs abjones_5, amy_9 and amy_16 (149 clips)",
        "data_licence": "MIR-1K: free for research (Hsu and Jang 2010)",
        "licence": "MIT",
        "recipe": "experiment=compact_mir1k",
        "steps": steps,
        "chosen_by": "validation GNSDR",
        "commit": facts["commit"],
        "hardware": facts["hardware"],
        "test_scores_db": {
            "protocol": scores["protocol"],
            "clips": "the 158 test clips of the data folder, every one at 0 dB voice to accompaniment",
            **scores["summary"]["model"],
        },
        "not_good_at": NOT_GOOD_AT,
    }


def validation_curve(metrics: Path, out: Path) -> list[dict[str, float]]:
    """The validation rows of a metrics.csv, also written to ``out``."""
    with metrics.open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/gnsdr"]]
    keys = ["step", *(key for key in rows[0] if key.startswith("val/"))]
    curve = [{key: round(float(row[key]), 4) for key in keys} for row in rows]
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=keys)
        writer.writeheader()
        writer.writerows(curve)
    return curve


def draw(curve: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for source in ("vocals", "accompaniment"):
        axes.plot([row["step"] + 1 for row in curve], [row[f"val/gnsdr_{source}"] for row in curve], "o-", label=source)
    axes.set(xlabel="training step", ylabel="validation GNSDR in dB")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
