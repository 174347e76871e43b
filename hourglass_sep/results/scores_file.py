"""Score files: written by evaluation and scoring, read for tables and reports."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.scoring.averages import AVERAGES
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, count_unscored, summarise
from hourglass_sep.support.checks import is_score
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.files import write_all
from hourglass_sep.support.terminal import clean

_LONGEST_SAMPLES = 1 << 50
_SHORTEST_SECONDS = 1e-6
_LONGEST_NAME = 4096
_MOST_BYTES = 1 << 28  # 300 000 clips of two systems and two sources
_MOST = {"system": 256, "source": 64}
_MOST_METRICS = 32
_MIR1K_HZ = 16000
_MOST_GROUPS = 256
_NAME = re.compile(r"\w[\w.-]{0,63}")

WORST = "worst.npz"
"""File of spectrograms beside ``scores.json``, and the entry there with its SHA-256 (hexadecimal)."""


def write_results(
    folder: Path,
    rows: Sequence[Row],
    protocol: ScoringProtocol,
    model: str,
    facts: Mapping[str, Any],
    worst: bytes = b"",
) -> None:
    """Write ``scores.csv``, a line per clip, system and source, and ``scores.json`` with averages and metadata, too.

    Args:
        folder: output folder; created if missing.
        rows: rows of scores, at least one.
        protocol: protocol by which the rows were scored.
        model: name of the system that the file is about; all others are baselines.
        facts: more entries of ``scores.json``, as plain types.
        worst: content of ``worst.npz`` with spectrograms of the worst clips, see `WorstClips.content`; if empty, the
            file is not written.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    content = {
        "protocol": protocol.describe(),
        "model": model,
        **facts,
        "summary": summarise(rows, protocol.headline, protocol.average),
        "unscored_rows": count_unscored(rows, protocol.metrics[0]),
    }
    content |= {WORST: hashlib.sha256(worst).hexdigest()} if worst else {}
    lines = table.getvalue().encode(errors="backslashreplace")  # file names may hold bytes that are not UTF-8
    files = {"scores.csv": lines, "scores.json": as_json(content, rows).encode()}
    write_all(folder, files | ({WORST: worst} if worst else {}))


def as_json(content: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """A score file as JSON: the content, then one row per line, which is legible and half the size of indented rows."""
    head = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in rows)
    return f'{head},\n "rows": [\n  {lines}\n ]\n}}\n'


def ranked(values: Mapping[str, Sequence[float]], first: Collection[str] = (MIXTURE,)) -> list[str]:
    """Sort names of systems: those of `first`, then the others from the worst to the best by the mean of their values.

    Args:
        values: name to the averages of its sources in dB; empty for no score.
        first: names that come first.
    """

    def rank(name: str) -> tuple[bool, float]:
        known = values[name]
        return name not in first, sum(known) / len(known) if known else -math.inf

    return sorted(values, key=rank)


@dataclass(frozen=True)
class ScoresFile:
    """The content of a score file.

    Attributes:
        name: name of the file in a report: the user's, else that of its folder (``scores.json``) or its stem.
        named: whether the user gave the name.
        path: path of the file.
        protocol: name, hash, metrics, headline and average of the protocol.
        model: name of the system that the file is about; all others are baselines.
        audio: location of the scored audio; empty if it is not recorded.
        worst: SHA-256 of its ``worst.npz``; '' if there is none.
        rows: one row per clip, system and source, see `hourglass_sep.scoring.rows.Row`; those of earlier versions get a
            group and seconds.
    """

    name: str
    named: bool
    path: Path
    protocol: dict[str, Any]
    model: str
    audio: dict[str, Any]
    worst: str
    rows: list[Row]


def read_scores(inputs: Sequence[str | Path]) -> list[ScoresFile]:
    """Read and check score files.

    Args:
        inputs: files, folders with a ``scores.json``, or NAME=PATH of either.

    Raises:
        UserError: a file is missing, is not a score file or has no rows, or two files have one name.
    """
    files = [_read(str(text)) for text in inputs]
    for file in files:
        twins = [other.path for other in files if other.name == file.name]
        if len(twins) > 1:
            raise UserError(f"{' and '.join(map(str, twins))} are both called {file.name!r}: give NAME=PATH for each")
    return files


def _read(text: str) -> ScoresFile:
    name, path = "", Path(text)
    if "=" in text and not os.path.exists(text):  # run folders of sweeps have = in their names
        name, _, rest = text.partition("=")
        path = Path(rest)
    if not str(path.name) and not path.is_absolute() and text not in (".", "./"):
        raise UserError(f"{text!r} names no file: give a scores.json, its folder, or NAME=PATH of either")
    path = path / "scores.json" if os.path.isdir(path) else path
    try:
        with path.open("rb") as file:  # limited: it may be a pipe, or an endless device
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES >> 20} MB: name a scores.json with fewer clips")
        content = json.loads(data.decode())
        del data
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a scores.json or its folder") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise UserError(f"{path} is no JSON: name a scores.json that evaluate or score wrote") from error
    problem = clean(_problem(content))
    if problem:
        raise UserError(f"{path} {problem}: make it again with hourglass-sep evaluate or score")
    folder = path.resolve().parent
    own = folder.name if path.name == "scores.json" else path.stem
    audio = content.get("audio") or {}
    rows = upgraded(content["rows"], audio)
    worst = str(content.get(WORST) or "")
    return ScoresFile(name or own, bool(name), path, content["protocol"], content["model"], audio, worst, rows)


def upgraded(rows: Sequence[Row], audio: Mapping[str, Any]) -> list[Row]:
    """Rows with group and seconds, which those of earlier versions lack.

    For clips of MIR-1K the group is the beginning of the name, the singer, and the rate 16 kHz. For others the group is
    '', and seconds are None: the files do not say the rate, and the protocol's is that of the comparison.

    Args:
        rows: rows of a score file.
        audio: its entry ``audio``.
    """
    mir1k = audio.get("kind") == "mir1k"
    singers = {row["clip"]: row["clip"].split("_")[0] for row in rows if mir1k}
    known = len(set(singers.values())) <= _MOST_GROUPS  # otherwise the beginnings of the names are not singers
    return [
        {
            "clip": row["clip"],
            "group": singers.get(row["clip"], "") if known else "",
            "system": row["system"],
            "source": row["source"],
            "n_samples": row["n_samples"],
            "seconds": row["n_samples"] / _MIR1K_HZ if mir1k else None,
        }
        | row
        for row in rows
    ]


def _problem(content: Any) -> str:
    """The first error in the content of a score file; '' for none."""
    protocol = content.get("protocol") if isinstance(content, dict) else None
    keys = {"name": str, "hash": str, "headline": dict, "metrics": list, "average": str}
    if not isinstance(protocol, dict) or not all(isinstance(protocol.get(key), kind) for key, kind in keys.items()):
        return "is no file of scores (it does not say by which protocol)"
    if not isinstance(content.get("model"), str):
        return "does not name its model"
    words = [*protocol["metrics"], *protocol["headline"].values(), protocol.get("description", "")]
    if not all(isinstance(word, str) for word in words) or not isinstance(content.get("audio") or {}, dict):
        return "has a protocol or a place of its sounds that is not understood"
    if not all(_NAME.fullmatch(metric) for metric in (*protocol["metrics"], *protocol["headline"])):
        return "has a metric whose name is none"  # it is part of the names of figures
    if not protocol["headline"] or protocol["average"] not in AVERAGES:
        return f"has a protocol without headline metrics, or with an average other than {', '.join(AVERAGES)}"
    if len({*protocol["metrics"], *protocol["headline"]}) > _MOST_METRICS:
        return f"has more than {_MOST_METRICS} metrics"
    rows = content.get("rows")
    if not isinstance(rows, list) or not rows:
        return "has no rows"
    seen: set[tuple[Any, ...]] = set()
    for number, row in enumerate(rows):
        names = tuple(row.get(key) for key in ("clip", "system", "source")) if isinstance(row, dict) else ()
        if not names or not all(isinstance(name, str) for name in names):
            return f"has a row without clip, system or source (number {number})"
        if max(len(str(name)) for name in names) > _LONGEST_NAME:
            return f"has a row with a name of more than {_LONGEST_NAME} characters (number {number})"
        length = row.get("n_samples")
        if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= _LONGEST_SAMPLES:
            return f"has a row without n_samples (number {number})"
        group, seconds = row.get("group", ""), row.get("seconds")
        if not isinstance(group, str) or len(group) > _LONGEST_NAME:
            return f"has a row whose group is none (number {number})"
        if seconds is not None and not (is_score(seconds) and seconds >= _SHORTEST_SECONDS):
            return f"has a row whose seconds are none (number {number})"
        for metric in (*protocol["headline"], *protocol["metrics"]):
            if metric not in row or not (row[metric] is None or is_score(row[metric])):
                return f"has a row without {metric} (number {number})"
        if names in seen:
            return f"has {' / '.join(names)} twice"
        seen.add(names)
    for key, most in _MOST.items():
        if len({row[key] for row in rows}) > most:
            return f"has more than {most} {key}s"
    return ""
