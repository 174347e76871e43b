"""Separate songs: ``hourglass-sep separate song.wav -o out/``, or ``python -m hourglass_sep.separate``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from hourglass_sep import audio
from hourglass_sep.constants import SOURCES
from hourglass_sep.devices import CHOICES, choose_device
from hourglass_sep.errors import AudioError, UserError
from hourglass_sep.options import GROUPS, load_options, names
from hourglass_sep.separator import Separator


def separate_file(separator: Separator, path: Path, out: Path) -> list[Path]:
    """Write ``out/NAME/SOURCE.wav`` for every source, 16 bit, at the song's sample rate, channels and length.

    Args:
        separator: what separates.
        path: the song.
        out: the folder for all songs.

    Returns:
        The files, in the order of `SOURCES`.

    Raises:
        AudioError: the song cannot be read, its stems cannot be written or would replace it; nothing is left there.
    """
    if path.stem in ("", ".", ".."):
        raise AudioError(f"{path} gives its stems' folder no name: rename it")
    paths = [out / path.stem / f"{source}.wav" for source in SOURCES]
    if os.path.realpath(path) in map(os.path.realpath, paths):
        raise AudioError(f"{path} would be overwritten by its own stem: choose another folder with -o")
    waveform, sample_rate_hz = audio.read(path)
    if not waveform.any():
        print(f"warning: {path} is silent, and so are its stems", file=sys.stderr)
    with audio.opened(paths, sample_rate_hz, waveform.shape[0]) as writers:
        stems = separator.separate(waveform, sample_rate_hz)
        clipped = sum(write(stem) for write, stem in zip(writers, stems.values(), strict=True))
    if clipped:
        print(f"warning: {clipped} samples of the stems of {path} were clipped", file=sys.stderr)
    return paths


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep separate", description="Separate songs into vocals and accompaniment."
    )
    result.add_argument("songs", nargs="+", type=Path, metavar="SONG", help="wav, flac, ogg or mp3")
    result.add_argument("-o", "--out", type=Path, default=Path("separated"), help="folder (%(default)s)")
    result.add_argument(
        "-n", "--name", default="default", help="weights: a name that ships, or a checkpoint file (%(default)s)"
    )
    result.add_argument("--refine", default="none", choices=names("refine"), help="of the masks (%(default)s)")
    result.add_argument(
        "--reconstruct", default="mixture_phase", choices=names("reconstruct"), help="of the sounds (%(default)s)"
    )
    result.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="a setting: refine.rank=60"
    )
    result.add_argument("-d", "--device", default="auto", choices=CHOICES, help="(%(default)s)")
    return result


def run(arguments: Sequence[str] | None = None) -> list[Path]:
    """Separate as the command line says.

    Returns:
        The files that were written.

    Raises:
        UserError: see `separate_file`; or two songs whose stems would get the same names.
    """
    options = parser().parse_args(arguments)
    for song in options.songs:
        twins = [str(other) for other in options.songs if other.stem.casefold() == song.stem.casefold()]
        if len(twins) > 1:
            raise UserError(f"{' and '.join(twins)} would share a folder: separate them one by one, with other -o")
        if not os.path.isfile(song):
            audio.read(song)  # says what is wrong before any other song is separated
    post = load_options({group: getattr(options, group) for group in GROUPS}, options.changes)
    separator = Separator.load(options.name, **post).to(choose_device(options.device))
    songs = track(options.songs, "separating", disable=not sys.stdout.isatty(), console=Console())
    return [path for song in songs for path in separate_file(separator, song, options.out)]


def main() -> None:
    """The command."""
    try:
        for path in run():
            print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
