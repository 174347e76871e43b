"""Separation of many songs, one after the other: an error in one does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence

from hourglass_sep.inference.separator import Separator
from hourglass_sep.songs.console import BatchLog
from hourglass_sep.songs.plan import Job, Output
from hourglass_sep.songs.separate_song import separate_job
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.terminal import show_traceback


def separate_all(
    separator: Separator | None, jobs: Sequence[Job], output: Output, log: BatchLog, verbose: bool = False
) -> None:
    """Separate songs as planned, until all are done or Ctrl-C is pressed.

    Args:
        separator: the separator; may be None if every job is skipped or has an error.
        jobs: jobs made by `hourglass_sep.songs.plan.plan`.
        output: the settings that the jobs were planned with.
        log: records and prints the outcome of each job.
        verbose: whether to print tracebacks, too.
    """
    try:
        for number, job in enumerate(jobs, 1):
            if job.error is not None:
                log.failed(job, job.error)
            elif job.skipped:
                log.skipped(job)
            else:
                assert separator is not None
                _separate_one(separator, job, output, log, f"{number}/{len(jobs)}", verbose)
    except KeyboardInterrupt:
        log.interrupted(len(jobs))


def _separate_one(separator: Separator, job: Job, output: Output, log: BatchLog, place: str, verbose: bool) -> None:
    """Separate a song and log the outcome; any error is logged, not raised."""
    try:
        with log.bar(job, place) as progress:
            outcome = separate_job(separator, job, output, progress)
    except UserError as error:
        if verbose:
            show_traceback()
        log.failed(job, str(error))
    except Exception as error:
        if verbose:
            show_traceback()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        log.failed(job, f"{job.song.path} could not be separated ({reason}): -v says more, and please report it")
    else:
        log.done(job, outcome)
