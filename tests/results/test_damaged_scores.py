"""Files of scores that nobody should trust, names that do harm, and outputs that nobody reads."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from hourglass_sep import report
from hourglass_sep.results import figures, scores_file, tables
from hourglass_sep.results.report import make_report
from hourglass_sep.results.show import show_report, show_scores
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.terminal import Forgiving
from hourglass_sep.training import loggers


def scores(**changes: Any) -> dict[str, Any]:
    row = {"clip": "a_1_01", "system": "model", "source": "vocals", "n_samples": 9000, "sdr": 1.0}
    protocol = {"name": "p", "hash": "h", "headline": {"sdr": "SDR"}, "metrics": ["sdr"], "average": "mean"}
    row |= {key: value for key, value in changes.items() if key in row}
    protocol |= {key: value for key, value in changes.items() if key in protocol}
    rest = {key: value for key, value in changes.items() if key not in row and key not in protocol}
    return {"protocol": protocol, "model": "model", "rows": [row, row | {"clip": "a_1_02"}]} | rest


SCORES: dict[str, tuple[Any, str]] = {
    "a length of hundreds of digits": (scores(n_samples=10**400), "without n_samples"),
    "a length below one": (scores(n_samples=0), "without n_samples"),
    "a score of hundreds of digits": (scores(sdr=10**400), "without sdr"),
    "an infinite score": (scores(sdr=float("inf")), "without sdr"),
    "a score in words": (scores(sdr="1"), "without sdr"),
    "a metric that is a path": (scores(headline={"../x": "X"}, metrics=["../x"]), "metric whose name is none"),
    "a list of rows in rows": (scores(rows=[[1]]), "row without clip"),
    "a number for a group": (scores(rows=[scores()["rows"][0] | {"group": 3}]), "whose group is none"),
    "no time at all": (scores(rows=[scores()["rows"][0] | {"seconds": 0}]), "whose seconds are none"),
    "hardly any time": (scores(rows=[scores()["rows"][0] | {"seconds": 1e-320}]), "whose seconds are none"),
    "no rows": (scores(rows=[]), "has no rows"),
    "a list for a protocol": (scores(protocol=[1]), "does not say by which protocol"),
    "a number for a name": (scores(clip=3), "row without clip"),
    "a place of sounds that is a list": (scores(audio=[1]), "not understood"),
    "a name of thousands of characters": (scores(clip="x" * 5000), "a name of more than 4096 characters"),
    "a metric a picture": (scores(headline={f"m{n}": "M" for n in range(99)}), "more than 32 metrics"),
    "a system a row": (
        scores(rows=[scores(system=f"s{n}")["rows"][0] for n in range(300)]),
        "more than 256 systems",
    ),
    "a source a row": (
        scores(rows=[scores(source=f"s{n}")["rows"][0] for n in range(99)]),
        "more than 64 sources",
    ),
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_file_of_scores_that_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    content, words = SCORES[kind]
    (tmp_path / "scores.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words) as caught:
        make_report([tmp_path], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place",
    [
        {"kind": "mir1k", "root": 3, "weights": 4},
        {"kind": 3},
        {"kind": "stems", "tracks": 5},
        {"kind": "stems", "tracks": {"a_1_01": [1]}},
        {"kind": "stems", "tracks": {"a_1_01": {"references": {"vocals": [3]}, "estimates": {"vocals": 4}}}},
    ],
)
def test_sounds_that_are_nowhere_are_left_out_of_a_report(place: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(scores(audio=place)))
    (part,) = make_report([tmp_path], tmp_path / "out").parts
    assert "are left out" in part.notes[0]


def archive(folder: Path, **entries: bytes) -> None:
    """Write scores that name a ``worst.npz`` of these entries."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(f"{name.replace('_', '/')}.npy", data)
    (folder / "worst.npz").write_bytes(content.getvalue())
    named = {"worst.npz": hashlib.sha256(content.getvalue()).hexdigest()}
    (folder / "scores.json").write_text(json.dumps(scores() | named))


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def index_of(pairs: Any) -> bytes:
    return npy(np.frombuffer(json.dumps(pairs).encode(), np.uint8))


IMAGE = npy(np.zeros((4, 5), np.uint8))
CLAIM = npy(np.zeros((4, 5), np.uint8)).replace(b"(4, 5), ", b"(10**15,)").replace(b"10**15", b"999999")
WHOLE = {"index": index_of([["a_1_01", "vocals"], ["a_1_02", "vocals"]])}
WHOLE |= {f"{n}_{kind}": IMAGE for n in range(2) for kind in ("mixture", "reference", "estimate")}
ARCHIVES = {
    "no index": {"0_mixture": IMAGE},
    "an index that is no list": WHOLE | {"index": index_of(3)},
    "an index that is no text": WHOLE | {"index": IMAGE},
    "objects": WHOLE | {"index": npy(np.array([{}], object))},
    "a missing picture": {"index": WHOLE["index"], "0_mixture": IMAGE},
    "a picture of another size": WHOLE | {"0_estimate": npy(np.zeros((3, 5), np.uint8))},
    "numbers for a picture": WHOLE | {"0_estimate": npy(np.zeros((4, 5)))},
    "a row for a picture": WHOLE
    | {f"0_{kind}": npy(np.zeros(5, np.uint8)) for kind in ("mixture", "reference", "estimate")},
    "more than there is": WHOLE | {"0_mixture": CLAIM},
    "no array": WHOLE | {"0_mixture": b"x"},
}


def test_spectrograms_that_are_as_they_should_be_are_drawn(tmp_path: Path) -> None:
    archive(tmp_path, **WHOLE)
    (part,) = make_report([tmp_path], tmp_path / "out").parts
    assert len(part.examples) == 2
    assert part.notes == []


@pytest.mark.parametrize("kind", ARCHIVES)
def test_spectrograms_that_are_none_are_left_out_of_a_report(kind: str, tmp_path: Path) -> None:
    archive(tmp_path, **ARCHIVES[kind])
    (part,) = make_report([tmp_path], tmp_path / "out").parts
    assert len(part.examples) < 2
    assert "is damaged: evaluate again" in part.notes[0]


def test_a_file_of_scores_without_an_end_is_read_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_file, "_MOST_BYTES", 1 << 20)
    with pytest.raises(UserError, match="/dev/zero has more than 1 MB"):
        make_report(["/dev/zero"], tmp_path / "out")


def test_a_report_of_many_systems_and_sources_is_drawn_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_MOST_BOXES", 3)
    monkeypatch.setattr(figures, "_MOST_PANELS", 2)
    row = scores()["rows"][0]
    rows = [row | {"system": f"s{n}" * 99, "source": f"{m}", "sdr": float(n)} for n in range(9) for m in range(5)]
    (tmp_path / "scores.json").write_text(json.dumps(scores(rows=rows)))
    (part,) = make_report([tmp_path], tmp_path / "out").parts
    (figure,) = part.figures.values()
    shown = [[tick.get_text()[:2] for tick in axis.get_yticklabels()] for axis in figure.axes]
    assert shown == [["s6", "s7", "s8"], []]  # the best of a panel for each of two sources, which share their labels


SHOWN = ("**b**", "__b__", "_i_", "~~s~~", "- item", "+ item", "= h", "1. item", "2) item", " a ", "# h", "> q",
         "<b>b</b>", "[x](http://evil)", "![x](y.png)", "a|b", "`c`", "https://evil.org", "www.evil.org", "&amp;",
         "a_b", "si_sdr", "\\", "***")  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("place", ["- {}", "{}:", "| a | b |\n|---|---|\n| {} | c |"])
def test_markdown_shows_a_name_and_nothing_else(name: str, place: str) -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(place.format(tables.plain(name)))
    kinds = {"-": ["bullet_list", "list_item", "paragraph"], "{": ["paragraph"]}.get(place[0])
    inner = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inner} <= {"text", "text_special"}
    assert name.strip() in "".join(child.content for child in inner)
    if kinds:
        assert [token.type.removesuffix("_open") for token in tokens if token.type.endswith("_open")] == kinds


NAMES = ("<b>bold</b>", "[x](http://evil)", "![x](y.png)", "a|b", "a\nb", "`code`", "https://evil", "\x1b[31mred",
         "$x^2$", "www.evil", "\udce9", "\u202eback")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are_and_do_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = scores(clip=name, system=name, source=name, model=name, name=name)
    (tmp_path / "scores.json").write_text(json.dumps(content))
    made = make_report([tmp_path], tmp_path / "out")
    show_report(made)
    text = (tmp_path / "out" / "report.md").read_text()
    for cause in (r"<b>", r"\]\(http", r"!\[x\]", "\x1b", r"a\|b", "\u202e", "https://", r"www\.", r"\$x", "`code`"):
        assert not re.search(r"(?<!\\)" + cause, text), cause
    assert not any(line[:1] == "b" for line in text.splitlines())
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown


def test_a_logger_that_fails_leaves_a_report_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        @property
        def experiment(self) -> None:
            "\udce9".encode()

    monkeypatch.setattr(loggers, "wandb_logger", lambda *_: Failing())
    (tmp_path / "scores.json").write_text(json.dumps(scores()))
    report.run([str(tmp_path), "-o", str(tmp_path / "out"), "--wandb"])
    assert (tmp_path / "out" / "report.md").exists()
    assert "warning: W&B: 'utf-8' codec can't encode" in capsys.readouterr().err


@pytest.mark.parametrize("reader", ["full", "gone"])
def test_tables_that_nobody_reads_end_nothing(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reader == "full":
        stream = open("/dev/full", "w")  # noqa: SIM115
    else:
        read, write = os.pipe()
        os.close(read)
        stream = os.fdopen(write, "w")
    protocol = load_protocol("si_sdr")
    row = {"clip": "a", "system": "m", "source": "vocals", "n_samples": 9000} | dict.fromkeys(protocol.metrics, 1.0)
    scores_file.write_results(tmp_path, [row], protocol, "m", {})
    made = make_report([tmp_path], tmp_path / "out")
    with monkeypatch.context() as patch, stream:
        patch.setattr(sys, "stdout", stream)
        show_scores(tmp_path)
        show_report(made)


@pytest.mark.parametrize("buffering", [1, -1])
def test_a_stream_that_cannot_be_written_to_is_left_alone(buffering: int) -> None:
    with open("/dev/full", "w", buffering) as full:
        stream = Forgiving(full)
        for _ in range(2):
            assert stream.write("a line\n") == 7
            stream.flush()
        assert os.readlink(f"/proc/self/fd/{full.fileno()}") == os.devnull


@pytest.mark.slow
@pytest.mark.parametrize("stream", [">&-", ">/dev/full", "2>&-", ">&- 2>&-", "| head -1"])
def test_a_report_is_written_whoever_reads_what_is_printed(stream: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(scores()))
    command = f"set -o pipefail; {sys.executable} -m hourglass_sep.report . -o out {stream}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "report.md").exists()
