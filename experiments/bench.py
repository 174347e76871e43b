"""Benchmark of start-up times and separation speeds on a synthetic clip, run by `make bench`.

One thread, median of several rounds. Nothing is asserted, because machines differ.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.provenance import git_commit, hardware

ROUNDS = 5
CLIP_SECONDS = 8.0


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median wall time of ``work`` in seconds over ``rounds`` calls, after one warm-up call."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    torch.set_num_threads(1)
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    console.print(start_up())
    console.print(separation(synthesize_song(0, CLIP_SECONDS, SAMPLE_RATE_HZ)))


def start_up() -> Table:
    """Tabulate start-up times of commands that do no audio work, beside the time of importing torch."""
    table = Table("start-up", "seconds", "x import torch", title="new processes, median of five")
    words = {
        "import torch": ["-c", "import torch"],
        "train --help": ["-m", "hourglass_sep.train", "--help"],
        "train --cfg job": ["-m", "hourglass_sep.train", "--cfg", "job"],
        "train modle.stacks=2": ["-m", "hourglass_sep.train", "modle.stacks=2"],
        "separate --help": ["-m", "hourglass_sep.separate", "--help"],
    }
    times = {
        name: seconds(lambda arguments=arguments: subprocess.run([sys.executable, *arguments], capture_output=True))
        for name, arguments in words.items()
    }
    for name, value in times.items():
        table.add_row(name, f"{value:.2f}", f"{value / times['import torch']:.2f}")
    return table


def separation(sources: torch.Tensor) -> Table:
    """Tabulate real-time factors of separating the mono mixture of sources (S, N) at 16 kHz."""
    mixture = sources.sum(0)
    table = Table("separation", "real-time factor", title="time of separating / time of playing, one thread")
    for name, network in {
        "compact, 2 stacks, 32 channels": StackedHourglass(2, 32, fold=2),
        "default, 2 stacks, 64 channels": StackedHourglass(2, 64, fold=2, channels_last=True),
    }.items():
        separator = Separator(network, Spectrogram())

        def separate(separator: Separator = separator) -> None:
            separator.separate(mixture, SAMPLE_RATE_HZ)

        table.add_row(name, f"{seconds(separate) / CLIP_SECONDS:.4f}")
    return table


if __name__ == "__main__":
    main()
