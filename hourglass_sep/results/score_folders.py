"""Scores of folders of stems that any tool has made, and the file that they are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hourglass_sep.data.stem_folders import Track
from hourglass_sep.results.scores_file import write_results
from hourglass_sep.scoring.journal import journal_of, score_all
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, score_clip
from hourglass_sep.support.provenance import code_hash, provenance
from hourglass_sep.support.terminal import complain


def score_track(
    protocol: ScoringProtocol, system: str, track: Track, device: str = "cpu", lacking: dict[str, int] | None = None
) -> list[Row]:
    """Score one track's estimates and its unprocessed mixture.

    Args:
        protocol: how.
        system: whose estimates they are.
        track: the files.
        device: where to compute.
        lacking: is told by how many samples stems were longer or shorter, by track.
    """
    references, estimates, sample_rate_hz, n_samples = track.load()
    if lacking is not None:
        lacking[track.name] = n_samples
    return score_clip(
        protocol,
        track.name,
        references.to(device),
        {system: estimates.to(device)},
        sample_rate_hz,
        list(track.references),
    )


def score_folders(
    tracks: Sequence[Track],
    protocol: ScoringProtocol,
    system: str,
    out: Path,
    roots: Mapping[str, Path],
    sums: Mapping[str, Sequence[str]],
    device: str = "cpu",
    workers: int | None = None,
) -> None:
    """Score tracks and write ``scores.csv`` and ``scores.json``; an interrupted call is taken up by an equal one.

    Args:
        tracks: of `hourglass_sep.data.stem_folders.find_tracks`.
        protocol: how.
        system: the estimates' name in tables.
        out: the folder for the rows.
        roots: the folders of ``reference`` and ``estimate``, for the record.
        sums: stems that are sums of reference stems, for the record.
        device: where to compute.
        workers: tracks at a time, by default one a core.

    Raises:
        UserError: a file that cannot be read or does not fit, or Ctrl-C.
    """
    lacking = {track.name: track.check() for track in tracks}  # bad ones are found before time is spent on others
    sides = {side: str(root) for side, root in roots.items()}
    facts = {"protocol": protocol.describe(), "code": code_hash(), "system": system, **sides, "tracks": _state(tracks)}
    jobs = {track.name: track for track in tracks}
    with journal_of(out, facts, protocol.metrics, "unfinished-") as journal:
        rows = score_all(
            lambda track: score_track(protocol, system, track, device, journal.notes), jobs, journal, workers
        )
        lacking |= {track.name: journal.notes.get(track.name, 0) for track in tracks}
        fitted = {name: n_samples for name, n_samples in lacking.items() if n_samples}
        if fitted:
            complain(
                f"warning: stems of {len(fitted)} track(s) are longer or shorter than their reference, by up to "
                f"{max(fitted.values())} samples: cut, or padded with silence"
            )
        audio = {"kind": "stems", **sides, "sums": dict(sums), "fitted_samples": fitted}
        audio["tracks"] = {track.name: track.paths() for track in tracks}
        write_results(out, rows, protocol, system, {"audio": audio} | provenance())


def _state(tracks: Sequence[Track]) -> list[list[object]]:
    """Every file with its size and time: what has changed is scored anew."""
    return [
        [track.name, stem, str(path), path.stat().st_size, path.stat().st_mtime_ns]
        for track in tracks
        for stem in track.references
        for path in (*track.references[stem], track.estimates[stem])
    ]
