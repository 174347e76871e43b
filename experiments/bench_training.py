"""Training speed: patches per second, share of the device's peak and where the time goes.

    python experiments/bench_training.py [--network compact|default|paper] [--batch 4] [--device cpu|cuda] [--compile]

One thread on a CPU. The peak is measured, too: a large matrix product in the same precision. In `make bench`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hourglass_sep.data.augment import Remix
from hourglass_sep.data.patches import RandomPatches
from hourglass_sep.data.synthetic import synthesize_song
from hourglass_sep.hourglass import StackedHourglass
from hourglass_sep.losses import masked_snr
from hourglass_sep.provenance import git_commit, hardware
from hourglass_sep.spectrogram import Spectrogram

NETWORKS = {
    "compact": {"stacks": 2, "channels": 32, "fold": 2},
    "default": {"stacks": 2, "channels": 64, "fold": 2},
    "paper": {"stacks": 4, "channels": 256},
}
PARTS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("mkldnn_convolution", "cudnn_convolution", "aten::convolution"),
    "ReLU": ("threshold_backward", "clamp_min", "relu"),
    "pooling and upsampling": ("max_pool2d", "upsample"),
    "sums of branches": ("aten::add",),
    "casts and copies": ("copy", "aten::to"),
    "optimiser": ("optimizer", "sqrt", "addcdiv", "addcmul", "lerp", "_foreach", "_fused"),
}


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    console = Console(width=110)
    console.print(f"{hardware()}, torch {torch.__version__}, commit {git_commit()[:9]}")
    songs = [synthesize_song(seed, 8.0, 16000)[:, ::2] for seed in range(4)]
    augment = Remix(semitones=3.0)
    patches = RandomPatches(songs, Spectrogram(), 64, "window", "phase_sensitive", augment)
    seconds_a_patch = seconds(lambda: patches[0], options.device, 50)
    console.print(f"cutting patches alone: {1 / seconds_a_patch:.0f} a second")
    batch = torch.utils.data.default_collate([patches[i] for i in range(options.batch)])
    batch = {name: value.to(options.device) for name, value in batch.items()}

    table = Table("precision", "layout", "patches / s", "TFLOP / s", "of the peak", title=f"{options.network} network")
    steps = {}
    for precision in (torch.float32, torch.bfloat16):
        peak = matmul_flops(precision, options.device)
        for channels_last in (False, True):
            name = (str(precision).removeprefix("torch."), "channels last" if channels_last else "contiguous")
            step = make_step(options, batch, precision, channels_last)
            with FlopCounterMode(display=False) as counter:
                step()
            duration = seconds(step, options.device)
            flops = counter.get_total_flops() / duration
            steps[name] = step
            table.add_row(*name, f"{options.batch / duration:.1f}", f"{flops / 1e12:.3f}", f"{flops / peak:.0%}")
    console.print(table)
    console.print(where(steps["bfloat16", "channels last"], options, seconds_a_patch))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="default")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def make_step(
    options: argparse.Namespace, batch: dict[str, torch.Tensor], precision: torch.dtype, channels_last: bool
) -> Callable[[], None]:
    """One whole training step but for cutting patches and averaging weights."""
    torch.manual_seed(0)
    network = StackedHourglass(**NETWORKS[options.network], channels_last=channels_last).to(options.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    forward = torch.compile(network) if options.compile else network

    def step() -> None:
        with torch.autocast(torch.device(options.device).type, precision, enabled=precision != torch.float32):
            masks = forward(batch["mixture"])
        optimizer.zero_grad()
        masked_snr(masks, batch).sum().backward()
        optimizer.step()

    return step


def matmul_flops(precision: torch.dtype, device: str) -> float:
    """Operations per second of a large matrix product."""
    size = 8192 if device != "cpu" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device)


def seconds(work: Callable[[], object], device: str, rounds: int = 7) -> float:
    """Median time of ``work``, once warm."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def where(step: Callable[[], None], options: argparse.Namespace, seconds_a_patch: float) -> Table:
    """Where the time of a step goes."""
    on_gpu = options.device != "cpu"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        for _ in range(3):
            step()
    times: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.device_type != DeviceType.CPU or event.is_user_annotation:  # a kernel's time is its operation's, too
            continue
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        part = next((part for part, names in PARTS.items() if any(n in event.key.lower() for n in names)), "the rest")
        times[part] += own / 3e3
    if options.device == "cpu":
        times["cutting patches"] = seconds_a_patch * options.batch * 1e3
    total = sum(times.values())
    table = Table("bfloat16, channels last", "ms a step", "share")
    for part, duration in sorted(times.items(), key=lambda item: -item[1]):
        table.add_row(part, f"{duration:.1f}", f"{duration / total:.1%}")
    return table


if __name__ == "__main__":
    main()
