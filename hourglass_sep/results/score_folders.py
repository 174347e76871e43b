"""Scoring of folders of stems made by any tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hourglass_sep import audio
from hourglass_sep.data.stem_folders import Track
from hourglass_sep.results.scores_file import write_results
from hourglass_sep.scoring.journal import bytes_of, journal_of, score_all
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, score_clip
from hourglass_sep.support.provenance import code_hash, provenance
from hourglass_sep.support.terminal import complain


def score_track(
    protocol: ScoringProtocol, system: str, track: Track, device: str = "cpu", lacking: dict[str, int] | None = None
) -> list[Row]:
    """Score one track's estimates and its unprocessed mixture.

    Args:
        protocol: scoring protocol.
        system: name of the system that made the estimates.
        track: files of the track.
        device: torch device to compute on.
        lacking: receives, under the track's name, the largest difference in samples between the length of a stem and
            that of the first reference.

    Returns:
        A row for each system and source, the mixture's first.
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
    """Score tracks and write ``scores.csv`` and ``scores.json``; the same call again continues an interrupted one.

    Args:
        tracks: tracks found by `hourglass_sep.data.stem_folders.find_tracks`.
        protocol: scoring protocol.
        system: name of the estimates' system in tables.
        out: folder for the two files.
        roots: the folders ``reference`` and ``estimate``, recorded in ``scores.json``.
        sums: stem to the reference stems that it is the sum of, recorded in ``scores.json``.
        device: torch device to compute on.
        workers: number of tracks scored in parallel; by default one per core.

    Raises:
        UserError: a file cannot be read or does not match its reference, or Ctrl-C was pressed.
    """
    lacking = {track.name: track.check() for track in tracks}  # invalid tracks are found before any is scored
    sides = {side: str(root) for side, root in roots.items()}
    facts = {"protocol": protocol.describe(), "code": code_hash(), "system": system, **sides, "tracks": _state(tracks)}
    jobs = {track.name: track for track in tracks}
    need = max((_need(track) for track in tracks), default=0)
    with journal_of(out, facts, protocol.metrics, "unfinished-") as journal:
        rows = score_all(
            lambda track: score_track(protocol, system, track, device, journal.notes),
            jobs,
            journal,
            workers,
            bytes_each=need,
        )
        lacking |= {track.name: journal.notes.get(track.name, 0) for track in tracks}
        fitted = {name: n_samples for name, n_samples in lacking.items() if n_samples}
        if fitted:
            complain(
                f"warning: stems of {len(fitted)} track(s) are longer or shorter than their reference, by up to "
                f"{max(fitted.values())} samples: cut, or padded with silence"
            )
        place = {"kind": "stems", **sides, "sums": dict(sums), "fitted_samples": fitted}
        place["tracks"] = {track.name: track.paths() for track in tracks}
        write_results(out, rows, protocol, system, {"audio": place} | provenance())


def _need(track: Track) -> int:
    """Bytes that a worker needs for a track."""
    info = audio.info(next(iter(track.references.values()))[0])
    return bytes_of(info.n_samples, info.sample_rate_hz, info.channels, len(track.references))


def _state(tracks: Sequence[Track]) -> list[list[object]]:
    """Every file with its size and modification time, so that rows of changed files are not reused."""
    return [
        [track.name, stem, str(path), path.stat().st_size, path.stat().st_mtime_ns]
        for track in tracks
        for stem in track.references
        for path in (*track.references[stem], track.estimates[stem])
    ]
