"""Training speed: patches per second, share of the device's peak FLOP/s, and time per kind of operation.

    python experiments/bench_training.py [--network NAME] [--batch 4] [--device cpu|cuda] [--compile]

NAME is compact, default, large or paper. On a CPU, one thread is used. ``--compile`` adds a row for the compiled
network. The peak is measured with a large matrix product in the same precision. Part of `make bench`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hourglass_sep.data.augment import Remix
from hourglass_sep.data.patches import PatchSpectrograms, RandomPatches
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.provenance import git_commit, hardware
from hourglass_sep.training.losses import masked_snr

NETWORKS: dict[str, dict[str, int]] = {
    "compact": {"stacks": 2, "channels": 32, "fold": 2},
    "default": {"stacks": 2, "channels": 64, "fold": 2},
    "large": {"stacks": 2, "channels": 128, "fold": 2},
    "paper": {"stacks": 4, "channels": 256},
}
OPERATIONS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("mkldnn_convolution", "cudnn_convolution", "aten::convolution"),
    "ReLU": ("threshold_backward", "clamp_min", "relu"),
    "pooling and upsampling": ("max_pool2d", "upsample"),
    "sums of branches": ("aten::add",),
    "casts and copies": ("copy", "aten::to"),
    "optimiser": ("optimizer", "sqrt", "addcdiv", "addcmul", "lerp", "_foreach", "_fused"),
}
KERNELS = {
    "ReLU, sums, pooling, upsampling, fused": ("triton",),  # first: fused kernels are named after all their operations
    "convolutions, gradients of weights": ("wgrad",),
    "convolutions, gradients of inputs": ("dgrad",),
    "convolutions, forward": ("fprop", "conv", "cudnn", "gemm", "cutlass", "nvjet"),
    "optimiser": ("multi_tensor", "adam"),
    "ReLU": ("threshold", "clamp"),
    "pooling and upsampling": ("pool", "upsample"),
    "gradients of biases, and other sums": ("reduce",),
    "casts and copies": ("copy", "memcpy", "memset"),
    "sums of branches": ("add",),
}


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    songs = [synthesize_song(seed, 8.0, 8000) for seed in range(4)]
    patches = RandomPatches(songs, Spectrogram(), 64, "window", Remix(semitones=5.0))
    seconds_a_patch = seconds(lambda: patches[0], "cpu", 50)
    console.print(f"cutting patches, one process: {1 / seconds_a_patch:.0f} a second")
    cut = torch.utils.data.default_collate([patches[i] for i in range(options.batch)])
    cut = {name: value.to(options.device) for name, value in cut.items()}
    spectrograms = PatchSpectrograms(Spectrogram(), "phase_sensitive")
    batch = spectrograms(cut)
    seconds_a_batch = seconds(lambda: spectrograms(cut), options.device)
    console.print(f"their spectrograms, in batches of {options.batch}: {options.batch / seconds_a_batch:.0f} a second")

    table = Table("precision", "layout", "patches / s", "TFLOP / s", "of the peak", title=f"{options.network} network")
    table.caption = "peak: a large matrix product"
    variants = [(p, last, False) for p in (torch.float32, torch.bfloat16) for last in (False, True)]
    for precision, channels_last, compiled in variants + [(torch.bfloat16, True, True)] * options.compile:
        layout = ("channels last" if channels_last else "contiguous") + ", compiled" * compiled
        step = make_step(options, batch, precision, channels_last, compiled)
        duration = seconds(step, options.device)
        flops = count_flops(options.network) * options.batch / duration
        share = flops / matmul_flops(precision, options.device)
        name = str(precision).removeprefix("torch.")
        table.add_row(name, layout, f"{options.batch / duration:.1f}", f"{flops / 1e12:.3f}", f"{share:.0%}")
    console.print(table)
    cutting = {"cutting patches": seconds_a_patch * options.batch, "their spectrograms": seconds_a_batch}
    console.print(where(step, layout, options.device, cutting if options.device == "cpu" else {}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="default")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def make_step(
    options: argparse.Namespace,
    batch: dict[str, torch.Tensor],
    precision: torch.dtype,
    channels_last: bool,
    compiled: bool,
) -> Callable[[], None]:
    """Make a function that runs one training step, without cutting patches and without averaging weights.

    Args:
        options: command line with ``network`` and ``device``.
        batch: spectrograms of a batch, as `PatchSpectrograms` returns them.
        precision: dtype of autocast; float32 runs without autocast.
        channels_last: memory layout of the network.
        compiled: whether the network is compiled.
    """
    torch.manual_seed(0)
    network = StackedHourglass(**NETWORKS[options.network], channels_last=channels_last).to(options.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    forward = torch.compile(network, dynamic=False, disable=not compiled)

    def step() -> None:
        with torch.autocast(torch.device(options.device).type, precision, enabled=precision != torch.float32):
            masks = forward(batch["mixture"])
        optimizer.zero_grad()
        masked_snr(masks, batch).sum().backward()
        optimizer.step()

    return step


@cache
def count_flops(network: str) -> int:
    """Floating-point operations of a training step on one patch, in matrix products and convolutions."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        StackedHourglass(**NETWORKS[network])(torch.zeros(1, 1, 512, 64)).sum().backward()
    return counter.get_total_flops()


@cache
def matmul_flops(precision: torch.dtype, device: str) -> float:
    """Floating-point operations per second of a large matrix product."""
    size = 8192 if device != "cpu" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device)


def seconds(work: Callable[[], object], device: str, rounds: int = 7) -> float:
    """Median wall time of ``work`` in seconds over ``rounds`` calls, after one warm-up call."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def where(step: Callable[[], None], layout: str, device: str, more: dict[str, float]) -> Table:
    """Tabulate the time of a training step by kind of operation.

    On a CPU, times are grouped by operation; on a GPU by kernel, as compiled networks run fused kernels.

    Args:
        step: the training step.
        layout: description of the network's memory layout, for the title.
        device: name of the device.
        more: name of each part outside ``step`` to its seconds per step; added as rows.
    """
    on_gpu = device != "cpu"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        for _ in range(3):
            step()
    parts, kind = (KERNELS, DeviceType.CUDA) if on_gpu else (OPERATIONS, DeviceType.CPU)
    times: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.device_type != kind or event.is_user_annotation:
            continue
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        part = next((part for part, names in parts.items() if any(n in event.key.lower() for n in names)), "the rest")
        times[part] += own / 3e3
    times |= {part: duration * 1e3 for part, duration in more.items()}
    total = sum(times.values())
    table = Table("where the time goes", "ms a step", "share", title=f"bfloat16, {layout}")
    for part, duration in sorted(times.items(), key=lambda item: -item[1]):
        table.add_row(part, f"{duration:.1f}", f"{duration / total:.1%}")
    return table


if __name__ == "__main__":
    main()
