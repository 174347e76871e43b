"""Export the weights of a finished run for shipping, then add their test scores. Run these commands in order:

    python experiments/ship.py weights RUN_FOLDER NAME
    python -m hourglass_sep.evaluate ckpt_path=NAME hydra.run.dir=SCORES
    python experiments/ship.py scores SCORES/scores.json NAME

The first command writes hourglass_sep/weights/NAME.{safetensors,json} and, in experiments/NAME_weights/, the training
curve. The last one writes the average scores into the card NAME.json and, in experiments/NAME_weights/, the scores of
every clip and a picture of a clip.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image

from hourglass_sep.data.clips import loaded
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.inference.separator import Separator
from hourglass_sep.plotting.separation import picture
from hourglass_sep.results.bootstrap import interval
from hourglass_sep.results.scores_file import as_json
from hourglass_sep.scoring.rows import summarise
from hourglass_sep.support.paths import WEIGHTS_DIR

HERE = Path(__file__).resolve().parent
SHOWN_CLIP = "annar_2_04"
SHARED_LYRICS = ("stool_4", "leon_5", "yifen_2")  # test songs with the lyrics of training songs
NOT_GOOD_AT = "polyphonic choirs, 44.1 kHz studio mixes, speech: it has heard two amateur singers over karaoke tracks"


def ship_weights(run: Path, name: str) -> None:
    """Write weights, their card without scores, and the training curve.

    Args:
        run: run folder.
        name: name of the shipped weights.
    """
    folder = HERE / f"{name}_weights"
    folder.mkdir(exist_ok=True)
    checkpoint = run / "checkpoints" / "last.ckpt"
    Separator.from_checkpoint(checkpoint).save_weights(WEIGHTS_DIR / f"{name}.safetensors", card(run, checkpoint))
    curve = training_curve(run / "metrics.csv")
    with (folder / "curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["step", "loss"])
        writer.writeheader()
        writer.writerows(curve)
    draw(curve).savefig(folder / "curve.png", dpi=100)


def ship_scores(scores_path: Path, name: str) -> None:
    """Add average scores to the card, and write all scores and a picture of a clip.

    Args:
        scores_path: ``scores.json`` of an evaluation with ``ckpt_path`` set to ``name``.
        name: name of the shipped weights.

    Raises:
        SystemExit: the scores are those of other weights.
    """
    folder = HERE / f"{name}_weights"
    scores = json.loads(scores_path.read_text())
    if scores["weights"] != name:
        raise SystemExit(f"error: {scores_path} is of {scores['weights']}: evaluate with ckpt_path={name}")
    path = WEIGHTS_DIR / f"{name}.json"
    described = json.loads(path.read_text())
    described["facts"] |= {"test_scores_db": score_card(scores), "not_good_at": NOT_GOOD_AT}
    path.write_text(json.dumps(described, indent=2) + "\n")
    write_scores(scores, name, folder / "scores.json")
    clip = next(clip for clip in find_clips(scores["data"]["root"]) if clip.name == SHOWN_CLIP)
    separator = Separator.from_pretrained(name)
    shown = loaded(clip, separator.sources)
    drawing = picture(separator, shown.mixture, shown.sample_rate_hz, shown.sources[:, 0])
    drawing.savefig(folder / "clip.png", dpi=80)
    Image.open(folder / "clip.png").quantize(64).save(folder / "clip.png", optimize=True)


def write_scores(scores: Mapping[str, Any], name: str, path: Path) -> None:
    """Write a copy of a ``scores.json`` without local folders, with averages over songs that share no training lyrics.

    Args:
        scores: content of the ``scores.json`` of `hourglass_sep.evaluate`, with its rows.
        name: name of the shipped weights.
        path: file to write.
    """
    protocol, rows = scores["protocol"], scores["rows"]
    others = [row for row in rows if row["clip"].rsplit("_", 1)[0] not in SHARED_LYRICS]
    content = {key: value for key, value in scores.items() if key not in ("rows", "files")} | {
        "weights": name,
        "data": {key: value for key, value in scores["data"].items() if not key.endswith(("root", "_dir"))},
        "without_songs_that_share_lyrics": summarise(others, protocol["headline"], protocol["average"]),
    }
    path.write_text(as_json(content, rows))


def card(run: Path, checkpoint: Path) -> dict[str, Any]:
    """Facts about weights for their users: training data, licences, recipe, commit and hardware.

    Raises:
        SystemExit: the run was trained on a part of MIR-1K's training clips only.
    """
    facts = yaml.safe_load((run / "hparams.yaml").read_text())
    overrides = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    synthetic = facts["config"]["data"]["synthetic_clips"]
    if facts["config"]["data"]["split"] != "all":
        raise SystemExit(f"error: {run} trained on a part of MIR-1K's training clips only: train with data.split=all")
    return {
        "trained_on": f"MIR-1K, all 175 clips of abjones and amy, and {synthetic} synthetic clips (no recordings)",
        "data_licence": "MIR-1K: free for research (Hsu and Jang 2010)",
        "licence": "MIT",
        "recipe": " ".join(override for override in overrides if not override.startswith("logger=")),
        "steps": torch.load(checkpoint, weights_only=True)["global_step"],
        "seconds_of_training": round(checkpoint.stat().st_mtime - (run / "hparams.yaml").stat().st_mtime),
        "chosen_by": "nothing: a number of steps fixed beforehand; the recipe by validation (experiments/recipe)",
        "commit": facts["commit"],
        "hardware": facts["hardware"],
    }


def score_card(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Average scores of each source in dB, and the 95 % interval of GNSDR over clips, with the protocol."""
    kept = ("name", "hash", "description", "average")
    card: dict[str, Any] = {"protocol": {key: scores["protocol"][key] for key in kept}}
    for source, averages in scores["summary"][scores["model"]].items():
        rows = [row for row in scores["rows"] if (row["system"], row["source"]) == (scores["model"], source)]
        found = interval(
            [row["nsdr"] for row in rows], [row["n_samples"] for row in rows], scores["protocol"]["average"]
        )
        ends = [round(found.low, 2), round(found.high, 2)]
        card["clips"] = f"{len(rows)} test clips, every one at 0 dB voice to accompaniment"
        card[source] = rounded(averages) | {"gnsdr_95_percent_interval": ends}
    return card


def rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 2) for name, value in values.items()}


def training_curve(metrics: Path, span: int = 100) -> list[dict[str, float]]:
    """Mean of the logged training losses over every ``span`` steps."""
    with metrics.open() as file:
        rows = [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
    groups: dict[int, list[float]] = {}
    for step, loss in rows:
        groups.setdefault(step // span * span + span, []).append(loss)
    return [{"step": step, "loss": float(f"{sum(losses) / len(losses):.4g}")} for step, losses in groups.items()]


def draw(curve: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["step"] for row in curve], [row["loss"] for row in curve])
    axes.set(xlabel="training step", ylabel="training loss, all stacks and sources")
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "scores"))
    parser.add_argument("source", type=Path, help="a run's folder, or scores.json")
    parser.add_argument("name")
    options = parser.parse_args()
    {"weights": ship_weights, "scores": ship_scores}[options.what](options.source, options.name)
