"""Tables of stems: CSV files with a row per track."""

from __future__ import annotations

import csv
from pathlib import Path

from hourglass_sep.data.clips import Part
from hourglass_sep.data.splits import same, suggestion
from hourglass_sep.data.track_files import PART_NAMES, TrackFiles
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.paths import at_home

_FACTS = ("track", "group", "split", MIXTURE)


def read_table(path: Path, groups: bool = True) -> list[TrackFiles]:
    """Read a CSV file (comma, semicolon or tab; UTF-8) with the columns ``track`` and one for each stem.

    Cells of stems are paths relative to the file; an empty one is a missing stem. The columns ``mixture``, ``group``
    and ``split`` are optional.

    Args:
        path: the file.
        groups: whether to use the column ``group``.

    Raises:
        DataError: a column or cell is invalid, or a file does not exist.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = list(csv.reader(file, delimiter=max(",;\t", key=header.count)))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table ({error}): set data.root to a CSV file or a folder"
        ) from error
    columns = [name.strip() for name in rows[0]] if rows else []
    folded = [name.casefold() for name in columns]
    twice = [name for i, name in enumerate(folded) if name in folded[:i]]
    if "track" not in folded or twice or not set(folded) - set(_FACTS):
        fault = f"has two columns {twice[0]!r}" if twice else "has no column for tracks or stems"
        raise DataError(f"{path} {fault}: its first line should be track, group, split and a name for each stem")
    tracks: dict[str, TrackFiles] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise DataError(
                f"{path}, row {number} ({row[0]}) has {len(row)} cells, but {len(columns)} columns: correct it"
            )
        cells = {name: cell.strip() for name, cell in zip(columns, row, strict=True)}
        facts = {name.casefold(): cells.pop(name) for name in columns if name.casefold() in _FACTS}
        track = same(facts["track"])
        if not track or track in tracks:
            raise DataError(
                f"{path}, row {number} has {'the track ' + track + ' again' if track else 'no track'}: correct it"
            )
        part = facts.get("split")
        if part is not None and part.lower() not in PART_NAMES:
            raise DataError(
                f"{path}, row {number}: {track} has the split {part!r}, which is none of train, valid, test: correct "
                "it, or leave the column out"
            )
        stems = {same(name): _part(path, track, name, cell) for name, cell in cells.items() if cell}
        if not stems:
            raise DataError(f"{path}, row {number}: {track} has no stems: remove it")
        mixture = facts.get(MIXTURE)
        tracks[track] = TrackFiles(
            track,
            stems,
            _part(path, track, MIXTURE, mixture) if mixture else None,
            None if part is None else PART_NAMES[part.lower()],
            (facts.get("group") or None) if groups else None,
        )
    if not tracks:
        raise DataError(f"{path} has no rows: add a row per track")
    return list(tracks.values())


def _part(table: Path, track: str, stem: str, cell: str) -> Part:
    path = table.parent / at_home(cell)
    if not path.is_file():
        if stem.casefold() in ("artist", "singer", "speaker", "performer"):
            raise DataError(f"{table}: the column {stem} is taken as a stem: call it group")
        there = [each.name for each in path.parent.iterdir() if each.is_file()] if path.parent.is_dir() else []
        raise DataError(
            f"{table}: {track} has no file {path}{suggestion(path.name, there)} for {stem}: correct the table"
        )
    return Part(path)
