import json
import math
from pathlib import Path

import pytest
import torch

from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.evaluate import ORACLE, evaluate, table, write_results
from hourglass_sep.metrics import bss_eval_sources
from hourglass_sep.scoring import MIXTURE, Row, as_metrics, count_unscored, merge_rows, score_clip, summarise
from hourglass_sep.separator import Separator


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def row(clip: str, n_samples: int, value: float | None, source: str = "vocals", system: str = "model") -> Row:
    scores = dict.fromkeys(("sdr", "nsdr", "sir", "sar"), value)
    return {"clip": clip, "system": system, "source": source, "n_samples": n_samples} | scores


def test_a_clips_rows_are_bss_eval_of_each_source_and_nsdr_the_gain_over_the_mixture() -> None:
    references = noise(2, 3000)
    estimate = references + 0.3 * references.flip(0) + 0.1 * noise(2, 3000, seed=1)
    rows = score_clip("amy_1_01", references, {"model": estimate})
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


def test_averages_are_weighted_by_length_and_leave_out_what_has_no_score() -> None:
    rows = [row("a", 10000, 1.0), row("b", 30000, 5.0), row("c", 99999, None)]
    scores = summarise(rows)["model"]["vocals"]
    assert scores["gnsdr"] == pytest.approx(4.0)
    assert scores["gsir"] == scores["gsar"] == pytest.approx(4.0)
    assert scores["clips"] == 3
    assert count_unscored(rows) == 1


def test_systems_and_sources_are_averaged_apart() -> None:
    rows = [row("a", 10, 1.0), row("a", 10, 2.0, source="accompaniment"), row("a", 10, 9.0, system=ORACLE)]
    summary = summarise(rows)
    assert summary["model"]["vocals"]["gnsdr"] == 1
    assert summary["model"]["accompaniment"]["gnsdr"] == 2
    assert summary[ORACLE]["vocals"]["gnsdr"] == 9
    metrics = as_metrics(rows, "model", "val")
    assert metrics["val/gnsdr_vocals"] == 1
    assert metrics["val/gsar_accompaniment"] == 2


def test_where_no_clip_has_a_score_there_is_none() -> None:
    assert summarise([row("a", 10, None)])["model"]["vocals"]["gnsdr"] is None
    assert math.isnan(as_metrics([row("a", 10, None)], "model", "val")["val/gnsdr_vocals"])


def test_rows_of_several_processes_count_once_whoever_made_them() -> None:
    parts = [[row("b", 10, 1.0), row("a", 10, 2.0)], [row("a", 10, 2.0), row("c", 10, 3.0)]]
    assert [r["clip"] for r in merge_rows(parts)] == ["a", "b", "c"]


def test_evaluation_scores_mixture_model_and_oracle_of_real_clips(mir1k_root: Path, tiny_separator: Separator) -> None:
    clips = find_clips(mir1k_root)[5:7]
    summary = summarise(list(evaluate(tiny_separator, clips)))
    assert list(summary) == [MIXTURE, "model", ORACLE]
    for source in ("vocals", "accompaniment"):
        assert summary[MIXTURE][source]["gnsdr"] == 0
        assert 9 < (summary[ORACLE][source]["gnsdr"] or 0) < 20
        assert (summary["model"][source]["gnsdr"] or 0) < 5  # it is not trained


def test_results_are_plain_json_with_null_for_no_score(tmp_path: Path) -> None:
    rows = [row("a", 10, 1.5), row("b", 10, None)]
    write_results(tmp_path / "new", rows, {"part": "test"})
    content = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert content["part"] == "test"
    assert content["unscored_rows"] == 1
    assert content["summary"]["model"]["vocals"]["gnsdr"] == 1.5
    assert [r["sdr"] for r in content["rows"]] == [1.5, None]
    lines = (tmp_path / "new" / "scores.csv").read_text().splitlines()
    assert lines == ["clip,system,source,n_samples,sdr,nsdr,sir,sar", *(f"{c},model,vocals,10,{v}" for c, v in
        (("a", "1.5,1.5,1.5,1.5"), ("b", ",,,")))]  # fmt: skip


def test_the_table_shows_a_dash_where_there_is_no_score() -> None:
    rows = [row(c, 10, v, s) for s in ("vocals", "accompaniment") for c, v in (("a", None), ("b", None))]
    cells = [list(column.cells) for column in table(rows).columns]
    assert cells[:2] == [["model", ""], ["vocals", "accompaniment"]]
    assert cells[2:] == [["-", "-"]] * 3
