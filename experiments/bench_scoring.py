"""Speed of scoring a test set: our BSS Eval v3 against a loop over museval, on one core and on all cores.

    python experiments/bench_scoring.py

The estimates are stems from the default weights, for MIR-1K's test clips or, if there is no MIR-1K, synthetic clips.
Each number of cores runs in its own process, in which both programs score the same clips, in turns of 20 clips.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hourglass_sep.data.clips import loaded
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, find_clips
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.journal import Journal, score_all
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import score_clip
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.provenance import git_commit, hardware

TURN = 20
PROTOCOL = load_protocol("mir1k")
Pair = tuple[Tensor, Tensor]
"""References and estimates, both (S, N)."""


def main() -> None:
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    table = Table("BSS Eval v3, estimates and mixtures", "cores", "hourglass_sep", "museval", "ratio", "memory")
    for cores in sorted({1, os.cpu_count() or 1}):
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))
        words = [sys.executable, __file__, str(cores)]
        result = subprocess.run(words, env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(result.stdout)
        ours, theirs = (found[name] / found["clips"] for name in ("ours_seconds", "museval_seconds"))
        table.add_row(
            f"{found['clips']} clips, {found['minutes']:.1f} minutes",
            str(cores),
            f"{1e3 * ours:.1f} ms / clip",
            f"{1e3 * theirs:.1f} ms / clip",
            f"{theirs / ours:.1f} times faster",
            f"+{found['growth_mib']:.0f} MiB after the first {TURN}",
        )
    console.print(table)


def measure(cores: int) -> dict[str, float]:
    """Measure seconds of both programs on ``cores`` cores, and our growth of peak memory in MiB after a warm-up."""
    torch.set_num_threads(cores)
    pairs = clips()
    ours(pairs[:TURN], cores)  # warm-up
    growth = -peak_mib()
    seconds = {"ours_seconds": 0.0, "museval_seconds": 0.0}
    ours(pairs, cores)
    growth += peak_mib()
    for first in range(0, len(pairs), TURN):
        turn = pairs[first : first + TURN]
        start = time.perf_counter()
        ours(turn, cores)
        middle = time.perf_counter()
        for references, estimates in turn:
            musevals(references, estimates)
            musevals(references, references.sum(0, keepdim=True).expand_as(references))
        seconds["ours_seconds"] += middle - start
        seconds["museval_seconds"] += time.perf_counter() - middle
    minutes = sum(references.shape[-1] for references, _ in pairs) / SAMPLE_RATE_HZ / 60
    return seconds | {"clips": len(pairs), "minutes": minutes, "growth_mib": growth}


def clips() -> list[Pair]:
    """References and estimates of all test clips at 16 kHz."""
    try:
        found = find_clips(os.environ.get("HOURGLASS_DATA_DIR", "data/MIR-1K"))
        sources = [loaded(clip, SOURCES).sources[:, 0] for clip in found if clip.group not in ("abjones", "amy")]
    except DataError:
        sources = [synthesize_song(seed, 8.0, SAMPLE_RATE_HZ) for seed in range(2 * TURN)]
    separator = Separator.from_pretrained()
    stems = (separator.separate(references.sum(0), SAMPLE_RATE_HZ) for references in sources)
    return [(references, torch.stack([*by_name.values()])) for references, by_name in zip(sources, stems, strict=True)]


def ours(pairs: list[Pair], cores: int) -> None:
    jobs = {str(number): pair for number, pair in enumerate(pairs)}
    score_all(
        lambda pair: score_clip(PROTOCOL, "", pair[0], {"model": pair[1]}, SAMPLE_RATE_HZ),
        jobs,
        Journal(None, {}),
        cores,
    )


musevals = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "helpers" / "sounds.py"))["musevals"]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        main()
