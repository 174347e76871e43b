"""Speed of mask refinement: ours against the course report's implementation with librosa's NMF and Python loops.

    python experiments/bench_refinement.py

Both refine the same masks of the same clips in turns, after a warm-up. Clips are 9 to 11 s long and of MIR-1K's
training singers, or synthetic if there is no MIR-1K. Each number of cores runs in its own process. The error is the
relative error of the factorisation, |V - WH| / |V|. GNSDR is measured on three times as many clips, on the default
weights' stems after refinement with `combine=max`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
import warnings
from pathlib import Path

import librosa
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hourglass_sep.data.clips import loaded
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, find_clips
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.masks import share
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.refinement import nmf
from hourglass_sep.inference.refinement.clusters import label_map, refine_mask
from hourglass_sep.inference.refinement.refine import NmfRefinement
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import score_clip, summarise
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.provenance import git_commit, hardware

CLIPS = 8
RANKS = (100, 160)
VOCALS = SOURCES.index("vocals")
LITERAL = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "helpers" / "literal_refinement.py"))
PROTOCOL = load_protocol("mir1k")


def main() -> None:
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    columns = ("rank", "cores", "ours, ms / clip", "literal", "ratio", "first calls", "ours / playing", "error")
    table = Table(*columns, "literal's")
    for cores in sorted({1, os.cpu_count() or 1}):
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))
        words = [sys.executable, __file__, str(cores)]
        result = subprocess.run(words, env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True)
        for found in json.loads(result.stdout):
            table.title = f"refinement, {found['clips']} clips of {found['seconds'] / found['clips']:.1f} s"
            table.add_row(
                str(found["rank"]),
                str(cores),
                f"{1e3 * found['ours'] / found['clips']:.0f}",
                f"{1e3 * found['literal'] / found['clips']:.0f}",
                f"{found['literal'] / found['ours']:.1f}",
                f"{1e3 * found['our_first']:.0f}, {1e3 * found['literal_first']:.0f} ms",
                f"{found['ours'] / found['seconds']:.4f}",
                f"{found['our_error']:.4f}",
                f"{found['literal_error']:.4f}",
            )
    console.print(table)
    console.print(long_songs())
    table = Table("rank", "stems", "vocals", "accompaniment", title="GNSDR in dB after refinement, combine=max")
    for rank in RANKS:
        for name, scores in gnsdr(rank).items():
            table.add_row(str(rank), name, *(f"{scores[source]:.3f}" for source in ("vocals", "accompaniment")))
    console.print(table)


def clips(count: int = CLIPS) -> list[Tensor]:
    """References (S, N) of ``count`` clips at 16 kHz."""
    try:
        found = find_clips(os.environ.get("HOURGLASS_DATA_DIR", "data/MIR-1K"))
    except DataError:
        return [synthesize_song(seed, 10.0, SAMPLE_RATE_HZ) for seed in range(count)]
    read = (loaded(clip, SOURCES).sources[:, 0] for clip in found if clip.group in ("abjones", "amy"))
    suitable = [references for references in read if 9 <= references.shape[-1] / SAMPLE_RATE_HZ <= 11]
    return suitable[:: max(len(suitable) // count, 1)][:count]


@torch.inference_mode()
def look(separator: Separator, references: Tensor) -> tuple[Tensor, Tensor]:
    """Unrefined masks (1, S, F, T) and the mixture's magnitude (1, 1, F, T), from references (S, N)."""
    magnitude = separator.magnitude(references.sum(0)[None, None], SAMPLE_RATE_HZ)
    return separator.stack_masks(magnitude, slice(-1, None))[0, :, :, 0], magnitude


def decompose(magnitude: Tensor, rank: int) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning that 200 iterations did not converge
        return librosa.decompose.decompose(magnitude.numpy(), n_components=rank)


def literal(mask: Tensor, magnitude: Tensor, rank: int) -> np.ndarray:
    return LITERAL["refine_mask"](mask.numpy(), LITERAL["label_map"](*decompose(magnitude, rank)))


def error(magnitude: Tensor, w: Tensor, h: Tensor) -> float:
    return float((magnitude - w @ h).norm() / magnitude.norm())


def measure(cores: int) -> list[dict[str, float]]:
    """Measure seconds and factorisation errors of both implementations at each rank, with ``cores`` threads."""
    torch.set_num_threads(cores)
    separator, references = Separator.from_pretrained(), clips()
    views = [look(separator, sources) for sources in references]
    found = []
    for rank in RANKS:
        result = dict.fromkeys(("ours", "literal", "our_error", "literal_error"), 0.0)
        result |= {"rank": rank, "clips": len(views)}
        result["seconds"] = sum(sources.shape[-1] for sources in references) / SAMPLE_RATE_HZ
        for number, (masks, magnitude) in enumerate([views[0], *views]):
            one, refine = magnitude[0, 0], NmfRefinement(rank)
            start = time.perf_counter()
            with torch.inference_mode():
                refine(masks, magnitude)
            middle = time.perf_counter()
            literal(masks[0, VOCALS], one, rank)
            end = time.perf_counter()
            if not number:  # warm-up: librosa compiles on its first call
                result |= {"our_first": middle - start, "literal_first": end - middle}
            else:
                result["ours"] += middle - start
                result["literal"] += end - middle
                w, h = (torch.from_numpy(factor) for factor in decompose(one, rank))
                result["literal_error"] += error(one, w, h) / len(views)
                result["our_error"] += error(one, *nmf.factorise(one, min(rank, one.shape[1]))) / len(views)
        found.append(result)
    return found


def long_songs() -> Table:
    """Tabulate refinement times of long songs, made by joining and repeating the clips, at the default rank."""
    separator = Separator.from_pretrained()
    views = [look(separator, references) for references in clips()]
    masks, magnitude = (torch.cat(parts, -1) for parts in zip(*views, strict=True))
    table = Table("minutes", "seconds", "seconds / minute", title=f"long songs, rank {RANKS[-1]}, all cores")
    NmfRefinement(RANKS[-1])(*views[0])  # warm-up
    for minutes in (0.25, 1, 4, 16):
        n_frames = int(minutes * 60 * separator.spectrogram.sample_rate_hz / separator.spectrogram.hop_length)
        times = -(-n_frames // magnitude.shape[-1])
        song = [part.repeat(1, 1, 1, times)[..., :n_frames] for part in (masks, magnitude)]
        start = time.perf_counter()
        NmfRefinement(RANKS[-1])(*song)
        spent = time.perf_counter() - start
        table.add_row(f"{minutes:g}", f"{spent:.2f}", f"{spent / minutes:.2f}")
    return table


@torch.inference_mode()
def gnsdr(rank: int) -> dict[str, dict[str, float | None]]:
    """GNSDR in dB of each source without refinement, with librosa's factors and with ours."""
    separator, rows = Separator.from_pretrained(), []
    for number, references in enumerate(clips(3 * CLIPS)):
        masks, magnitude = look(separator, references)
        w, h = (torch.from_numpy(factor) for factor in decompose(magnitude[0, 0], rank))
        theirs = masks.clone()
        theirs[0, VOCALS] = refine_mask(masks[0, VOCALS], label_map(w, h))
        refined = {"none": masks, "librosa's": theirs, "ours": NmfRefinement(rank)(masks, magnitude)}
        mixture = references.sum(0)[None, None]
        estimates = {
            name: separator.render(mixture, SAMPLE_RATE_HZ, share(some[:, :, None], separator.mask_rule))[0, :, 0]
            for name, some in refined.items()
        }
        rows += score_clip(PROTOCOL, str(number), references, estimates, SAMPLE_RATE_HZ)
    summary = summarise(rows, PROTOCOL.headline, PROTOCOL.average)
    return {name: {source: summary[name][source]["gnsdr"] for source in SOURCES} for name in refined}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        main()
