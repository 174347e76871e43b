"""Scoring of many clips: in parallel, in bounded memory, and with a journal for continuing interrupted runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track

from hourglass_sep.scoring.rows import Row
from hourglass_sep.support.checks import check_whole, is_score
from hourglass_sep.support.errors import Interrupted
from hourglass_sep.support.files import write_all, writing

Item = TypeVar("Item")

_COLUMNS = {"clip": str, "group": str, "system": str, "source": str, "n_samples": int, "seconds": float}

_UNKNOWN_SECONDS = 300.0
"""Length that is assumed for clips whose headers do not say it."""

_BYTES_A_VALUE = 24
"""Peak memory per sample, channel and source: 1.5 to 1.7 GiB for four minutes of four stereo stems at 44.1 kHz."""


class Journal:
    """File with the finished clips of a run, one per line, from which an interrupted run continues.

    Args:
        path: the file; None for a journal in memory only.
        facts: all values that the rows depend on, in plain types. A journal with other facts is replaced.
        metrics: metrics that every row must have; invalid lines are dropped, and their clips are scored again.

    Raises:
        FileError: the file cannot be read or written.
    """

    def __init__(self, path: Path | None, facts: Mapping[str, Any], metrics: Sequence[str] = ()) -> None:
        self.path = path
        self._metrics = metrics
        self._torn = False
        self._lock = threading.Lock()
        self._head = json.dumps(facts, sort_keys=True)
        self.done: dict[str, list[Row]] = {}
        """Rows by clip name."""
        self.notes: dict[str, int] = {}
        """A number by clip name that is stored with the rows; must be set before the rows are added."""
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        with writing(path):
            lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        if lines[:1] == [self._head]:
            for line in lines[1:]:
                # If the run was killed, its last line may be incomplete.
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    entry = json.loads(line)
                    if self._has_rows(entry):
                        self.done[entry["clip"]] = entry["rows"]
                        self.notes[entry["clip"]] = int(entry.get("note", 0))
        lines = [self._head, *(self._line(clip, rows) for clip, rows in self.done.items())]
        write_all(path.parent, {path.name: ("\n".join(lines) + "\n").encode()})

    def _has_rows(self, entry: Any) -> bool:
        columns = _COLUMNS if self._metrics else {}
        return bool(entry["rows"]) and all(
            row["clip"] == entry["clip"]
            and all(isinstance(row[name], kind) for name, kind in columns.items())
            and all(row[name] is None or (is_score(row[name]) and math.isfinite(row[name])) for name in self._metrics)
            for row in entry["rows"]
        )

    def _line(self, clip: str, rows: list[Row]) -> str:
        return json.dumps({"clip": clip, "rows": rows, "note": self.notes.get(clip, 0)})

    def add(self, clip: str, rows: list[Row]) -> None:
        """Append the rows of a finished clip to the file immediately; thread-safe."""
        with self._lock:
            if self.path is not None:
                start, self._torn = "\n" if self._torn else "", True
                with writing(self.path), self.path.open("a") as file:
                    file.write(f"{start}{self._line(clip, rows)}\n")
                self._torn = False
            self.done[clip] = rows

    def close(self) -> None:
        """Delete the file, as the run is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@contextmanager
def journal_of(
    folder: Path | None, facts: Mapping[str, Any], metrics: Sequence[str], prefix: str = ""
) -> Iterator[Journal]:
    """Open the journal of the run with these facts; it is deleted at the end of the block unless the block raises.

    Args:
        folder: folder of the file, whose name is ``prefix`` and a hash of the facts; None for a journal in memory only.
        facts: see `Journal`.
        metrics: see `Journal`.
        prefix: prefix of the file's name.
    """
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    journal = Journal(folder / f"{prefix}{name}.jsonl" if folder else None, facts, metrics)
    yield journal
    journal.close()


def score_all(
    score: Callable[[Item], list[Row]],
    items: Mapping[str, Item],
    journal: Journal,
    workers: int | None = None,
    what: str = "scoring",
    bytes_each: int = 0,
) -> list[Row]:
    """Score clips in parallel, with a progress bar if the output is a terminal.

    Args:
        score: computes the rows of one clip; called in threads that share the cores. It should load the clip's audio
            itself, so that only one clip per worker is in memory.
        items: arguments of ``score`` by clip name.
        journal: journal with the clips that are already finished; the others are added to it.
        workers: number of threads; by default one per core, or fewer that together need half of the memory.
        what: title of the progress bar.
        bytes_each: memory that one worker needs at its peak.

    Returns:
        All rows, in the order of ``items``.

    Raises:
        SettingError: workers is out of range.
        Interrupted: Ctrl-C was pressed; the finished clips are in the journal.
    """
    if workers is not None:
        check_whole("workers", workers)
    missing = {name: item for name, item in items.items() if name not in journal.done}
    workers = max(min(workers or _default_workers(bytes_each), len(missing)), 1)
    bar = track(
        _work(score, missing, journal, workers),
        what,
        total=len(items),
        completed=len(items) - len(missing),
        disable=not sys.stdout.isatty(),
        console=Console(),
    )
    with _threads_of_one_core(workers):
        try:
            for _ in bar:
                pass
        except KeyboardInterrupt:
            kept = f"{len(journal.done)} of {len(items)} clips are done"
            remedy = f"{kept} and kept: run the same command again to go on" if journal.path else f"{kept}, none kept"
            raise Interrupted(f"interrupted: {remedy}") from None
        finally:
            if not journal.done:
                journal.close()
    return [row for name in items for row in journal.done[name]]


def _work(
    score: Callable[[Item], list[Row]], items: Mapping[str, Item], journal: Journal, workers: int
) -> Iterator[None]:
    """Score the clips in threads, and yield None after each finished clip."""

    def job(name: str, item: Item) -> None:
        journal.add(name, score(item))  # in the worker thread, so that the clip is kept however the run ends

    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in as_completed([pool.submit(job, name, item) for name, item in items.items()]):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def bytes_of(n_samples: int | None, sample_rate_hz: int, channels: int, n_sources: int) -> int:
    """Memory in bytes that scoring a clip needs, about: references, estimates and a copy; `None`: of unknown length."""
    n_samples = round(_UNKNOWN_SECONDS * sample_rate_hz) if n_samples is None else n_samples
    return n_samples * channels * n_sources * _BYTES_A_VALUE


def _default_workers(bytes_each: int) -> int:
    """Number of workers that the cores and half of the machine's memory allow, at least one."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return torch.get_num_threads()
    return max(min(torch.get_num_threads(), memory // 2 // max(bytes_each, 1)), 1)


@contextmanager
def _threads_of_one_core(workers: int) -> Iterator[None]:
    """Divide torch's threads between the workers within the block, to avoid more threads than cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before // workers, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
