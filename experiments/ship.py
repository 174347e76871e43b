"""Make shipped weights, curve, picture and scores of a finished run.

    python experiments/ship.py RUN_FOLDER SCORES_JSON NAME
    python experiments/ship.py SCORES_JSON NAME

RUN_FOLDER is a training run's, SCORES_JSON what `hourglass_sep.evaluate` wrote for its last checkpoint on the test
clips. Writes hourglass_sep/weights/NAME.{safetensors,json} and experiments/NAME_weights/. Without RUN_FOLDER the
weights that ship were scored anew: only experiments/NAME_weights/scores.json is written.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image

from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, find_clips
from hourglass_sep.figures import picture
from hourglass_sep.paths import WEIGHTS_DIR
from hourglass_sep.results import as_json
from hourglass_sep.scoring import summarise
from hourglass_sep.separator import Separator
from hourglass_sep.weights import save_weights

HERE = Path(__file__).resolve().parent
SHOWN_CLIP = "annar_2_04"
SHARED_LYRICS = ("stool_4", "leon_5", "yifen_2")  # test songs with the lyrics of training songs
NOT_GOOD_AT = "polyphonic choirs, 44.1 kHz studio mixes, speech: it has heard two amateur singers over karaoke tracks"


def main(run: Path | None, scores_path: Path, name: str) -> None:
    folder = HERE / f"{name}_weights"
    folder.mkdir(exist_ok=True)
    scores = json.loads(scores_path.read_text())
    if run is not None:
        ship(run, scores, name, folder)
    write_scores(scores, name, folder / "scores.json")


def ship(run: Path, scores: Mapping[str, Any], name: str, folder: Path) -> None:
    facts = yaml.safe_load((run / "hparams.yaml").read_text())
    checkpoint = run / "checkpoints" / "last.ckpt"
    separator = Separator.from_checkpoint(checkpoint)
    steps = torch.load(checkpoint, weights_only=True)["global_step"]
    save_weights(separator, WEIGHTS_DIR / f"{name}.safetensors", card(facts, scores, steps))

    curve = training_curve(run / "metrics.csv")
    with (folder / "curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["step", "loss"])
        writer.writeheader()
        writer.writerows(curve)
    draw(curve).savefig(folder / "curve.png", dpi=100)
    clip = next(clip for clip in find_clips(scores["audio"]["root"]) if clip.name == SHOWN_CLIP)
    sources = clip.load()
    picture(separator, sources.sum(0), SAMPLE_RATE_HZ, sources).savefig(folder / "clip.png", dpi=80)
    Image.open(folder / "clip.png").quantize(64).save(folder / "clip.png", optimize=True)


def write_scores(scores: Mapping[str, Any], name: str, path: Path) -> None:
    """Keep a ``scores.json``: with its rows, without this machine's folders, and with the averages over other songs.

    Args:
        scores: what `hourglass_sep.evaluate` wrote.
        name: under which the weights ship.
        path: the new file.
    """
    protocol, rows = scores["protocol"], scores["rows"]
    others = [row for row in rows if row["clip"].rsplit("_", 1)[0] not in SHARED_LYRICS]
    audio = {key: value for key, value in scores["audio"].items() if key != "root"}
    content = {key: value for key, value in scores.items() if key != "rows"} | {
        "audio": audio | {"weights": name},
        "without_songs_that_share_lyrics": summarise(others, protocol["headline"], protocol["average"]),
    }
    path.write_text(as_json(content, rows))


def card(facts: Mapping[str, Any], scores: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """What people should know of weights before they trust them."""
    n_clips = len({row["clip"] for row in scores["rows"]})
    return {
        "trained_on": "MIR-1K, all 175 clips of abjones and amy",
        "data_licence": "MIR-1K: free for research (Hsu and Jang 2010)",
        "licence": "MIT",
        "recipe": "experiment=compact_mir1k",
        "steps": steps,
        "chosen_by": "nothing: a number of steps fixed beforehand; the recipe by a singer set aside (new_singers)",
        "commit": facts["commit"],
        "hardware": facts["hardware"],
        "test_scores_db": {
            "protocol": {key: scores["protocol"][key] for key in ("name", "hash", "description")},
            "clips": f"{n_clips} test clips, every one at 0 dB voice to accompaniment",
            **{source: rounded(values) for source, values in scores["summary"][scores["model"]].items()},
        },
        "not_good_at": NOT_GOOD_AT,
    }


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
    axes.semilogy([row["step"] for row in curve], [row["loss"] for row in curve])
    axes.set(xlabel="training step", ylabel="training loss, both stacks and sources")
    axes.grid(alpha=0.3, which="both")
    return figure


if __name__ == "__main__":
    *run_folder, scores_json, weights_name = sys.argv[1:]
    main(Path(*run_folder) if run_folder else None, Path(scores_json), weights_name)
