"""Scoring many clips: in parallel, in bounded memory, and so that an interrupted run can be taken up again."""

from __future__ import annotations

import hashlib
import json
import math
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


class Journal:
    """The finished clips of a run, a line each, so that the same run can go on after an interruption.

    Args:
        path: the file; None keeps nothing.
        facts: all that the rows depend on, in plain types. A journal of other facts is not continued but replaced.
        metrics: that every row has; lines that are no rows are left out, and their clips scored again.

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
        """Clip name to rows."""
        self.notes: dict[str, int] = {}
        """Clip name to a number that is kept beside the rows; to be set before they are added."""
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        with writing(path):
            lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        if lines[:1] == [self._head]:
            for line in lines[1:]:
                # The last line of a run that was killed may be cut off.
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    entry = json.loads(line)
                    if self._has_rows(entry):
                        self.done[entry["clip"]] = entry["rows"]
                        self.notes[entry["clip"]] = int(entry.get("note", 0))
        lines = [self._head, *(self._line(clip, rows) for clip, rows in self.done.items())]
        write_all(path.parent, {path.name: ("\n".join(lines) + "\n").encode()})

    def _has_rows(self, entry: Any) -> bool:
        columns = {"clip": str, "system": str, "source": str, "n_samples": int} if self._metrics else {}
        return bool(entry["rows"]) and all(
            row["clip"] == entry["clip"]
            and all(isinstance(row[name], kind) for name, kind in columns.items())
            and all(row[name] is None or (is_score(row[name]) and math.isfinite(row[name])) for name in self._metrics)
            for row in entry["rows"]
        )

    def _line(self, clip: str, rows: list[Row]) -> str:
        return json.dumps({"clip": clip, "rows": rows, "note": self.notes.get(clip, 0)})

    def add(self, clip: str, rows: list[Row]) -> None:
        """Write a finished clip down, whole and at once; from any thread."""
        with self._lock:
            if self.path is not None:
                start, self._torn = "\n" if self._torn else "", True
                with writing(self.path), self.path.open("a") as file:
                    file.write(f"{start}{self._line(clip, rows)}\n")
                self._torn = False
            self.done[clip] = rows

    def close(self) -> None:
        """The run is complete: nothing is to be continued."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@contextmanager
def journal_of(
    folder: Path | None, facts: Mapping[str, Any], metrics: Sequence[str], prefix: str = ""
) -> Iterator[Journal]:
    """The journal of a run that is known by its facts; deleted at the end of the block, unless that raises.

    Args:
        folder: where it lies, under ``prefix`` and a hash of the facts; None keeps nothing.
        facts: see `Journal`.
        metrics: see `Journal`.
        prefix: of the file's name.
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
) -> list[Row]:
    """Score clips in parallel, with a progress bar where the output is a terminal.

    Args:
        score: makes the rows of one clip; called in threads, each computing on one core. It is what should load the
            clip's sound, so that no more than one a worker is in memory.
        items: clip name to what ``score`` takes.
        journal: what is done already, and where the rest is written down.
        workers: threads; one for each core by default.
        what: the progress bar's title.

    Returns:
        All rows, in the order of ``items``.

    Raises:
        Interrupted: Ctrl-C was pressed; the finished clips are in the journal.
    """
    if workers is not None:
        check_whole("workers", workers)
    missing = {name: item for name, item in items.items() if name not in journal.done}
    workers = max(min(workers or torch.get_num_threads(), len(missing)), 1)
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
    """Yield for every clip that is done."""

    def job(name: str, item: Item) -> None:
        journal.add(name, score(item))  # here and not by the reader: whatever ends the run, this clip is kept

    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in as_completed([pool.submit(job, name, item) for name, item in items.items()]):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _threads_of_one_core(workers: int) -> Iterator[None]:
    """Share the cores between the workers: several threads inside of each would only be in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before // workers, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
