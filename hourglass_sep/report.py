"""Compare scores: ``hourglass-sep report RUN [NAME=RUN ...] -o report``, or ``python -m hourglass_sep.report``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hourglass_sep.results.choices import RESAMPLED, resampled
from hourglass_sep.support.terminal import complain, or_exit

if TYPE_CHECKING:  # imports are deferred so that --help is fast
    from hourglass_sep.results.report import Report


def _log(report: Report, out: Path) -> None:
    """Log a written report to a new W&B run in the report's folder; failures become warnings."""
    from hourglass_sep.results.report import log_to_wandb
    from hourglass_sep.training.loggers import Attempt, wandb_logger

    logger = wandb_logger("hourglass_sep", str(out))
    attempt = Attempt("W&B", "the report is written, and not logged")
    run = attempt(lambda: logger.experiment)
    if run is not None:
        attempt(log_to_wandb, report, run)
        attempt(run.finish)


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep report", description="One table, with intervals, from any number of score files."
    )
    result.add_argument("inputs", nargs="+", metavar="SCORES", help="scores.json, its folder, or NAME=PATH of either")
    result.add_argument("-o", "--out", type=Path, default=Path("report"), help="folder (%(default)s)")
    result.add_argument("--compare", nargs=2, metavar=("A", "B"), help="paired difference, A minus B (the two models)")
    result.add_argument("--metric", help="what ranks the worst clips (the protocol's first)")
    result.add_argument("--worst", type=int, default=10, help="how many clips to list and draw (%(default)s)")
    result.add_argument("--seed", type=int, default=0, help="of the bootstrap (%(default)s)")
    result.add_argument(
        "--resample", type=resampled, choices=RESAMPLED, default="clip", help="what the bootstrap draws (%(default)s)"
    )
    result.add_argument("--wandb", action="store_true", help="log to W&B too, offline without an account")
    return result


def run(arguments: Sequence[str] | None = None) -> Report:
    """Write a report.

    Args:
        arguments: command line; ``sys.argv[1:]`` by default.

    Returns:
        The report.

    Raises:
        UserError: see `make_report`.
    """
    options = vars(parser().parse_args(arguments))
    from hourglass_sep.results.report import make_report

    to_wandb = options.pop("wandb")
    report = make_report(**options)
    for note in [note for part in report.parts for note in part.notes]:
        complain(f"warning: {note}")
    if to_wandb:
        _log(report, options["out"])
    return report


def main() -> None:
    """Run the ``report`` command."""
    report = or_exit(run)
    from hourglass_sep.results.show import show_report

    show_report(report)


if __name__ == "__main__":
    main()
