"""The list of weights: those that ship, and files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hourglass_sep import Separator, models, separate
from hourglass_sep.checkpoints import shipped, store
from hourglass_sep.checkpoints.card import upgraded
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.support.errors import CheckpointError
from tests.helpers.weights import BAND, weights_of

OLD = Path(__file__).resolve().parents[1] / "records" / "old"
pytestmark = pytest.mark.usefixtures("here")


def test_the_weights_that_ship_are_listed_without_torch() -> None:
    code = """
import sys
from hourglass_sep import models, separate
models.run([])
models.run(["--json"])
try:
    separate.run(["--list-models"])
except SystemExit as end:
    assert not end.code
loaded = {"torch", "soundfile", "hydra"} & sys.modules.keys()
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_stem_that_shipped_weights_lack_is_refused_without_torch() -> None:
    code = """
import sys
from hourglass_sep import separate
sys.argv = ["separate", "song.wav", "--two-stems", "drums"]
try:
    separate.main()
except SystemExit as end:
    assert end.code == 2
assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    (line,) = result.stderr.splitlines()
    assert line == "error: --two-stems 'drums' is no stem of these weights: they have vocals, accompaniment"


def test_a_summary_says_what_the_separator_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = models.run(["--json"])
    assert json.loads(capsys.readouterr().out) == {"models": found}
    assert [summary["name"] for summary in found] == ["default", "large"]
    for summary in found:
        separator = Separator.from_pretrained(summary["name"])
        assert summary["sources"] == list(separator.sources) == list(SOURCES)
        assert summary["sample_rate_hz"] == separator.spectrogram.sample_rate_hz
        assert summary["channels"] == separator.spectrogram.channels
        assert summary["parameters"] == sum(value.numel() for value in separator.network.parameters())
        assert summary["bytes"] == store.shipped_path(summary["name"]).stat().st_size
        assert summary["trained_on"] == separator.facts["trained_on"]
        assert summary["licence"] == separator.facts["licence"] == "MIT"
        for source in SOURCES:
            scores = separator.facts["test_scores_db"][source]
            assert summary["test_scores_db"][source] == {name: scores[name] for name in ("gnsdr", "gsir", "gsar")}


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_table_has_names_sources_rate_size_scores_data_and_licence(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    models.run([])
    listed = capsys.readouterr().out
    for words in ("default", "large", "accompaniment", "8000 Hz", "mono", "1.09 M", "8.7 MB", "vocals 10.23", "MIR-1K"):
        assert words in listed
    assert max(map(len, listed.splitlines())) <= int(columns)
    with pytest.raises(SystemExit) as caught:
        separate.run(["--list-models"])
    assert not caught.value.code
    assert capsys.readouterr().out == listed


FACTS = {
    "trained_on": "my \x1b[31mband",
    "data_licence": "CC BY-NC-SA 4.0",
    "test_scores_db": {
        "protocol": {"name": "park2018_dsd100", "average": "median"},
        "clips": "50 songs",
        **{name: {"clips": 50, "sdr": 4.0 + k, "isr": 9.0, "sdr_95": [1, 2]} for k, name in enumerate(BAND)},
    },
}


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_file_is_described_by_its_card_and_medians_are_called_so(
    suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    weights_of(Path(f"band.{suffix}"), BAND, FACTS, channels=2)
    (summary,) = models.run([f"band.{suffix}"])
    assert summary["sources"] == list(BAND)
    assert summary["channels"] == 2
    assert summary["test_scores_db"]["bass"] == {"sdr": 5.0, "isr": 9.0}
    listed = capsys.readouterr().out
    assert "stereo" in listed
    assert "median SDR" in listed
    assert "bass 5.00" in listed
    assert "CC BY-NC-SA" in listed
    assert "\x1b" not in listed


def test_a_network_of_another_package_is_listed_and_not_imported(capsys: pytest.CaptureFixture[str]) -> None:
    weights_of(Path("mine.safetensors"), BAND)
    card = json.loads(Path("mine.json").read_text())
    card["network"] = {"_target_": "this_would_run.Code", "arguments": {}}
    Path("mine.json").write_text(json.dumps(card))
    Path("this_would_run.py").write_text("raise RuntimeError")
    (summary,) = models.run(["mine.safetensors"])
    assert summary["network"] == "this_would_run.Code"
    assert "this_would_run" not in sys.modules


@pytest.mark.parametrize(
    "facts",
    [
        {"trained_on": 3, "licence": None, "data_licence": ["a"]},
        {"test_scores_db": [1]},
        {"test_scores_db": {"protocol": "mine", "vocals": 3, "drums": {"sdr": "high", "clips": 3}}},
        {"test_scores_db": {"protocol": {"name": [], "average": {}}, "vocals": {"sdr": float("inf")}}},
        {"test_scores_db": {"vocals": {"sdr": 3, "sar": 4}, "drums": {"isr": 5}}},
        {},
    ],
)
def test_facts_may_be_anything(facts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    weights_of(Path("mine.ckpt"), BAND, facts)
    models.run(["mine.ckpt", "--json"])
    json.loads(capsys.readouterr().out)
    models.run(["mine.ckpt"])
    assert "mine.ckpt" in capsys.readouterr().out


def test_names_and_files_are_listed_together(capsys: pytest.CaptureFixture[str]) -> None:
    weights_of(Path("one.ckpt"), ("speech",))
    assert [summary["name"] for summary in models.run(["large", "one.ckpt"])] == ["large", "one.ckpt"]


def test_what_is_no_weights_is_named() -> None:
    torch.save({}, "other.ckpt")
    for name, words in {
        "nobody": "no weights named 'nobody'",
        "gone.ckpt": "gone.ckpt is not a file",
        "other.ckpt": "something else",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            models.run([name])


def test_a_damaged_installation_is_named_and_does_not_matter_to_files(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "weights").mkdir()
    (here / "weights" / "default.safetensors").write_bytes(b"nothing")
    monkeypatch.setattr(shipped, "WEIGHTS_DIR", here / "weights")
    with pytest.raises(CheckpointError, match=r"default\.safetensors is damaged: install hourglass-sep again"):
        models.run([])
    with pytest.raises(CheckpointError, match=r"default\.json is missing or damaged: install"):
        separate.run(["song.wav"])
    weights_of(Path("mine.ckpt"), BAND)
    models.run(["mine.ckpt"])


def test_the_card_that_ships_is_the_former_one_in_the_present_format() -> None:
    former = upgraded(json.loads((OLD / "card_v1.json").read_text()))
    assert former["network"]["arguments"].pop("growth") == 0  # no network has it any more
    assert shipped.shipped_card("default") == former
    assert all(upgraded(card) is card and card["format"] == store.FORMAT for card in shipped.shipped_cards().values())
