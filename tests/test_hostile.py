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
from markdown_it import MarkdownIt

from hourglass_sep import audio, export, report
from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.inference.separator import Separator
from hourglass_sep.results import figures, scores_file, tables
from hourglass_sep.results.report import make_report
from hourglass_sep.results.show import show_report, show_scores
from hourglass_sep.scoring.evaluation import evaluate, evaluate_all
from hourglass_sep.scoring.journal import Journal
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.songs.separate_song import separate_file
from hourglass_sep.support.errors import CheckpointError, FileError, NotFiniteError, UserError
from hourglass_sep.support.terminal import Forgiving
from hourglass_sep.training import loggers
from hourglass_sep.training.resuming import read_resumable

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
            "model": ("stacks", "channels", "depth", "sources", "fold"),
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
    "a name that does not exist": (card(inference__masks="zzz"), r"inference\.masks='zzz' is not allowed"),
    "what no card says": (card(inference__batch_windows=HUGE), r"inference\.batch_windows=1000000000, which is no"),
    "endless segments": (card(inference__segment_seconds=1e18), "which is no setting"),
    "three sources": (card(model__sources=3), r"model\.sources=3"),
    "a hop without its window": (card(audio={"hop_length": 1}), r"audio\.hop_length=1, at least 16 can be"),
    "frames by the million": (card(audio={"sample_rate_hz": 768_000, "n_fft": 64, "hop_length": 1, "n_freq": 32}),
                              "too little with audio.n_fft=64 at 768000 Hz"),
    "windows that hardly move": (card(inference__window_frames=16384, inference__context_frames=8191),
                                 "leaves 2 of 16384 frames"),
    "windows too large for memory": (card(inference__window_frames=16384, audio__n_fft=65536, audio__n_freq=32768,
                                          audio__hop_length=1024), "too much for its model"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_card_that_is_no_separators_is_refused_before_memory_is_taken(
    kind: str, suffix: str, tiny_separator: Separator, tmp_path: Path
) -> None:
    change, words = CARDS[kind]
    path = tmp_path / f"a.{suffix}"
    description = change(tiny_separator.description)
    if suffix == "ckpt":
        state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
        torch.save({KEY: description, "state_dict": state}, path)
    else:
        tiny_separator.save_weights(path, {})
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
    "of eight bits": (lambda value: value.to(torch.float8_e4m3fn), "in a form"),
    "of half a byte": (lambda value: torch.zeros(value.shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "in a"),
    "beyond single precision": (lambda value: value.double() + 1e300, "its training diverged"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_that_are_none_are_refused(kind: str, tiny_separator: Separator, tmp_path: Path) -> None:
    change, words = TENSORS[kind]
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    name = f"{PREFIX}stem.1.0.weight"
    torch.save(
        {KEY: tiny_separator.description, "state_dict": state | {name: change(state[name])}}, tmp_path / "a.ckpt"
    )
    refused(tmp_path / "a.ckpt", words)


def test_weights_that_share_their_numbers_are_refused(tiny_separator: Separator, tmp_path: Path) -> None:
    """Small files would become networks of any size."""
    wanted = tiny_separator.network.state_dict()
    numbers = torch.zeros(max(value.numel() for value in wanted.values()))
    state = {PREFIX + name: numbers[: value.numel()].view(value.shape) for name, value in wanted.items()}
    torch.save({KEY: tiny_separator.description, "state_dict": state}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", "share their numbers")


def test_only_the_networks_weights_of_a_checkpoint_are_read(tiny_separator: Separator, tmp_path: Path) -> None:
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    content = {KEY: tiny_separator.description, "state_dict": state, "optimizer_states": torch.zeros(50_000_000)}
    torch.save(content, tmp_path / "a.ckpt")
    del content
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_bytes()
    Separator.from_checkpoint(tmp_path / "a.ckpt")
    assert peak_bytes() - before < 100e6


def peak_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def ckpt(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def packed(path: Path) -> None:
    """A hundred million zeros in a small archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))


def half(path: Path) -> None:
    torch.save({"a": torch.zeros(99)}, path)
    os.truncate(path, 300)


def pickled(data: bytes) -> Callable[[Path], None]:
    """An archive as torch writes it, around any pickle."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {"data.pkl": data, "version": b"3", "byteorder": b"little"}.items():
                archive.writestr(f"archive/{name}", content)

    return make


def many(path: Path) -> None:
    """An archive of nothing but names: each takes more memory when it is read than in the file."""
    torch.save({}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(2200):
            archive.writestr(f"{number:02000}", b"")


ARCHIVES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "packed": (packed, "it is packed"),
    "empty": (lambda path: path.touch(), "torch can read"),
    "text": (lambda path: path.write_text("weights"), "torch can read"),
    "whole numbers as keys": (ckpt({1: 2, KEY: {}, "state_dict": {1: torch.zeros(1)}}), "no weights by name"),
    "a list of weights": (ckpt({KEY: {}, "state_dict": [1]}), "no weights by name"),
    "a list": (ckpt([1, 2]), "of something else"),
    "half": (half, "torch can read"),
    "millions of lists": (pickled(b"\x80\x02(" + b"]" * 600_000 + b"l."), "it is packed"),
    "a size for bytes": (pickled(b"\x80\x02cbuiltins\nbytearray\nI9999999999\n\x85R."), "it is packed"),
    "a command": (pickled(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R."), "torch can read"),
    "a directory of many files": (many, "it is packed"),
    "no pickle": (pickled(b"\xff" * 99), "torch can read"),
}  # fmt: skip


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
    tiny_separator.save_weights(tmp_path / "a.safetensors", {})
    (tmp_path / "a.json").write_text(text)
    refused(tmp_path / "a.safetensors", "damaged|of something else")


SIZES = b'{"a":{"dtype":"F32","shape":[18446744073709551615,0],"data_offsets":[0,0]}}'


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff" * 8 + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        b"\0" * 8,
        len(SIZES).to_bytes(8, "little") + SIZES,
        (1 << 25).to_bytes(8, "little") + b" " * (1 << 25),
    ],
)
def test_a_safetensors_file_that_is_none_is_refused(header: bytes, tiny_separator: Separator, tmp_path: Path) -> None:
    tiny_separator.save_weights(tmp_path / "a.safetensors", {})
    (tmp_path / "a.safetensors").write_bytes(header)
    refused(tmp_path / "a.safetensors", "damaged|lacks")


@pytest.mark.parametrize(
    "content", [{}, {"global_step": "3"}, {"optimizer_states": []}, {"optimizer_states": [{"param_groups": [{}]}]}]
)
def test_a_checkpoint_that_does_not_say_how_far_it_is_is_not_resumed(
    content: dict[str, Any], tiny_separator: Separator, tmp_path: Path
) -> None:
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    torch.save({KEY: tiny_separator.description, "state_dict": state, **content}, tmp_path / "a.ckpt")
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
    with pytest.raises(NotFiniteError, match="infinite samples"):
        list(tiny_separator.stream([song], 8000))
    save_weights_of_single_precision(tiny_separator, tmp_path / "a.ckpt")
    with pytest.raises(NotFiniteError, match=r"a\.ckpt overflow"):
        Separator.from_checkpoint(tmp_path / "a.ckpt").separate(song, 8000)
    with pytest.raises(NotFiniteError, match=r"a\.ckpt overflow"):
        export.run(["-n", str(tmp_path / "a.ckpt"), "-o", str(tmp_path / "a.onnx")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "song.wav"]


def save_weights_of_single_precision(separator: Separator, path: Path) -> None:
    state = {PREFIX + name: value for name, value in separator.network.state_dict().items()}
    torch.save({KEY: separator.description, "state_dict": state}, path)


def test_weights_that_overflow_are_no_poor_score(tiny_separator: Separator, tiny_mir1k: Path) -> None:
    with torch.no_grad():
        for value in tiny_separator.network.parameters():
            value.fill_(1e15)
    clip = find_clips(tiny_mir1k)[0]
    with pytest.raises(NotFiniteError, match=f"{clip.name} is not scored: .* the weights overflow"):
        evaluate(tiny_separator, clip, load_protocol("si_sdr"), {})


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
    "place", [{"kind": "mir1k", "root": 3, "weights": 4}, {"kind": "mir1k", "root": "\0", "weights": "x"},
              {"kind": "stems", "tracks": 5}, {"kind": "stems", "tracks": {"a_1_01": [1]}},
              {"kind": "stems", "tracks": {"a_1_01": {"references": {"vocals": [3]}, "estimates": {"vocals": 4}}}}]
)  # fmt: skip
def test_sounds_that_are_nowhere_are_left_out_of_a_report(place: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(scores(audio=place)))
    (part,) = make_report([tmp_path], tmp_path / "out").parts
    assert "are left out" in part.notes[0]


SETTINGS = {
    "window_frames": HUGE,
    "batch_windows": HUGE,
    "segment_seconds": 1e-300,
}


@pytest.mark.parametrize("key", SETTINGS)
def test_settings_of_a_file_of_scores_have_the_bounds_of_a_card(key: str, tiny_mir1k: Path, tmp_path: Path) -> None:
    place = {"kind": "mir1k", "root": str(tiny_mir1k), "weights": "default", "inference": {key: SETTINGS[key]}}
    (tmp_path / "scores.json").write_text(json.dumps(scores(clip="Ani_1_01", rows=None, audio=place) | {
        "rows": [scores(clip="Ani_1_01")["rows"][0]]}))  # fmt: skip
    (part,) = make_report([tmp_path], tmp_path / "out").parts
    assert f"inference settings that cannot be (inference.{key}=" in part.notes[0]


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


ROW = {"clip": "a", "system": "m", "source": "vocals", "n_samples": 9, "sdr": 1.0}


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
    def full(rows: list[dict[str, Any]]) -> None:
        raise FileError("scores.json cannot be written to")

    clips = find_clips(tiny_mir1k)[:1]
    with pytest.raises(FileError):
        evaluate_all(tiny_separator, clips, load_protocol("si_sdr"), {}, tmp_path, 1, keep=full)
    (journal,) = tmp_path.iterdir()
    assert len(journal.read_text().splitlines()) == 2


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


def test_a_safetensors_file_of_weights_reads_as_it_was_written(tiny_separator: Separator, tmp_path: Path) -> None:
    tiny_separator.save_weights(tmp_path / "a.safetensors", {"facts": {"anything": [1, {"a": None}]}})
    again = Separator.from_checkpoint(tmp_path / "a.safetensors").network.state_dict()
    for name, value in safetensors.torch.load_file(tmp_path / "a.safetensors").items():
        assert torch.equal(again[name], value.float())
