"""Score stems made by any tool: ``hourglass-sep score --reference DIR --estimate DIR``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.devices import DEVICES, choose_device
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.terminal import or_exit


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep score",
        description="Score stems that any tool has made. Both folders hold TRACK/STEM.wav, as MUSDB and DSD100 do, "
        "stems and tracks under the same names. Lengths may differ by a quarter of a second. An "
        "interrupted run goes on where it ended.",
    )
    result.add_argument("--reference", type=Path, required=True, metavar="DIR", help="the true stems")
    result.add_argument("--estimate", type=Path, required=True, metavar="DIR", help="the stems to be scored")
    result.add_argument("--protocol", default="museval_v4", help="a file of conf/protocol (%(default)s)")
    result.add_argument("--stems", metavar="A,B", help="score these only; the others do not count as interference")
    result.add_argument(
        "--sum",
        action="append",
        default=[],
        metavar="STEM=A+B",
        help="add reference stems up: accompaniment=bass+drums+other; can be repeated",
    )
    result.add_argument("--partial", action="store_true", help="leave out tracks that have no estimate")
    result.add_argument("--name", help="the system's name in tables (the estimate's folder)")
    result.add_argument("-o", "--out", type=Path, default=Path("scores"), help="folder for the rows (%(default)s)")
    result.add_argument("-j", "--workers", type=int, help="tracks at a time (one a core)")
    result.add_argument("-d", "--device", default="auto", choices=DEVICES, help="(%(default)s)")
    return result


def run(arguments: Sequence[str] | None = None) -> Path:
    """Score stems.

    Args:
        arguments: command line; ``sys.argv[1:]`` by default.

    Returns:
        The folder with ``scores.csv`` and ``scores.json``.

    Raises:
        UserError: references and estimates do not match, a file cannot be read, or Ctrl-C was pressed.
    """
    options = parser().parse_args(arguments)
    from hourglass_sep.data.stem_folders import find_tracks  # with torch: --help answers before
    from hourglass_sep.results.score_folders import score_folders
    from hourglass_sep.scoring.protocols import load_protocol

    protocol = load_protocol(options.protocol)
    sums = dict(_sum(text) for text in options.sum)
    stems = None if options.stems is None else _names("--stems", options.stems, ",")
    if options.workers is not None:
        check_whole("--workers", options.workers)
    tracks = find_tracks(options.reference, options.estimate, stems, sums, options.partial)
    system = options.name or options.estimate.resolve().name
    if system == MIXTURE:
        raise UserError(f"{MIXTURE} is what the unprocessed mixture is called: give the estimates another --name")
    device = str(choose_device(options.device))
    roots = {side: getattr(options, side).resolve() for side in ("reference", "estimate")}
    score_folders(tracks, protocol, system, options.out, roots, sums, device, options.workers)
    return options.out


def _sum(text: str) -> tuple[str, list[str]]:
    """Parse ``accompaniment=bass+drums`` to the stem and the list of its parts."""
    stem, _, parts = (part.strip() for part in text.partition("="))
    if not stem or not parts:
        raise UserError(f"--sum {text} is not understood: write --sum accompaniment=bass+drums+other")
    return stem, _names(f"--sum {stem}", parts, "+")


def _names(option: str, text: str, separator: str) -> list[str]:
    """Split the value of an option into names; empty and repeated names are refused."""
    names = [name.strip() for name in text.split(separator)]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{option}={text} names something twice or not at all: write A{separator}B")
    return names


def main() -> None:
    """Run the ``score`` command."""
    folder = or_exit(run)
    from hourglass_sep.results.show import show_scores

    show_scores(folder)


if __name__ == "__main__":
    main()
