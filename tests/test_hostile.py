"""Files that nobody should trust: a line each, refused in one line before memory is taken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from hourglass_sep import audio, report
from hourglass_sep.errors import CheckpointError, FileError, NotFiniteError, UserError
from hourglass_sep.jobs import Journal
from hourglass_sep.resuming import read_resumable
from hourglass_sep.separation import separate_file
from hourglass_sep.separator import Separator
from hourglass_sep.weights import KEY, describe, save_weights

HUGE = 10**9
PREFIX = "separator.network."


def card(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    """Change settings of a description: ``model__stacks=3``."""

    def change(description: dict[str, Any]) -> Any:
        for key, value in changes.items():
            part, _, name = key.partition("__")
            if name:
                description[part][name] = value
            else:
                description[part] = value
        return description

    return change


CARDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    **{
        f"{part}.{name} of a thousand million": (card(**{f"{part}__{name}": HUGE}), rf"{part}\.{name}=1000000000, \d+")
        for part, names in {
            "model": ("stacks", "channels", "depth", "sources", "fold", "growth"),
            "audio": ("sample_rate_hz", "n_fft", "hop_length", "n_freq"),
            "inference": ("window_frames", "context_frames", "fade_frames"),
        }.items()
        for name in names
    },
    "a size with a point": (card(model__stacks=2.0), r"model\.stacks=2\.0"),
    "a size that is true": (card(model__stacks=True), r"model\.stacks=True"),
    "a size in words": (card(model__stacks="2"), r"model\.stacks='2'"),
    "no number": (card(model__stacks=float("nan")), r"model\.stacks=nan"),
    "a list of settings": (card(model=[1, 2]), "does not say its model"),
    "nothing": (card(audio=None), "does not say its audio"),
    "a setting that is a list": (card(inference__masks=["raw"]), r"inference\.masks=\['raw'\]"),
    "an unknown setting": (card(model__colour=3), "does not describe a network of this version"),
    "frames that hardly move": (card(audio__hop_length=1), r"audio\.hop_length=1, at least 16 can be"),
    "another network": (card(model__channels=8), "expected"),
    "more stacks": (card(model__stacks=3), "lacks"),
    "fewer stacks": (card(model__stacks=1), "which the network has not"),
    "a list": (lambda description: [description], "of something else"),
    "a number": (lambda description: 3, "of something else"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_card_that_is_no_separators_is_refused_before_memory_is_taken(
    kind: str, suffix: str, tiny_separator: Separator, tmp_path: Path
) -> None:
    change, words = CARDS[kind]
    path = tmp_path / f"a.{suffix}"
    description = change(describe(tiny_separator))
    if suffix == "ckpt":
        state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
        torch.save({KEY: description, "state_dict": state}, path)
    else:
        save_weights(tiny_separator, path, {})
        path.with_suffix(".json").write_text(json.dumps(description))
    refused(path, words)


def refused(path: Path, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=words) as caught:
            Separator.from_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def expanded(value: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1).expand(value.shape)


TENSORS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "expanded": (expanded, "more numbers than there are"),
    "enormous": (lambda value: torch.zeros(1).expand(HUGE, HUGE), "expected"),
    "sparse": (lambda value: torch.zeros_like(value).to_sparse(), "in a form that no training writes"),
    "whole numbers": (lambda value: torch.zeros_like(value, dtype=torch.int64), "in a form"),
    "complex": (lambda value: torch.zeros_like(value, dtype=torch.complex64), "in a form"),
    "without numbers": (
        lambda value: torch.zeros_like(value, device="meta"),
        "in a form|cannot be read|torch can read",
    ),
    "a list": (lambda value: value.tolist(), "no tensor"),
    "NaN": (lambda value: value * float("nan"), "its training diverged"),
    "of another shape": (lambda value: value[:1], "expected"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_that_are_none_are_refused(kind: str, tiny_separator: Separator, tmp_path: Path) -> None:
    change, words = TENSORS[kind]
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    name = f"{PREFIX}stem.1.0.weight"
    torch.save({KEY: describe(tiny_separator), "state_dict": state | {name: change(state[name])}}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", words)


def ckpt(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def packed(path: Path) -> None:
    """A hundred million zeros in a small archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))


def half(path: Path) -> None:
    torch.save({"a": torch.zeros(99)}, path)
    os.truncate(path, 300)


ARCHIVES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "packed": (packed, "it is packed"),
    "empty": (lambda path: path.touch(), "torch can read"),
    "text": (lambda path: path.write_text("weights"), "torch can read"),
    "whole numbers as keys": (ckpt({1: 2, KEY: {}, "state_dict": {1: torch.zeros(1)}}), "no weights by name"),
    "a list of weights": (ckpt({KEY: {}, "state_dict": [1]}), "no weights by name"),
    "a list": (ckpt([1, 2]), "of something else"),
    "half": (half, "torch can read"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_file_that_is_no_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    make, words = ARCHIVES[kind]
    make(tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", words)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "", "nul", "9" * 5000, '{"format": NaN}', "\ufeff{}", " " * (1 << 24) + "{}"],
)
def test_a_card_that_is_no_json_is_refused(text: str, tiny_separator: Separator, tmp_path: Path) -> None:
    save_weights(tiny_separator, tmp_path / "a.safetensors", {})
    (tmp_path / "a.json").write_text(text)
    refused(tmp_path / "a.safetensors", "damaged|of something else")


@pytest.mark.parametrize("header", [b"", b"\xff" * 8 + b"{}", (2).to_bytes(8, "little") + b"{}", b"\0" * 8])
def test_a_safetensors_file_that_is_none_is_refused(header: bytes, tiny_separator: Separator, tmp_path: Path) -> None:
    save_weights(tiny_separator, tmp_path / "a.safetensors", {})
    (tmp_path / "a.safetensors").write_bytes(header)
    refused(tmp_path / "a.safetensors", "damaged|lacks")


@pytest.mark.parametrize(
    "content", [{}, {"global_step": "3"}, {"optimizer_states": []}, {"optimizer_states": [{"param_groups": [{}]}]}]
)
def test_a_checkpoint_that_does_not_say_how_far_it_is_is_not_resumed(
    content: dict[str, Any], tiny_separator: Separator, tmp_path: Path
) -> None:
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    torch.save({KEY: describe(tiny_separator), "state_dict": state, **content}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt "):
        read_resumable(str(tmp_path / "a.ckpt"), tiny_separator, 9)


def test_weights_that_overflow_leave_no_stems(tiny_separator: Separator, tmp_path: Path) -> None:
    with torch.no_grad():
        for value in tiny_separator.network.parameters():
            value.fill_(1e15)
    song = 0.1 * torch.randn(2, 20000, generator=torch.Generator().manual_seed(0))
    audio.write(tmp_path / "song.wav", song, 8000)
    with pytest.raises(NotFiniteError, match=r"song\.wav is not separated: the stems hold NaN or infinite samples"):
        separate_file(tiny_separator, tmp_path / "song.wav", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]
    with pytest.raises(ValueError, match="infinite samples"):
        tiny_separator.separate(song, 8000)


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
    "no rows": (scores(rows=[]), "has no rows"),
    "a list for a protocol": (scores(protocol=[1]), "does not say by which protocol"),
    "a number for a name": (scores(clip=3), "row without clip"),
    "a place of sounds that is a list": (scores(audio=[1]), "not understood"),
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_file_of_scores_that_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    content, words = SCORES[kind]
    (tmp_path / "scores.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words) as caught:
        report.make_report([tmp_path], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place", [{"kind": "mir1k", "root": 3, "weights": 4}, {"kind": "mir1k", "root": "\0", "weights": "x"},
              {"kind": "stems", "tracks": 5}, {"kind": "stems", "tracks": {"a_1_01": [1]}},
              {"kind": "stems", "tracks": {"a_1_01": {"references": {"vocals": [3]}, "estimates": {"vocals": 4}}}}]
)  # fmt: skip
def test_sounds_that_are_nowhere_are_left_out_of_a_report(place: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(scores(audio=place)))
    (part,) = report.make_report([tmp_path], tmp_path / "out").parts
    assert "are left out" in part.notes[0]


NAMES = ("<b>bold</b>", "[x](http://evil)", "![x](y.png)", "a|b", "a\nb", "`code`", "https://evil", "\x1b[31mred",
         "$x^2$", "www.evil", "\udce9", "\u202eback")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are_and_do_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = scores(clip=name, system=name, source=name, model=name, name=name)
    (tmp_path / "scores.json").write_text(json.dumps(content))
    made = report.make_report([tmp_path], tmp_path / "out")
    report.show(made)
    text = (tmp_path / "out" / "report.md").read_text()
    for cause in (r"<b>", r"\]\(http", r"!\[x\]", "\x1b", r"a\|b", "\u202e", "https://", r"www\.", r"\$x", "`code`"):
        assert not re.search(r"(?<!\\)" + cause, text), cause
    assert not any(line[:1] == "b" for line in text.splitlines())
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown


def test_a_disk_that_is_full_under_the_journal_is_said_and_what_was_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"x": 1})
    journal.add("one", [{"clip": "one"}])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: open("/dev/full", "a"))  # noqa: SIM115
        with pytest.raises(FileError, match=r"a\.jsonl cannot be written to \(No space left on device\)"):
            journal.add("two", [{"clip": "two"}])
    assert Journal(tmp_path / "a.jsonl", {"x": 1}).done == {"one": [{"clip": "one"}]}


@pytest.mark.slow
@pytest.mark.parametrize("stream", [">&-", ">/dev/full", "2>&-", ">&- 2>&-", "| head -1"])
def test_a_report_is_written_whoever_reads_what_is_printed(stream: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(scores()))
    command = f"set -o pipefail; {sys.executable} -m hourglass_sep.report . -o out {stream}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "report.md").exists()


def test_a_safetensors_file_of_weights_reads_as_it_was_written(tiny_separator: Separator, tmp_path: Path) -> None:
    save_weights(tiny_separator, tmp_path / "a.safetensors", {"facts": {"anything": [1, {"a": None}]}})
    again = Separator.from_checkpoint(tmp_path / "a.safetensors").network.state_dict()
    for name, value in safetensors.torch.load_file(tmp_path / "a.safetensors").items():
        assert torch.equal(again[name], value.float())
