from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.evaluation import evaluate_all
from hourglass_sep.scoring.journal import Journal, score_all
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.support.errors import (
    FileError,
    Interrupted,
    SettingError,
    UserError,
)
from tests.helpers.clips import mir1k_clips

FACTS = {"protocol": "1a2b3c4d"}


def rows_of(clip: str) -> list[dict[str, Any]]:
    return [{"clip": clip, "sdr": 0.1 + 0.2}]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works, even where these tests are a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def clips(n: int) -> dict[str, str]:
    return {f"clip{i}": f"clip{i}" for i in range(n)}


def test_rows_come_in_the_order_of_the_clips_whichever_is_done_first() -> None:
    def slow_first(clip: str) -> list[dict[str, Any]]:
        time.sleep(0.1 if clip == "clip0" else 0.0)
        return rows_of(clip)

    rows = score_all(slow_first, clips(5), Journal(None, FACTS), workers=3)
    assert [row["clip"] for row in rows] == list(clips(5))


def test_clips_are_scored_at_the_same_time_on_one_core_each() -> None:
    torch.set_num_threads(2)
    together = threading.Barrier(2, timeout=20)

    def meet(clip: str) -> list[dict[str, Any]]:
        together.wait()
        assert torch.get_num_threads() == 1
        return rows_of(clip)

    assert len(score_all(meet, clips(4), Journal(None, FACTS), workers=2)) == 4
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_ctrl_c_keeps_what_is_done_and_the_next_run_does_only_the_rest(ctrl_c: None, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"

    def interrupted_at_the_third(clip: str) -> list[dict[str, Any]]:
        if clip == "clip2":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return rows_of(clip)

    with pytest.raises(Interrupted, match=r"[1-9] of 6 clips are done and kept: run the same command again") as caught:
        score_all(interrupted_at_the_third, clips(6), Journal(path, FACTS), workers=1)
    assert caught.value.exit_code == 130
    kept = set(Journal(path, FACTS).done)
    assert {"clip0", "clip1"} <= kept
    assert len(kept) < 6

    again: list[str] = []

    def remember(clip: str) -> list[dict[str, Any]]:
        again.append(clip)
        return rows_of(clip)

    rows = score_all(remember, clips(6), Journal(path, FACTS), workers=2)
    assert [row["clip"] for row in rows] == list(clips(6))
    assert set(again) == set(clips(6)) - kept
    assert rows == [row for clip in clips(6) for row in rows_of(clip)]  # numbers survive the file exactly


def test_a_line_cut_off_by_a_kill_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, FACTS)
    for clip in clips(3):
        journal.add(clip, rows_of(clip))
    path.write_text(path.read_text()[:-9])
    assert list(Journal(path, FACTS).done) == ["clip0", "clip1"]
    assert len(path.read_text().splitlines()) == 3  # nothing will be appended to half a line


def test_rows_of_other_facts_are_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, FACTS).add("clip0", rows_of("clip0"))
    assert Journal(path, {"protocol": "other"}).done == {}
    assert Journal(path, FACTS).done == {}


def test_a_complete_run_leaves_no_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", FACTS)
    score_all(rows_of, clips(2), journal)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_one_clip_ends_the_run_and_keeps_the_others(tmp_path: Path) -> None:
    def fail(clip: str) -> list[dict[str, Any]]:
        if clip == "clip3":
            raise UserError("clip3 is damaged")
        return rows_of(clip)

    path = tmp_path / "journal.jsonl"
    with pytest.raises(UserError, match="clip3 is damaged"):
        score_all(fail, clips(4), Journal(path, FACTS), workers=1)
    assert set(Journal(path, FACTS).done) == {"clip0", "clip1", "clip2"}


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="workers=0"):
        score_all(rows_of, clips(2), Journal(None, FACTS), workers=0)

    def fail(clip: str) -> list[dict[str, Any]]:
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        score_all(fail, clips(2), Journal(tmp_path / "empty.jsonl", FACTS), workers=1)
    assert list(tmp_path.iterdir()) == []  # nothing was done: nothing is left
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"journal.jsonl cannot be written to"):
        Journal(tmp_path / "file" / "journal.jsonl", FACTS)


def test_a_disk_that_is_full_under_the_journal_is_said_and_what_was_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"x": 1})
    journal.add("one", [{"clip": "one"}])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: open("/dev/full", "a"))  # noqa: SIM115
        with pytest.raises(FileError, match=r"a\.jsonl cannot be written to \(No space left on device\)"):
            journal.add("two", [{"clip": "two"}])
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"clip": "two", "ro')  # as much as there was room for
    journal.add("three", [{"clip": "three"}])
    assert Journal(tmp_path / "a.jsonl", {"x": 1}).done == {
        "one": [{"clip": "one"}],
        "three": [{"clip": "three"}],
    }


ROW = {"clip": "a", "group": "", "system": "m", "source": "vocals", "n_samples": 9, "seconds": 0.1, "sdr": 1.0}


@pytest.mark.parametrize(
    "rows",
    [3, [], [3], [{}], {"a": 1}, [ROW | {"clip": "b"}], [ROW | {"n_samples": "9"}], [ROW | {"sdr": "1"}],
     [ROW | {"sdr": 10**400}], [ROW | {"sdr": float("nan")}], [{"clip": "a", "sdr": 1.0}]],
)  # fmt: skip
def test_lines_of_a_journal_that_are_no_rows_are_scored_again(rows: Any, tmp_path: Path) -> None:
    Journal(tmp_path / "a.jsonl", {"x": 1}, ["sdr"])
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(json.dumps({"clip": "a", "rows": rows}) + "\n" + "[" * 100_000 + "\n")
    assert Journal(tmp_path / "a.jsonl", {"x": 1}, ["sdr"]).done == {}
    Journal(tmp_path / "a.jsonl", {"x": 1}, ["sdr"]).add("a", [ROW])
    assert Journal(tmp_path / "a.jsonl", {"x": 1}, ["sdr"]).done == {"a": [ROW]}


def test_finished_clips_are_kept_where_the_scores_cannot_be_written(
    tiny_separator: Separator, tiny_mir1k: Path, tmp_path: Path
) -> None:
    def full(rows: list[dict[str, Any]], worst: bytes) -> None:
        raise FileError("scores.json cannot be written to")

    clips = mir1k_clips(tiny_mir1k)[:1]
    with pytest.raises(FileError):
        evaluate_all(tiny_separator, clips, load_protocol("si_sdr"), {}, tmp_path, 1, keep=full)
    (journal,) = tmp_path.glob("*.jsonl")
    assert len(journal.read_text().splitlines()) == 2


def test_long_clips_are_scored_by_fewer_workers_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1 << 20, "SC_PAGE_SIZE": 4096}.__getitem__)  # 4 GiB
    used: list[str] = []

    def count(clip: str) -> list[dict[str, Any]]:
        used.append(threading.current_thread().name)
        time.sleep(0.05)
        return rows_of(clip)

    for bytes_each, most in ((1 << 20, 4), (1 << 30, 2), (1 << 40, 1)):
        used.clear()
        score_all(count, clips(6), Journal(None, FACTS), bytes_each=bytes_each)
        assert len(set(used)) == most
    torch.set_num_threads(1)
