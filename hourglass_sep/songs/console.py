"""Console output of `hourglass-sep separate`: progress, warnings, errors and the summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from hourglass_sep.inference.progress import Progress
from hourglass_sep.songs.plan import Job
from hourglass_sep.songs.separate_song import Outcome
from hourglass_sep.support.devices import peak_memory_mib
from hourglass_sep.support.terminal import clean, complain, tell, tell_path

_NAME_WIDTH = 24


class BatchLog:
    """Prints and records the outcome of every song.

    Args:
        quiet: whether to print errors only.
        as_json: whether to print one JSON object in the end, instead of the path of each file as it is written.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self._quiet = quiet
        self._as_json = as_json
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._rows: list[dict[str, Any]] = []
        self._device = ""
        self._interrupted = False
        self._began = time.perf_counter()

    def begin(self, device: str) -> None:
        """Record the start of the separation, after the weights are loaded, and print the device."""
        self._device = device
        self._began = time.perf_counter()
        self._say(f"device: {device}")

    def note(self, what: str) -> None:
        """Print a note that is neither a warning nor an error."""
        if not self._quiet:
            complain(what)

    @contextmanager
    def bar(self, job: Job, place: str) -> Iterator[Callable[[Progress], object] | None]:
        """Show a progress bar for a song if standard error is a terminal.

        Args:
            job: the song's job.
            place: position in the batch, as ``3/12``.

        Yields:
            The callback that updates the bar; None if none is shown.
        """
        if self._quiet or not sys.stderr.isatty():
            yield None
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[more]}", markup=False),
        )
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            name = clean(job.song.path.name)
            name = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
            task = bars.add_task(f"{place} {name}", total=None, more="")

            def show(progress: Progress) -> None:
                left = "" if progress.eta_seconds is None else f"{_clock(progress.eta_seconds)} left, "
                more = f"{left}{progress.real_time_factor:.3f} x real time"
                total = None if progress.fraction is None else 1.0
                bars.update(task, total=total, completed=progress.fraction or 0.0, more=more)

            yield show

    def done(self, job: Job, outcome: Outcome) -> None:
        """Record a separated song; print its warnings and the paths of its files."""
        for note in outcome.notes:
            self._warn(note)
        if outcome.silent:
            self._warn(f"{job.song.path} is silent, and so are its stems")
        if outcome.clipped_samples:
            self._warn(
                f"{outcome.clipped_samples} samples of the stems of {job.song.path} were clipped: "
                "--clip-mode rescale turns them down, --bit-depth float32 keeps them"
            )
        if outcome.gain < 1:
            self._warn(f"the stems of {job.song.path} were turned down to {outcome.gain:.3f} of their level")
        self._add(
            job,
            "done",
            stems={name: str(path) for name, path in job.stems.items()},
            picture=str(job.picture) if job.picture else None,
            duration_seconds=round(outcome.duration_seconds, 6),
            work_seconds=round(outcome.work_seconds, 3),
            real_time_factor=round(outcome.real_time_factor, 5),
            clipped_samples=outcome.clipped_samples,
            gain=outcome.gain,
            notes=list(outcome.notes),
        )
        if not self._quiet and not self._as_json:
            for path in job.outputs:
                tell_path(path, sys.stdout)

    def skipped(self, job: Job) -> None:
        """Record a song that is skipped because its files exist."""
        self._add(job, "skipped", stems={name: str(path) for name, path in job.stems.items()})

    def failed(self, job: Job, why: str) -> None:
        """Record and print an error that kept a song from being separated."""
        self._error(why)
        self._add(job, "failed", error=why)

    def interrupted(self, songs: int) -> None:
        """Record and print an interruption, by Ctrl-C or SIGTERM, of a batch of `songs` songs."""
        done = sum(row["status"] != "failed" for row in self._rows)
        self._interrupted = True
        self._error(
            f"interrupted: {done} of {songs} song(s) done, nothing was kept of the one in work; "
            "--skip-existing goes on where this ended"
        )

    def finish(self) -> int:
        """Print the summary, or the JSON object.

        Returns:
            The exit code: 1 if a song failed or the batch was interrupted, else 0.
        """
        failed = sum(row["status"] == "failed" for row in self._rows)
        worked = [row for row in self._rows if row["status"] == "done"]
        sound = sum(row["duration_seconds"] for row in worked)
        seconds = time.perf_counter() - self._began
        memory = peak_memory_mib()
        if self._as_json:
            content = {
                "device": self._device or None,
                "interrupted": self._interrupted,
                "songs": self._rows,
                "peak_memory_mib": memory and round(memory),
            }
            tell(json.dumps(content, indent=1, allow_nan=False), sys.stdout)
        if len(self._rows) > 1:
            self._say(self._table())
        if worked:
            self._say(
                f"{_clock(sound)} of sound in {_clock(seconds)} ({seconds / max(sound, 1e-6):.3f} x real time)"
                + (f", peak memory {memory:.0f} MiB" if memory else "")
            )
        return 1 if failed or self._interrupted else 0

    def _table(self) -> Table:
        table = Table("song", "length", "time", "x real time", "result")
        for column in table.columns[1:4]:
            column.justify = "right"
        for row in self._rows:
            numbers = ["", "", ""]
            if row["status"] == "done":
                numbers = [
                    _clock(row["duration_seconds"]),
                    _clock(row["work_seconds"]),
                    f"{row['real_time_factor']:.3f}",
                ]
            result = {"failed": "failed, see above", "skipped": "skipped, its files exist"}.get(row["status"], "done")
            table.add_row(Text(clean(row["song"])), *numbers, result)
        return table

    def _add(self, job: Job, status: str, **facts: Any) -> None:
        self._rows.append({"song": str(job.song.path), "status": status} | facts)

    def _say(self, what: str | Table) -> None:
        if not self._quiet:
            with suppress(OSError):
                self._console.print(what, markup=False)

    def _warn(self, what: str) -> None:
        if not self._quiet:
            complain(f"warning: {what}")

    def _error(self, what: str) -> None:
        complain(f"error: {what}")


def _clock(seconds: float) -> str:
    """Format a duration in seconds: ``5.3 s``, ``3:45``, ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
