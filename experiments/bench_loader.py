"""Training data from files: time to make and to open the cache, patches per second beside the network's, and memory.

    python experiments/bench_loader.py [--tracks 20] [--seconds 60] [--folder DIR]

The set is of generated wavs, 44.1 kHz stereo with four stems, in a temporary folder of DIR, and is deleted at the end;
the default is 0.9 GB, and --tracks 100 --seconds 240, the size of MUSDB18-HQ's training part, 17 GB. One thread reads
and trains; cache, loader and network are measured in one run. Part of `make bench`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from bench_training import make_step
from rich.console import Console
from rich.table import Table

from hourglass_sep.data.clips import Clip, Part
from hourglass_sep.data.patches import PatchSpectrograms
from hourglass_sep.data.store import Store, open_store
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.provenance import git_commit, hardware

SOURCES = ("accompaniment", "vocals")
PARTS = {"accompaniment": ("drums", "bass", "other"), "vocals": ("vocals",)}
RATE_HZ = 44100
BATCH = 4
ROUNDS = 7
READS = 2000
SAMPLES = 63 * 256 + 1024
"""Samples of a patch of 64 frames."""


def main() -> None:
    torch.set_num_threads(1)
    options = parse()
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    n_bytes = options.tracks * options.seconds * RATE_HZ * 2 * 2 * 4
    free = shutil.disk_usage(options.folder or tempfile.gettempdir()).free
    if free < 1.3 * n_bytes:
        raise SystemExit(
            f"{1.3 * n_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free: set --folder or --tracks"
        )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        clips = write_set(Path(folder) / "set", options.tracks, options.seconds)
        console.print(f"{options.tracks} tracks of {options.seconds} s: {n_bytes / 1e9:.1f} GB of wav")
        console.print(measured(clips, Path(folder) / "cache", options.tracks * options.seconds))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="folder for the set; the system's for temporary files by default")
    return parser.parse_args()


def write_set(root: Path, tracks: int, seconds: int) -> list[Clip]:
    """Write wavs of noise, one level a stem, and return the clips."""
    rng = np.random.default_rng(0)
    clips = []
    for track in range(tracks):
        folder = root / f"track {track}"
        folder.mkdir(parents=True)
        for stem in sum(PARTS.values(), ()):
            noise = rng.integers(-(2**13), 2**13, (seconds * RATE_HZ, 2), dtype=np.int16)
            soundfile.write(folder / f"{stem}.wav", noise, RATE_HZ)
        stems = {source: [Part(folder / f"{name}.wav") for name in names] for source, names in PARTS.items()}
        clips.append(Clip(folder.name, folder.name, stems))
    return clips


def measured(clips: list[Clip], cache_dir: Path, seconds: int) -> Table:
    """Tabulate all measurements of a set; ``seconds`` is its length."""
    arguments = (clips, SOURCES, Spectrogram().sample_rate_hz, 1, cache_dir)
    table = Table("training from files", "measured", "and that is")
    start = time.perf_counter()
    maker = multiprocessing.get_context("spawn").Process(target=open_store, args=arguments)
    maker.start()
    maker.join()
    taken = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    table.add_row("making the cache, in a new process", f"{taken:.1f} s", f"{seconds / taken:.0f} x real time")
    table.add_row("memory of that process, at most", f"{peak:.0f} MiB", "")

    before = peak_mib()
    start = time.perf_counter()
    store = open_store(*arguments)
    opened = time.perf_counter() - start
    table.add_row("opening it", f"{opened:.3f} s", f"{1e3 * opened / len(clips):.1f} ms a track")
    rng = np.random.default_rng(0)
    step = make_step(
        argparse.Namespace(network="default", device="cpu"),
        PatchSpectrograms(Spectrogram(), "phase_sensitive")({"sources": batch(store, rng)}),
        torch.bfloat16,
        True,
        False,
    )
    reading, training = [], []
    for _ in range(ROUNDS + 1):  # alternating, so that both meet the same load; the first round is a warm-up
        reading.append(timed(lambda: batch(store, rng)))
        training.append(timed(step))
    between = peak_mib()
    for _ in range(READS):
        batch(store, rng)
    loader, network = (BATCH / statistics.median(times[1:]) for times in (reading, training))
    table.add_row("patches read, one process", f"{loader:.0f} a second", f"{loader / network:.0f} x the network's need")
    table.add_row("default network, training, one core", f"{network:.1f} a second", "1")
    more = f"{peak_mib() - between:.0f} MiB more after {READS * BATCH} patches"
    table.add_row("memory of opening, and of a step", f"{between - before:.0f} MiB", more)
    return table


def batch(store: Store, rng: np.random.Generator) -> torch.Tensor:
    """Random patches (B, S, C, N), each source from a place of its own."""
    patches = []
    for _ in range(BATCH):
        sources = []
        for source in range(len(SOURCES)):
            clip = int(rng.integers(len(store)))
            start = int(rng.integers(store.n_samples(clip) - SAMPLES))
            sources.append(store.read(clip, source, start, start + SAMPLES))
        patches.append(torch.stack(sources))
    return torch.stack(patches)


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
