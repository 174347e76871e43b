"""Separate songs: ``hourglass-sep separate song.mp3``, or ``python -m hourglass_sep.separate``.

The paths of written files go to standard output (with ``--json`` one JSON object instead), all else to standard error.
The exit code is 0 if all songs are separated, 1 if a song fails or on an interrupt, 2 if no song could be started.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hourglass_sep.checkpoints.shipped import shipped_card, shipped_names, shipped_summary
from hourglass_sep.inference.choices import HIGH_BANDS
from hourglass_sep.songs.choices import BIT_DEPTHS, CLIP_MODES, FILENAME, FORMAT_NAMES, OTHER_METHODS, OUT, check_stems
from hourglass_sep.support.devices import DEVICES
from hourglass_sep.support.errors import CheckpointError, UserError
from hourglass_sep.support.paths import import_from_here
from hourglass_sep.support.terminal import clean, complain, have_streams, show_traceback, stopped_by_signals, tell

if TYPE_CHECKING:  # they import torch
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.songs.console import BatchLog

FAILED = 1


class _Parser(argparse.ArgumentParser):
    """Argument parser that removes control characters from its error messages.

    The messages quote arguments, and those of ``separate *`` may be odd file names that begin with a dash.
    """

    def error(self, message: str) -> NoReturn:
        super().error(clean(message))


class _ListModels(argparse.Action):
    """Option that lists the weights that ship and ends the command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from hourglass_sep.songs.model_table import show_models

        show_models([shipped_summary(name) for name in shipped_names()])
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Build the argument parser. Options that Demucs has, too, have Demucs' names and meaning."""
    from hourglass_sep.inference.options import names  # nothing here imports torch, so that --help is fast

    result = _Parser(
        prog="hourglass-sep separate",
        description="Separate songs into stems.",
        epilog="Names that begin with a dash go behind --, as in: hourglass-sep separate -- -song.wav",
    )
    add = result.add_argument_group("songs").add_argument
    add(
        "songs",
        nargs="+",
        metavar="SONG",
        help="sound or video file, pattern, folder with -r, or - for a list on standard input, one a line "
        "or as find -print0 writes it",
    )
    add("-r", "--recursive", action="store_true", help="separate all songs in folders")
    add("--start", type=float, default=0.0, metavar="SECONDS", help="where to begin")
    add("--duration", type=float, metavar="SECONDS", help="how much to separate")
    add(
        "--stream", type=int, metavar="NUMBER", help="which audio stream of a video, from 1 (the one marked as default)"
    )
    add = result.add_argument_group("separation").add_argument
    add("-n", "--name", default="default", help="weights: a name that ships, or a checkpoint file (%(default)s)")
    add("--list-models", action=_ListModels, nargs=0, help="list the weights that ship, and exit")
    add(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="import the network class of a checkpoint from this package, and run its code; may be repeated",
    )
    add("-d", "--device", default="auto", choices=DEVICES, help="(%(default)s)")
    add("--refine", default="none", choices=names("refine"), help="of the masks (%(default)s)")
    add("--reconstruct", default="mixture_phase", choices=names("reconstruct"), help="of the sounds (%(default)s)")
    add("--high-band", choices=HIGH_BANDS, help="above the network's band (what the weights came with)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="a setting: refine.rank=60")
    add = result.add_argument_group("stems").add_argument
    add("-o", "--out", type=Path, default=Path(OUT), metavar="FOLDER", help="where to (%(default)s)")
    add(
        "--filename",
        default=FILENAME,
        help="with {folder}, {track}, {trackext}, {stem}, {ext} (%(default)s)",
    )
    add("--stems", metavar="A,B", help="which to write (all that the weights have)")
    add("--two-stems", metavar="STEM", help="write STEM and no_STEM, the rest")
    add("--other-method", default="add", choices=OTHER_METHODS, help="how no_STEM is made: the other stems added up, "
        "the song minus STEM, or not at all (%(default)s)")  # fmt: skip
    add("--format", default=FORMAT_NAMES[0], choices=FORMAT_NAMES, help="(%(default)s)")
    add("--bit-depth", choices=BIT_DEPTHS, help="of wav and flac (the song's; 16 if it is lossy)")
    for name in ("mp3", "flac"):
        add(f"--{name}", action="store_const", const=name, dest="format", help=f"the same as --format {name}")
    for name, depth in (("int24", "24"), ("float32", "float32")):
        add(f"--{name}", action="store_const", const=depth, dest="bit_depth", help=f"the same as --bit-depth {depth}")
    add("--clip-mode", default="none", choices=CLIP_MODES, help="samples beyond full scale: left to the format, all "
        "stems turned down by one gain, or cut off (%(default)s)")  # fmt: skip
    add("--plot", action="store_true", help="draw mixture, masks and stems, too: picture.png beside them")
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--skip-existing", action="store_true", help="leave out files that exist, and songs all of whose files do")
    add = result.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print one JSON object in the end instead of paths")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-v", "--verbose", action="store_true", help="print tracebacks, too")
    return result


def run(arguments: Sequence[str] | None = None) -> int:
    """Separate songs.

    Args:
        arguments: command line; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0, or 1 if a song failed or the batch was interrupted.

    Raises:
        UserError: no song can be started: options contradict each other, or files would be replaced.
    """
    options = parser().parse_args(arguments)
    if options.stems is not None and options.two_stems is not None:
        raise UserError("--stems and --two-stems do not go together: leave one out")
    if options.overwrite and options.skip_existing:
        raise UserError("--overwrite and --skip-existing do not go together: leave one out")
    stems = None if options.stems is None else [name.strip() for name in options.stems.split(",")]
    sources = _sources(options.name)
    check_stems(stems, options.two_stems, sources)  # before torch is imported, for weights that ship

    from hourglass_sep.songs.batch import separate_all
    from hourglass_sep.songs.console import BatchLog
    from hourglass_sep.songs.plan import Output, plan
    from hourglass_sep.songs.search import find_songs, names_on

    output = Output(
        folder=options.out,
        filename=options.filename,
        stems=stems,
        two_stems=options.two_stems,
        other_method=options.other_method,
        format=options.format,
        bit_depth=options.bit_depth,
        clip_mode=options.clip_mode,
        start_seconds=options.start,
        duration_seconds=options.duration,
        stream=options.stream,
        picture=options.plot,
        overwrite=options.overwrite,
        skip_existing=options.skip_existing,
        sources=sources,
    )
    log = BatchLog(options.quiet, options.json)
    songs = find_songs(options.songs, options.recursive, names_on(sys.stdin), options.out, log.note)
    jobs = plan(songs, output)
    to_do = any(job.error is None and not job.skipped for job in jobs)
    separator = _separator(options, log, sources) if to_do else None
    separate_all(separator, jobs, output, log, options.verbose)
    return log.finish()


def _sources(name: str) -> tuple[str, ...]:
    """Sources of weights, as their card says; nothing is built, and torch is imported for checkpoint files only."""
    if name in shipped_names():
        return tuple(shipped_card(name)["sources"])
    from hourglass_sep.checkpoints import store
    from hourglass_sep.dsp.stems import read_sources

    description, _ = store.read_unbuilt(store.located(name))
    return tuple(read_sources(description["sources"]))


def _separator(options: argparse.Namespace, log: BatchLog, sources: Sequence[str]) -> Separator:
    """The separator that the options describe, on its device.

    Raises:
        UserError: it cannot be made, or has other sources than before.
    """
    from hourglass_sep.inference.options import GROUPS, load_options
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.support.devices import choose_device, explain_device

    changes = load_options({group: getattr(options, group) for group in GROUPS}, options.changes)
    if options.high_band is not None:
        changes["high_band"] = options.high_band
    device = choose_device(options.device)
    if options.trust:
        import_from_here()
    separator = Separator.load(options.name, trust=options.trust, **changes).to(device)
    if separator.sources != tuple(sources):
        raise CheckpointError(f"{options.name} is another file than a moment ago: run the command again")
    log.begin(explain_device(options.device, device))
    return separator


def main() -> None:
    """Run the ``separate`` command."""
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # idle OpenMP threads sleep soon: twice as fast on a busy machine
    have_streams()
    try:
        with stopped_by_signals():
            code = run()
    except UserError as error:
        if {"-v", "--verbose"} & set(sys.argv):
            show_traceback()
        complain(f"error: {error}")
        if "--json" in sys.argv:
            tell(json.dumps({"error": str(error), "songs": []}, indent=1), sys.stdout)
        code = error.exit_code
    except KeyboardInterrupt:
        complain("error: interrupted before any song was begun: run it again")
        code = FAILED
    raise SystemExit(code)


if __name__ == "__main__":
    main()
