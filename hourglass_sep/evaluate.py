"""Score weights on MIR-1K: ``python -m hourglass_sep.evaluate ckpt_path=... [key=value ...]``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hourglass_sep.audio import resample
from hourglass_sep.checks import check_choice, check_whole
from hourglass_sep.constants import SOURCES
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, Clip
from hourglass_sep.devices import choose_device
from hourglass_sep.errors import DataError
from hourglass_sep.hydra_main import hydra_main
from hourglass_sep.masking import ideal_ratio_mask
from hourglass_sep.metrics import MEANINGLESS_DB
from hourglass_sep.provenance import provenance
from hourglass_sep.scoring import METRICS, MIXTURE, Row, count_unscored, score_clip, summarise
from hourglass_sep.separator import Separator
from hourglass_sep.system import ESTIMATE

ORACLE = "ideal ratio mask"
PARTS = ("train", "validation", "test")


@torch.inference_mode()
def evaluate(separator: Separator, clips: Sequence[Clip]) -> Iterator[Row]:
    """Score a separator, the unprocessed mixture and the ideal ratio mask, clip by clip.

    Estimates are made at the clips' own 16 kHz and scored there by BSS Eval v3 without permutation.

    Args:
        separator: what is scored; the oracle's masks go through its STFT and high band too.
        clips: which clips.

    Yields:
        Rows as `hourglass_sep.scoring.score_clip` makes them.
    """
    for clip in clips:
        sources = clip.load()  # (S, N)
        mixture = sources.sum(0)
        estimate = separator(mixture[None, None], SAMPLE_RATE_HZ)[0, :, 0]
        low = resample(sources, SAMPLE_RATE_HZ, separator.spectrogram.sample_rate_hz)
        spectra = separator.spectrogram(low)[..., : separator.spectrogram.n_freq, :]
        oracle = separator.render(mixture[None, None], SAMPLE_RATE_HZ, ideal_ratio_mask(spectra)[None])[0, :, 0]
        yield from score_clip(clip.name, sources, {ESTIMATE: estimate, ORACLE: oracle})


def watch(clips: Sequence[Clip], what: str = "scoring") -> Iterable[Clip]:
    """The clips, with a progress bar where the output is a terminal."""
    return track(clips, what, disable=not sys.stdout.isatty(), console=Console())


def table(rows: Sequence[Row]) -> Table:
    """GNSDR, GSIR and GSAR of every system and source, in dB."""
    result = Table("system", "source", title=f"{len({row['clip'] for row in rows})} clips, dB")
    for metric in METRICS:
        result.add_column(f"G{metric.upper()}", justify="right")
    for system, scores in summarise(rows).items():
        for source in reversed(SOURCES):
            cells = [scores[source][f"g{metric}"] for metric in METRICS]
            name = system if source == SOURCES[-1] else ""
            result.add_row(name, source, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
        result.add_section()
    return result


def show(folder: Path) -> None:
    """Print the table of the scores that `write_results` left in a folder."""
    rows = json.loads((folder / "scores.json").read_text())["rows"]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(rows))
    missing = count_unscored(rows)
    if missing:
        console.print(f"{missing} rows have no score (silent or too short) and are left out of the averages")
    console.print(f"-: above {MEANINGLESS_DB:.0f} dB, as the {MIXTURE}'s SAR is, a score measures rounding only")


def write_results(folder: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Write ``scores.csv``, a line per clip, system and source, and ``scores.json`` with the averages and the facts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    content = facts | {"summary": summarise(rows), "unscored_rows": count_unscored(rows), "rows": list(rows)}
    (folder / "scores.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def run(cfg: DictConfig) -> list[Row]:
    """Evaluate as the config says and write the results into the run folder.

    Raises:
        UserError: missing data or weights, or a part that does not exist.
    """
    check_choice("part", cfg.part, PARTS)
    if cfg.limit is not None:
        check_whole("limit", cfg.limit)
    changes = {name: value for name, value in cfg.inference.items() if value != "own"}
    separator = Separator.load(cfg.ckpt_path, refine=instantiate(cfg.refine), **changes).to(choose_device(cfg.device))
    datamodule = instantiate(cfg.data)
    datamodule.prepare_data()
    clips = getattr(datamodule.clips(), cfg.part)[: cfg.limit]
    if not clips:
        raise DataError(f"{cfg.data.root} has no clips for part={cfg.part}: choose another part or data.root")
    for clip in clips:
        clip.load()  # a bad one is found before any time is spent on the others
    rows = [row for clip in watch(clips) for row in evaluate(separator, [clip])]
    facts = {
        "weights": cfg.ckpt_path,
        "data_root": str(cfg.data.root),
        "inference": separator.settings,
        "part": cfg.part,
        "protocol": "BSS Eval v3, 512 taps, 16 kHz, no permutation, means weighted by clip length",
    }
    write_results(Path(cfg.paths.run_dir), rows, facts | provenance())
    return rows


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    """The command."""
    run(cfg)
    show(Path(cfg.paths.run_dir))
    Console(soft_wrap=True).print(f"rows: {cfg.paths.run_dir}/scores.csv and scores.json")


if __name__ == "__main__":
    main()
