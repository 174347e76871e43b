"""Speed of the effects beside libraries that do the like, on one thread.

    python experiments/bench_effects.py

Each pair is measured in turns on patches of the paper's and of MUSDB18's size, and its ratio is the median over rounds.
Libraries that are not installed are left out: audiomentations, pedalboard and torch-audiomentations are no dependencies
(experiments/effects/README.md). Part of `make bench`.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
import torchaudio.functional as ta
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hourglass_sep.data.effects import EQ, Compressor, Level, Polarity, Reverb, apply_effects
from hourglass_sep.data.effects.convolution import convolve
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.support.provenance import git_commit, hardware

PATCHES = {"8 kHz mono": (1, 17152, 8000), "44.1 kHz stereo": (2, 68096, 44100)}
NAMES = ("vocals", "drums", "bass", "other")
ALL = ("eq", "compressor", "reverb", "width", "pan", "level", "polarity", "channel_swap")
ROUNDS = 31
Work = Callable[[], object]


def milliseconds(*works: Work) -> list[list[float]]:
    """CPU times of this thread in ms, (works, rounds), of works that run in turns, after a warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(ROUNDS + 1):
        for work, spent in zip(works, times, strict=True):
            start = time.thread_time()
            work()
            if number:
                spent.append(1e3 * (time.thread_time() - start))
    return times


def rivals(patch: Tensor, rate: int, response: Tensor) -> dict[str, tuple[str, Work]]:
    """By a rival's name: our effect that does the like, and the rival's work on a patch (C, N)."""
    array, batch = patch.numpy(), patch[None]

    def biquads() -> Tensor:
        made = ta.bass_biquad(patch, rate, 3.0, 100.0)
        for frequency in (1000.0, 2000.0):
            made = ta.equalizer_biquad(made, rate, frequency, 3.0)
        return ta.treble_biquad(made, rate, 3.0, 3000.0)

    found: dict[str, tuple[str, Work]] = {
        "torchaudio, 4 biquads": ("eq", biquads),
        "torchaudio, fftconvolve": ("convolution", lambda: ta.fftconvolve(patch, response)[:, : patch.shape[1]]),
    }
    if find_spec("audiomentations"):
        import audiomentations as am

        seven = am.SevenBandParametricEQ(p=1)
        gain, flip = am.Gain(p=1), am.PolarityInversion(p=1)
        found["audiomentations, 7 biquads"] = ("eq", lambda: seven(array, rate))
        found["audiomentations, gain"] = ("level", lambda: gain(array, rate))
        found["audiomentations, polarity"] = ("polarity", lambda: flip(array, rate))
    if find_spec("torch_audiomentations"):
        import torch_audiomentations as tam

        loud, inverse = tam.Gain(p=1, output_type="dict"), tam.PolarityInversion(p=1, output_type="dict")
        found["torch-audiomentations, gain"] = ("level", lambda: loud(batch, rate))
        found["torch-audiomentations, polarity"] = ("polarity", lambda: inverse(batch, rate))
    if find_spec("pedalboard"):
        import pedalboard as pb

        peaks = [pb.PeakFilter(frequency, 3, 0.7) for frequency in (1000, 2000)]
        board = pb.Pedalboard([pb.LowShelfFilter(100, 3), *peaks, pb.HighShelfFilter(3000, 3)])
        room, press = pb.Reverb(), pb.Compressor(-20, 4)
        found["pedalboard, 4 biquads"] = ("eq", lambda: board(array, rate))
        found["pedalboard, Freeverb"] = ("reverb", lambda: room(array, rate))
        found["pedalboard, compressor"] = ("compressor", lambda: press(array, rate))
    return found


def versus(size: str) -> Table:
    """Tabulate each rival beside our effect."""
    channels, n_samples, rate = PATCHES[size]
    rng = np.random.default_rng(0)
    patch = torch.from_numpy(0.1 * rng.standard_normal((channels, n_samples), dtype=np.float32))
    table = Table("library", "ms", "ours", "ms", "library / ours", title=f"{size}, {n_samples} samples, one stem")
    response = Reverb(rt60_seconds=(0.7, 0.7)).draw_response(channels, n_samples, rate, rng)
    kinds = {"eq": EQ, "reverb": Reverb, "compressor": Compressor, "level": Level, "polarity": Polarity}
    own: dict[str, Work] = {name: partial(kind(), patch, rate, rng) for name, kind in kinds.items()}
    own["convolution"] = lambda: convolve(patch, response)
    for name, (kind, work) in rivals(patch, rate, response).items():
        theirs, ours = milliseconds(work, own[kind])
        ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
        numbers = [f"{statistics.median(times):.2f}" for times in (theirs, ours)]
        table.add_row(name, numbers[0], kind, numbers[1], f"{ratio:.1f}")
    return table


def per_patch() -> Table:
    """Tabulate what all effects of conf/effect cost for a patch of four stems, beside the default network's step."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        configs = compose("train", [f"effect=[{','.join(ALL)}]"]).effects
    effects = {str(name): instantiate(node) for name, node in configs.items()}
    table = Table("effects", *PATCHES, title="ms a patch of four stems, averages over patches")
    rows = {name: {name: each} for name, each in effects.items()} | {"all": effects}
    for name, chosen in rows.items():
        cells = []
        for channels, n_samples, rate in PATCHES.values():
            usable = {key: each for key, each in chosen.items() if channels == 2 or not each.needs_stereo}
            sources = 0.1 * torch.randn(len(NAMES), channels, n_samples)
            number = iter(range(10**9))
            (times,) = milliseconds(
                lambda some=usable, x=sources, rate=rate, i=number: apply_effects(some, x, NAMES, rate, 0, next(i))
            )
            cells.append(f"{statistics.mean(times):.2f}" if usable else "-")
        table.add_row(name, *cells)
    network = StackedHourglass(2, 64, fold=2, channels_last=True)
    patch = torch.rand(1, 1, 512, 64)
    (times,) = milliseconds(lambda: network(patch).sum().backward())
    table.add_row("the default network, forward and backward", *[f"{statistics.median(times):.0f}"] * len(PATCHES))
    return table


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    for size in PATCHES:
        console.print(versus(size))
    console.print(per_patch())


if __name__ == "__main__":
    main()
