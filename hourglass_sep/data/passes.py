"""Results of passes over whole clips: kept on disk, each until a file of its clip changes, and made in parallel.

Several processes share them: each result is made by one of them, under a lock, and renamed when it is complete. A run
that was killed leaves the results that it had finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress

from hourglass_sep.data.clips import Clip
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import DataError, Interrupted
from hourglass_sep.support.files import writing
from hourglass_sep.support.locks import lock, unlock
from hourglass_sep.support.terminal import complain

VERSION = 1
"""Version of all results. Raise it when a pass gives other results, so that those on disk are made again."""

_MOST_WORKERS = 4  # more wait for the disk, and each may keep a decoding process for every file of a clip
_POLL_SECONDS = 0.1
_NAME_CHARACTERS = 40


class Job(NamedTuple):
    """A clip to pass over.

    Attributes:
        name: the clip's name.
        lock: lock file of its results; jobs with one lock file have the same results.
        done: returns whether the results are there and up to date, made by another process in the meantime.
        make: makes them.
    """

    name: str
    lock: Path
    done: Callable[[], bool]
    make: Callable[[], None]


def chosen(clip: Clip, sources: Sequence[str]) -> Clip:
    """The clip with those of its stems that are in ``sources``, in alphabetical order.

    Raises:
        DataError: there are none.
    """
    stems = {name: clip.stems[name] for name in sorted(sources) if name in clip.stems}
    if not stems:
        raise DataError(f"{clip.name} has none of the sources {', '.join(sources)}: it has {', '.join(clip.stems)}")
    return replace(clip, stems=stems)


def name_of(clip: Clip) -> str:
    """Name for a clip's results, a file name without suffix: the clip's name, and a hash of it and its parts."""
    stems = {name: [_plain(part) for part in parts] for name, parts in clip.stems.items()}
    identity = json.dumps([clip.name, stems, _plain(clip.mixture) if clip.mixture else None])
    beginning = re.sub(r"[^A-Za-z0-9_-]+", "_", clip.name)[:_NAME_CHARACTERS]
    return f"{beginning}-{hashlib.blake2b(identity.encode(errors='surrogateescape'), digest_size=8).hexdigest()}"


def _plain(part: Any) -> list[Any]:
    return [os.path.abspath(part.path), part.stream, part.channel]


def lock_path(cache_dir: Path, clip: Clip) -> Path:
    """Lock file of all of a clip's results; the clip has the chosen sources only."""
    return cache_dir / "locks" / f"{name_of(clip)}.lock"


def stamp_of(clip: Clip) -> dict[str, Any]:
    """All that a clip's results depend on beside its name and parts: sizes and times of its files, and versions.

    Raises:
        DataError: a file is missing.
    """
    files = {}
    for path in clip.files:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{clip.name}: {path} cannot be read ({error.strerror}): check the data set") from error
        files[os.path.abspath(path)] = [status.st_size, status.st_mtime_ns]
    return {"version": VERSION, "soxr": version("soxr"), "files": files}


def complete(jobs: Sequence[Job], what: str, workers: int | None = None) -> None:
    """Make results, with a progress bar if the output is a terminal.

    Args:
        jobs: the jobs whose results are missing.
        what: title of the progress bar.
        workers: number of threads; one per core by default, up to 4.

    Raises:
        UserError: a job cannot be done; results that are finished by then are kept.
        Interrupted: Ctrl-C was pressed.
    """
    if workers is not None:
        check_whole("workers", workers)
    left = {job.lock: job for job in jobs}
    total, told = len(left), False
    if not left:
        return
    workers = min(workers or min(torch.get_num_threads(), _MOST_WORKERS), total)
    for folder in {path.parent for path in left}:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with Progress(disable=not sys.stdout.isatty(), console=Console(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        try:
            while left:
                for path in _attempt(left, workers, lambda: bar.advance(task)):
                    del left[path]
                if left:
                    if not told:
                        complain(f"{what}: waiting for another process, which has {next(iter(left.values())).name}")
                    told = True
                    time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            remedy = "what is finished is kept, run the same command again to go on"
            raise Interrupted(f"interrupted while {what}: {remedy}") from None


def _attempt(jobs: Mapping[Path, Job], workers: int, advance: Callable[[], None]) -> list[Path]:
    """Do all jobs that no other process is doing; return their lock files."""

    def attempt(job: Job) -> bool:
        try:
            if not lock(job.lock):
                return False
            if not job.done():
                job.make()
            with suppress(OSError):  # only after success: whoever waits for this file then finds the results
                job.lock.unlink()
            return True
        finally:
            unlock(job.lock)

    done = []
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(attempt, job): path for path, job in jobs.items()}
        try:
            for future in as_completed(futures):
                if future.result():
                    done.append(futures[future])
                    advance()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return done
