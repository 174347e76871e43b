import csv
import json
import math
from pathlib import Path

import pytest

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.results.scores_file import ranked, write_results
from hourglass_sep.results.show import show_scores
from hourglass_sep.scoring.metrics import bss_eval_sources
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import Row, as_metrics, count_unscored, merge_rows, score_clip, summarise
from hourglass_sep.support.errors import UserError
from tests.helpers.sounds import noise

MIR1K = load_protocol("mir1k")


def row(clip: str, n_samples: int, value: float | None, source: str = "vocals", system: str = "model") -> Row:
    scores = dict.fromkeys(("sdr", "nsdr", "sir", "sar"), value)
    return {"clip": clip, "system": system, "source": source, "n_samples": n_samples} | scores


def averages(rows: list[Row]) -> dict:
    return summarise(rows, MIR1K.headline, MIR1K.average)


def test_a_clips_rows_are_bss_eval_of_each_source_and_nsdr_the_gain_over_the_mixture() -> None:
    references = noise(2, 3000)
    estimate = references + 0.3 * references.flip(0) + 0.1 * noise(2, 3000, seed=1)
    rows = score_clip(MIR1K, "amy_1_01", references, {"model": estimate}, 16000)
    assert [(r["system"], r["source"]) for r in rows] == [
        (MIXTURE, "accompaniment"),
        (MIXTURE, "vocals"),
        ("model", "accompaniment"),
        ("model", "vocals"),
    ]
    expected = bss_eval_sources(references, estimate)
    mixture = bss_eval_sources(references, references.sum(0).expand(2, -1))
    for s, r in enumerate(rows[2:]):
        assert (r["clip"], r["n_samples"]) == ("amy_1_01", 3000)
        assert r["sdr"] == pytest.approx(float(expected.sdr[s]))
        assert r["nsdr"] == pytest.approx(float(expected.sdr[s] - mixture.sdr[s]))
        assert r["sir"] == pytest.approx(float(expected.sir[s]))
        assert r["sar"] == pytest.approx(float(expected.sar[s]))
    assert [r["nsdr"] for r in rows[:2]] == [0.0, 0.0]
    assert [r["sar"] for r in rows[:2]] == [None, None]  # the mixture has no artifacts: only rounding is measured


def test_several_systems_scored_together_score_as_each_alone() -> None:
    references = noise(2, 3000)
    systems = {name: references + noise(2, 3000, seed=s) for s, name in enumerate(("a", "b", "c"), 1)}
    together = score_clip(MIR1K, "clip", references, systems, 16000)
    for name, estimate in systems.items():
        alone = score_clip(MIR1K, "clip", references, {name: estimate}, 16000)
        assert [r for r in together if r["system"] == name] == [
            r | {m: pytest.approx(r[m]) for m in MIR1K.metrics} for r in alone if r["system"] == name
        ]


def test_a_silent_stem_loses_its_own_row_only() -> None:
    references = noise(2, 3000)
    estimate = references + 0.1 * noise(2, 3000, seed=1)
    estimate[0] = 0
    rows = score_clip(MIR1K, "clip", references, {"model": estimate}, 16000)
    assert [r["sdr"] is None for r in rows] == [False, False, True, False]
    assert count_unscored(rows, "sdr") == 1


def test_averages_are_weighted_by_length_and_leave_out_what_has_no_score() -> None:
    rows = [row("a", 10000, 1.0), row("b", 30000, 5.0), row("c", 99999, None)]
    scores = averages(rows)["model"]["vocals"]
    assert scores["gnsdr"] == pytest.approx(4.0)
    assert scores["gsir"] == scores["gsar"] == pytest.approx(4.0)
    assert scores["clips"] == 3
    assert count_unscored(rows, "sdr") == 1
    assert count_unscored([row("a", 10, 1.0) | {"sar": None}], "sdr") == 0
    assert summarise(rows, {"sdr": "SDR"}, "median")["model"]["vocals"]["sdr"] == pytest.approx(3.0)


def test_systems_and_sources_are_averaged_apart() -> None:
    rows = [row("a", 10, 1.0), row("a", 10, 2.0, source="accompaniment"), row("a", 10, 9.0, system="oracle")]
    summary = averages(rows)
    assert summary["model"]["vocals"]["gnsdr"] == 1
    assert summary["model"]["accompaniment"]["gnsdr"] == 2
    assert summary["oracle"]["vocals"]["gnsdr"] == 9
    metrics = as_metrics(rows, MIR1K, "model", "val")
    assert metrics["val/gnsdr_vocals"] == 1
    assert metrics["val/gsar_accompaniment"] == 2


def test_where_no_clip_has_a_score_there_is_none() -> None:
    assert averages([row("a", 10, None)])["model"]["vocals"]["gnsdr"] is None
    assert math.isnan(as_metrics([row("a", 10, None)], MIR1K, "model", "val")["val/gnsdr_vocals"])


def test_rows_of_several_processes_count_once_whoever_made_them() -> None:
    parts = [[row("b", 10, 1.0), row("a", 10, 2.0)], [row("a", 10, 2.0), row("c", 10, 3.0)]]
    assert [r["clip"] for r in merge_rows(parts)] == ["a", "b", "c"]


def test_results_are_plain_json_with_null_for_no_score(tmp_path: Path) -> None:
    rows = [row("a", 10, 1.5), row("b", 10, None)]
    write_results(tmp_path / "new", rows, MIR1K, "model", {"part": "test"})
    content = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert content["part"] == "test"
    assert content["protocol"]["hash"] == MIR1K.hash
    assert content["unscored_rows"] == 1
    assert content["summary"]["model"]["vocals"]["gnsdr"] == 1.5
    assert [r["sdr"] for r in content["rows"]] == [1.5, None]
    with (tmp_path / "new" / "scores.csv").open() as file:
        assert [r["sdr"] for r in csv.DictReader(file)] == ["1.5", ""]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["scores.csv", "scores.json"]


def test_the_table_shows_a_dash_where_there_is_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(c, 10, v, s) for s in ("vocals", "accompaniment") for c, v in (("a", None), ("b", None))]
    write_results(tmp_path, rows, MIR1K, "model", {})
    show_scores(tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for source in ("vocals", "accompaniment"):
        assert ["│", source, *["│", "-"] * 3, "│"] in lines


def test_the_table_goes_from_the_mixture_to_the_best_system() -> None:
    values = {"oracle": [13.0], "model": [8.0, 10.0], "mixture": [0.0], "broken": [], "poor": [-1.0]}
    assert ranked(values) == ["mixture", "broken", "poor", "model", "oracle"]


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path, [row("a", 10, 1.5, "[red]x", "e[/b]")], MIR1K, "e[/b]", {})
    show_scores(tmp_path)
    out = capsys.readouterr().out
    assert "e[/b]" in out
    assert "[red]x" in out


def test_results_are_written_both_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(UserError, match=r"scores.json is a folder"):
        write_results(tmp_path, [row("a", 10, 1.5)], MIR1K, "model", {})
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_no_system_may_be_called_as_the_mixture_is() -> None:
    with pytest.raises(ValueError, match="other names"):
        score_clip(MIR1K, "clip", noise(2, 3000), {MIXTURE: noise(2, 3000)}, 16000)


def test_what_is_shown_names_the_protocol_its_hash_and_the_rows_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path, [row("a", 10, 1.5), row("b", 10, None)], MIR1K, "model", {})
    show_scores(tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    for words in (f"mir1k {MIR1K.hash}", "512 taps", "1 rows have no score", "1.50"):
        assert words in out
