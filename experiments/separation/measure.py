"""Comparison of window settings and of high-band rules, on the validation clips and on synthetic songs.

    python experiments/separation/measure.py WEIGHTS [--split NAME] [--out FILE.csv]

WEIGHTS must not have been trained on the validation clips of the split (--split, by default standard). Every window
setting is scored on the validation clips at 16 kHz; every high-band rule is scored there and on synthetic songs at
44.1 kHz. Writes validation.csv: GNSDR of both sources, the difference to the first row of its kind with its 95 %
interval over clips, and, for windows, the time relative to the first row (one thread, median of alternating rounds).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from hourglass_sep.data.clips import Clip, loaded
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.separator import Separator
from hourglass_sep.results.bootstrap import paired_interval
from hourglass_sep.scoring.averages import average
from hourglass_sep.scoring.journal import Journal, score_all
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import Row, score_clip
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.support.provenance import git_commit, hardware

PROTOCOL = load_protocol("mir1k")
WINDOWS = [
    *((64, context, 0) for context in (16, 12, 10, 8, 6, 4)),
    *((64, context, context) for context in (16, 12, 10, 8, 6, 4)),
    *((length, 16, 0) for length in (96, 128, 256)),
]
HIGH_BANDS = ("average", "hold", "zero")
SYNTHETIC_SONGS = 24
SYNTHETIC_SECONDS = 8.0
TIMED_SECONDS = 60.0
ROUNDS = 5


def validation_clips(split: str) -> list[Clip]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        datamodule = instantiate(compose("evaluate", [f"data.split={split}"]).data)
    datamodule.prepare_data()
    clips: list[Clip] = datamodule.clips().validation
    if not clips:
        raise UserError(f"--split {split} has no validation clips: choose another")
    return clips


def score(separators: Mapping[str, Separator], songs: Mapping[str, torch.Tensor], rate: int) -> list[Row]:
    """Score every separator on every song.

    Args:
        separators: label of each setting to its separator.
        songs: name of each song to its references (S, N).
        rate: sample rate of the songs in Hz.
    """

    def one(name: str) -> list[Row]:
        references = songs[name][:, None]
        mixture = PROTOCOL.mixture(references)
        with torch.inference_mode():
            estimates = {label: separator(mixture[None], rate)[0] for label, separator in separators.items()}
        return score_clip(PROTOCOL, name, references, estimates, rate)

    return score_all(one, {name: name for name in songs}, Journal(None, {}))


def compare(kind: str, data: str, rows: Sequence[Row], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Make one line per label: GNSDR of both sources in dB, and its differences to the first label.

    Args:
        kind: name of the compared setting.
        data: description of the songs.
        rows: rows from `score`.
        labels: labels of the separators; the first is the reference.
    """
    lines = []
    for label in labels:
        line: dict[str, Any] = {"kind": kind, "data": data, "setting": label}
        for source in SOURCES[::-1]:
            values = {
                name: [row["sdr"] for row in rows if (row["system"], row["source"]) == (name, source)]
                for name in (label, labels[0], "mixture")
            }
            lengths = [row["n_samples"] for row in rows if (row["system"], row["source"]) == (label, source)]
            nsdr = [a - b for a, b in zip(values[label], values["mixture"], strict=True)]
            line[f"gnsdr_{source}"] = round(average(nsdr, lengths, PROTOCOL.average), 3)
            if label != labels[0]:
                change = paired_interval(values[label], values[labels[0]], lengths, PROTOCOL.average)
                line[f"change_{source}"] = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        lines.append(line)
    return lines


def relative_times(separators: Mapping[str, Separator]) -> dict[str, float]:
    """CPU time of separating a minute of noise on one thread, relative to the first separator's."""
    song = 0.1 * torch.randn(1, round(TIMED_SECONDS * SAMPLE_RATE_HZ), generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {name: [] for name in separators}
    torch.set_num_threads(1)
    for _ in range(ROUNDS + 1):
        for name, separator in separators.items():
            start = time.process_time()
            separator.separate(song, SAMPLE_RATE_HZ)
            times[name].append(time.process_time() - start)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    first = next(iter(medians.values()))
    return {name: round(median / first, 3) for name, median in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--split", default="standard")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "validation.csv")
    chosen = parser.parse_args()
    songs = {clip.name: loaded(clip, SOURCES).sources[:, 0] for clip in validation_clips(chosen.split)}
    synthetic = {f"song_{seed}": synthesize_song(seed, SYNTHETIC_SECONDS, 44100) for seed in range(SYNTHETIC_SONGS)}
    windows = {
        f"{window} / {context} / {fade}": Separator.load(
            chosen.weights, window_frames=window, context_frames=context, fade_frames=fade
        )
        for window, context, fade in WINDOWS
    }
    bands = {rule: Separator.load(chosen.weights, high_band=rule) for rule in HIGH_BANDS}
    data = f"MIR-1K, {chosen.split} validation clips"
    lines = compare(
        "frames of a window / its context / its fade", data, score(windows, songs, SAMPLE_RATE_HZ), [*windows]
    )
    for line, ratio in zip(lines, relative_times(windows).values(), strict=True):
        line["time"] = ratio
    lines += compare("high band", data, score(bands, songs, SAMPLE_RATE_HZ), [*bands])
    lines += compare("high band", "synthetic songs, 44.1 kHz", score(bands, synthetic, 44100), [*bands])

    with chosen.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[1]))
        writer.writeheader()
        writer.writerows(lines)
    table = Table(*lines[1], title=f"{hardware()}, commit {git_commit()[:9]}")
    for line in lines:
        table.add_row(*(str(line.get(key, "")) for key in lines[1]))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
