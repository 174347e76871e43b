import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hourglass_sep import audio, report
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.results.report import Report, make_report
from hourglass_sep.results.scores_file import write_results
from hourglass_sep.results.show import show_report
from hourglass_sep.results.tables import cell
from hourglass_sep.scoring.evaluation import evaluate_all
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import summarise
from hourglass_sep.support.errors import UserError
from tests.helpers.clips import clip_of
from tests.helpers.sounds import noise
from tests.helpers.wandb_files import OfflineRun

REPO = Path(__file__).resolve().parents[2]
MIR1K: dict[str, Any] = {
    "name": "mir1k",
    "hash": "1a2b3c4d",
    "description": "BSS Eval v3",
    "metrics": ["sdr", "nsdr", "sir"],
    "headline": {"nsdr": "GNSDR", "sir": "GSIR"},
    "average": "length_weighted_mean",
}
OTHER = MIR1K | {"name": "si_sdr", "hash": "99", "headline": {"si_sdr": "SI-SDR"}, "metrics": ["si_sdr"]}
GONE = {"kind": "mir1k", "root": "/gone/MIR-1K", "weights": "default", "inference": {}}
CLIPS = [f"{singer}_{song}_01" for singer in ("Ani", "bug", "titon") for song in range(1, 9)]
Rows = list[dict[str, Any]]


def rows(
    scores: Mapping[str, float | None], system: str = "model", source: str = "vocals", metrics: Any = MIR1K["metrics"]
) -> Rows:
    return [
        {"clip": clip, "system": system, "source": source, "n_samples": 50_000 + 1000 * len(clip) + 777 * (n % 5)}
        | {metric: value if value is None else value + k for k, metric in enumerate(metrics)}
        for n, (clip, value) in enumerate(scores.items())
    ]


def noisy(mean: float, seed: int, clips: Sequence[str] = CLIPS) -> dict[str, float | None]:
    values = np.random.default_rng(seed).normal(mean, size=len(clips))
    return {clip: float(value) for clip, value in zip(clips, values, strict=True)}


def write(folder: Path, content: Rows, protocol: Any = MIR1K, audio: Any = GONE, model: str = "model") -> Path:
    folder.mkdir(parents=True)
    facts = {"protocol": protocol, "model": model, "audio": audio, "rows": content}
    (folder / "scores.json").write_text(json.dumps(facts))
    return folder


def two_runs(folder: Path) -> list[Path]:
    mixture = rows(dict.fromkeys(CLIPS, 0.0), "mixture")
    compact = write(folder / "compact", mixture + rows(noisy(9, 1)))
    return [compact, write(folder / "paper", mixture + rows({k: v and v + 0.5 for k, v in noisy(9, 1).items()}))]


def table(path: Path, **wanted: str) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if wanted.items() <= row.items()]


def systems(path: Path, **wanted: str) -> list[str]:
    return list(dict.fromkeys(row["system"] for row in table(path, **wanted)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report"


@pytest.mark.parametrize("average", ["length_weighted_mean", "mean", "median"])
def test_averages_are_those_of_the_scores_file_and_lie_in_their_intervals(
    average: str, tmp_path: Path, out: Path
) -> None:
    content: Rows = json.loads((REPO / "experiments" / "default_weights" / "scores.json").read_text())["rows"]
    headline = {"nsdr": "GNSDR", "sir": "GSIR", "sar": "GSAR"}
    protocol = MIR1K | {"headline": headline, "metrics": list(headline), "average": average}
    make_report([write(tmp_path / "run", content, protocol)], out)
    summary = summarise(content, headline, average)
    found = table(out / "report.csv", group="all")
    assert len(found) == len(summary) * 2 * 3
    for row in found:
        expected = summary[row["system"]][row["source"]][row["metric"].lower()]
        if expected is None:
            assert (row["system"], row["metric"], row["value"], row["clips"]) == ("mixture", "GSAR", "", "0")
        else:
            assert float(row["value"]) == pytest.approx(expected, abs=1e-9)
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
            assert row["clips"] == "158"
    if average == "length_weighted_mean":
        (line,) = [line for line in (out / "report.md").read_text().splitlines() if line.startswith("| model | vocals")]
        for metric in ("gnsdr", "gsir", "gsar"):
            assert f" {summary['model']['vocals'][metric]:.2f} [" in line


def test_one_file_keeps_the_names_of_its_systems_and_puts_the_mixture_first(tmp_path: Path, out: Path) -> None:
    content = [
        row
        for name, mean in (("ideal ratio mask", 14), ("model", 9), ("repet sim", -3), ("mixture", 0))
        for row in rows(noisy(mean, 1), name)
    ]
    run = write(tmp_path / "run", content)
    make_report([run], out)
    assert systems(out / "report.csv", group="all") == ["mixture", "repet sim", "model", "ideal ratio mask"]
    make_report([f"mine={run}"], out)
    assert systems(out / "report.csv", group="all")[2] == "mine: model"


def test_baselines_that_agree_are_shown_once_and_models_behind_their_files_names(tmp_path: Path, out: Path) -> None:
    shared = rows(dict.fromkeys(CLIPS, 0.0), "mixture")
    first = write(tmp_path / "a", shared + rows(noisy(9, 1)) + rows(noisy(14, 2), "ideal ratio mask"))
    second = write(tmp_path / "b", shared + rows(noisy(10, 3)) + rows(noisy(15, 4), "ideal ratio mask"))
    make_report([first, f"large={second}"], out)
    oracles = ["a: ideal ratio mask", "large: ideal ratio mask"]
    assert systems(out / "report.csv", group="all") == ["mixture", "a: model", "large: model", *oracles]


def test_scores_of_other_stems_are_not_pooled(tmp_path: Path, out: Path) -> None:
    runs = [write(tmp_path / "a", rows(noisy(9, 1)))]
    runs.append(write(tmp_path / "b", rows(noisy(9, 2)) + rows(noisy(9, 3), source="drums")))
    with pytest.raises(UserError, match=r"report them apart"):
        make_report(runs, out)


def test_a_model_that_is_named_twice_is_shown_twice(tmp_path: Path, out: Path) -> None:
    run = write(tmp_path / "run", rows(noisy(9, 1)))
    make_report([f"one={run}", f"two={run}"], out)
    assert systems(out / "report.csv", group="all") == ["one: model", "two: model"]
    assert [float(table(out / "differences.csv")[0][name]) for name in ("value", "low", "high")] == [0, 0, 0]


def test_a_name_is_a_files_own_where_a_folder_has_an_equals_sign(tmp_path: Path, out: Path) -> None:
    sweep = write(tmp_path / "stacks=2,model=compact", rows(noisy(9, 1)))
    other = write(tmp_path / "other", rows(noisy(8, 2)))
    make_report([sweep, other / "scores.json"], out)
    assert systems(out / "report.csv", group="all") == ["other: model", "stacks=2,model=compact: model"]


def test_protocols_are_never_mixed_in_a_table_or_a_picture(tmp_path: Path, out: Path) -> None:
    again = MIR1K | {"hash": "ffff", "average": "mean"}
    runs = [
        write(tmp_path / "a", rows(noisy(9, 1))),
        write(tmp_path / "b", rows(noisy(9, 1)), again),
        write(tmp_path / "c", rows(noisy(5, 2), metrics=["si_sdr"]), OTHER),
    ]
    make_report(runs, out)
    text = (out / "report.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## mir1k (1a2b3c4d), 24 clips", "## mir1k (ffff), 24 clips", "## si_sdr (99), 24 clips"]
    assert [systems(out / "report.csv", group="all", hash=h) for h in ("1a2b3c4d", "ffff", "99")] == [["model"]] * 3
    assert "minus" not in text
    pictures = {path.name for path in out.glob("*.png")}
    expected = {f"mir1k-{h}-{metric}.png" for h in ("1a2b3c4d", "ffff") for metric in ("nsdr", "sir")}
    assert pictures == expected | {"si_sdr-si_sdr.png"}
    assert all(f"]({name})" in text for name in pictures)


def test_two_models_are_compared_clip_by_clip_the_better_minus_the_worse(tmp_path: Path, out: Path) -> None:
    make_report(two_runs(tmp_path), out)
    first, second = table(out / "differences.csv")
    assert (first["system"], first["minus"], first["clips"]) == ("paper: model", "compact: model", "24")
    assert (first["metric"], second["metric"]) == ("GNSDR", "GSIR")
    assert [float(first[name]) for name in ("value", "low", "high")] == pytest.approx([0.5] * 3)
    text = (out / "report.md").read_text()
    assert "### paper: model minus compact: model" in text
    assert "| vocals | 24 | **+0.50 [+0.50, +0.50]** |" in text


def test_any_two_systems_are_compared_by_their_names_or_their_files(tmp_path: Path, out: Path) -> None:
    runs = two_runs(tmp_path)
    make_report(runs, out, compare=["compact", "mixture"])
    row = table(out / "differences.csv")[0]
    assert (row["system"], row["minus"]) == ("compact: model", "mixture")
    assert float(row["value"]) == pytest.approx(9, abs=0.5)
    with pytest.raises(UserError, match=r"'nobody'.* mixture, compact: model, paper: model"):
        make_report(runs, out, compare=["compact", "nobody"])


def test_a_difference_that_may_be_nothing_is_not_bold(tmp_path: Path, out: Path) -> None:
    runs = [write(tmp_path / f"run{seed}", rows(noisy(9, seed))) for seed in (1, 2)]
    make_report(runs, out)
    row = table(out / "differences.csv")[0]
    assert float(row["low"]) < 0 < float(row["high"])
    assert "**" not in (out / "report.md").read_text()


def test_clips_that_differ_are_said_and_differences_are_over_those_of_both(tmp_path: Path, out: Path) -> None:
    easy = dict.fromkeys(CLIPS[:4], 20.0)
    first = write(tmp_path / "a", rows(noisy(9, 1) | easy))
    second = write(tmp_path / "b", [row for row in rows(noisy(8, 1)) if row["clip"] not in easy])
    make_report([first, second], out)
    text = (out / "report.md").read_text()
    assert "clips differ (b: model 20, a: model 24 clips)" in text
    row = table(out / "differences.csv")[0]
    assert row["clips"] == "20"
    assert float(row["value"]) == pytest.approx(1.0)  # the draws of one seed, around 9 and 8
    make_report([first, second], out, compare=["b", "a"])
    assert [float(table(out / "differences.csv")[0][name]) for name in ("low", "high")] == pytest.approx([-1.0] * 2)
    with pytest.raises(UserError, match="no clip in common"):
        make_report([first, write(tmp_path / "c", rows({"amy_1_01": 3.0}))], out)
    longer = [row | {"n_samples": 7} for row in rows(noisy(9, 1))]
    with pytest.raises(UserError, match="not as long"):
        make_report([first, write(tmp_path / "d", longer)], out)


def test_clips_without_a_score_are_left_out_and_counted(tmp_path: Path, out: Path) -> None:
    scores = dict(noisy(9, 1))
    kept = make_report([write(tmp_path / "kept", rows(dict(list(scores.items())[2:])))], out).parts[0].scores[0]
    holes = rows(scores | dict.fromkeys(CLIPS[:2])) + rows(dict.fromkeys(CLIPS), source="drums")
    make_report([write(tmp_path / "holes", holes)], out)
    vocals, *_ = table(out / "report.csv", group="all", metric="GNSDR")
    assert vocals["clips"] == "22"
    assert float(vocals["value"]) == pytest.approx(kept["value"], abs=0.05)
    lines = (out / "report.md").read_text().splitlines()
    assert "- model, vocals: GNSDR is without 2 of 24 clips, which have no score." in lines
    assert "| model | drums | - | - |" in lines
    assert len([line for line in lines if "is without" in line]) == 2
    assert len([line for line in lines if line.startswith("- A dash")]) == 1


def test_old_scores_of_mir1k_have_rows_for_their_singers_and_those_of_other_songs_have_none(
    tmp_path: Path, out: Path
) -> None:
    make_report([write(tmp_path / "run", rows(noisy(9, 1)))], out)
    ani = table(out / "report.csv", group="Ani", metric="GNSDR")[0]
    assert ani["clips"] == "8"
    own = [row for row in rows(noisy(9, 1)) if row["clip"].startswith("Ani")]
    assert float(ani["value"]) == pytest.approx(
        np.average([r["nsdr"] for r in own], weights=[r["n_samples"] for r in own])
    )
    cell = f"{float(ani['value']):.2f} [{float(ani['low']):.2f}, {float(ani['high']):.2f}]"
    assert f"| Ani | 8 | {cell} |" in (out / "report.md").read_text()
    make_report([write(tmp_path / "songs", rows(noisy(9, 1)), audio={"kind": "stems"})], out)
    assert {row["group"] for row in table(out / "report.csv")} == {"all"}
    assert "by group" not in (out / "report.md").read_text()


def test_drawing_singers_widens_the_intervals_and_wants_singers(tmp_path: Path, out: Path) -> None:
    by_singer = {clip: value and value + 3 * len(clip.split("_")[0]) for clip, value in noisy(0, 1).items()}
    run = write(tmp_path / "run", rows(by_singer))
    widths = []
    for resample in ("clip", "group"):
        row = make_report([run], out, resample=resample).parts[0].scores[0]
        widths.append(row["high"] - row["low"])
    assert widths[1] > 1.5 * widths[0]
    assert "draws of groups" in (out / "report.md").read_text()
    report.run([str(run), "-o", str(out), "--resample", "singer"])  # the earlier word
    assert "draws of groups" in (out / "report.md").read_text()
    with pytest.raises(UserError, match=r"do not say the group \(singer or artist\) of Ani_1_01: leave it out"):
        make_report([write(tmp_path / "songs", rows(noisy(9, 1)), audio={"kind": "stems"})], out, resample="group")
    with pytest.raises(UserError, match="all clips are of one group"):
        make_report([write(tmp_path / "one", rows(noisy(9, 1, CLIPS[:5])))], out, resample="group")


def test_a_group_called_all_is_not_taken_for_all_clips(tmp_path: Path, out: Path) -> None:
    bands = [row | {"group": "all" if n < 3 else "x"} for n, row in enumerate(rows(noisy(9, 1)))]
    part = make_report([write(tmp_path / "run", bands)], out).parts[0]
    assert {(r["group"], r["clips"]) for r in part.scores} == {("all", 24), ("all (group)", 3), ("x", 21)}


def test_clips_of_several_rates_are_weighed_by_their_seconds(tmp_path: Path, out: Path) -> None:
    pair = [
        row | {"n_samples": n, "seconds": s}
        for row, (n, s) in zip(rows({"a": 1.0, "b": 4.0}), [(44100, 1.0), (16000, 2.0)], strict=True)
    ]
    part = make_report([write(tmp_path / "run", pair)], out).parts[0]
    assert part.scores[0]["value"] == pytest.approx(1.0 / 3 + 4.0 * 2 / 3 + 1)  # nsdr is the second metric
    same = [row | {"n_samples": n, "seconds": n / 16000} for row, n in zip(pair, (16000, 48000), strict=True)]
    old = [{name: value for name, value in row.items() if name != "seconds"} for row in same]
    values = [
        make_report([write(tmp_path / name, content)], out).parts[0].scores[0]["value"]
        for name, content in (("same", same), ("old", old))
    ]
    assert values[0] == values[1] == pytest.approx(4.25)


def test_the_worst_clips_are_the_first_systems_lowest_scores(tmp_path: Path, out: Path) -> None:
    good = rows({clip: 5.0 + n for n, clip in enumerate(CLIPS)}) + rows(dict.fromkeys(CLIPS, 6.5), source="drums")
    good[3]["sir"] = -20.0
    run = write(tmp_path / "run", good + rows(dict.fromkeys(CLIPS, 1.0), "bad"))
    make_report([run], out, compare=["model", "bad"], worst=4)
    found = [(row["rank"], row["clip"], row["source"], float(row["NSDR"])) for row in table(out / "worst.csv")]
    assert found[:2] == [("1", CLIPS[0], "vocals", 6.0), ("2", CLIPS[1], "vocals", 7.0)]
    assert [row[2:] for row in found[2:]] == [("drums", 7.5), ("drums", 7.5)]
    make_report([run], out, compare=["model", "bad"], worst=1, metric="sir")
    (row,) = table(out / "worst.csv")
    assert (row["clip"], row["system"], row["SIR"]) == (CLIPS[3], "model", "-20.0")
    with pytest.raises(UserError, match=r"loudness.* nsdr, sir, sdr"):
        make_report([run], out, metric="loudness")


def test_without_the_audio_everything_else_is_made_and_one_line_says_so(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.run([*map(str, two_runs(tmp_path)), "-o", str(out), "--worst", "3"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 3 spectrograms of worst clips are left out: ")
    assert line.endswith(
        "has no spectrograms, as scores of earlier versions: evaluate again for pictures of its worst clips"
    )
    assert line.removeprefix("warning: ") in (out / "report.md").read_text()
    names = ["differences.csv", "nsdr.png", "report.csv", "report.md", "sir.png", "worst.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(table(out / "worst.csv")) == 3


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an evaluation of a small, untrained separator of three sources: six stereo clips at 22.05 kHz."""
    folder = tmp_path_factory.mktemp("evaluated")
    sources = ("bass", "drums", "vocals")
    torch.manual_seed(0)
    separator = Separator(StackedHourglass(stacks=1, channels=4, depth=1, sources=3), Spectrogram(), sources=sources)
    clips = []
    for n in range(6):
        stems = {name: noise(2, 14 * 22050, seed=3 * n + k, level=0.1) for k, name in enumerate(sources)}
        clips.append(clip_of(folder / "clips" / f"song {n}", stems, 22050, f"band {n % 3}"))
    protocol = load_protocol("si_sdr")

    def keep(rows: Rows, worst: bytes) -> None:
        write_results(folder / "run", rows, protocol, "model", {"audio": {"kind": "clips"}}, worst)

    evaluate_all(separator.eval(), clips, protocol, {}, folder / "unfinished", 1, keep=keep)
    assert list((folder / "unfinished").iterdir()) == []
    return folder / "run"


def test_the_worst_clips_are_drawn_from_what_the_evaluation_kept(evaluated: Path, out: Path) -> None:
    part = make_report([evaluated], out, worst=4).parts[0]
    assert part.notes == []
    assert [example.title for example in part.examples] == [
        f"{r['rank']}. {r['clip']}, {r['source']}: SI-SDR {r['SI-SDR']:z.2f} dB" for r in part.worst
    ]
    assert (out / "worst.png").stat().st_size > 10_000
    assert "![worst](worst.png)" in (out / "report.md").read_text()
    clip, source = part.worst[0]["clip"], part.worst[0]["source"]
    stems = {path.stem: audio.read(path)[0] for path in (evaluated.parent / "clips" / clip).glob("*.wav")}

    def spectrum(waveform: torch.Tensor) -> torch.Tensor:
        low = audio.resample(waveform[:, : 12 * 22050].mean(0), 22050, 16000)
        window = torch.hann_window(1024)
        return torch.stft(low, 1024, 256, window=window, return_complex=True, pad_mode="constant").abs()[:512]

    mixture = spectrum(torch.stack([*stems.values()]).sum(0))
    levels = part.examples[0].levels_db
    assert part.examples[0].seconds == pytest.approx(12.0, abs=0.05)
    for kind, expected in (("mixture", mixture), ("reference", spectrum(stems[source]))):
        decibels = 20 * (expected / mixture.max()).log10().clamp_min(-127.5 / 20)
        heard = slice(0, 480)  # below the resampler's cut-off
        np.testing.assert_allclose(levels[kind][heard], decibels[heard], atol=0.26)  # steps of 0.5 dB
    assert np.abs(levels["estimate"] - levels["reference"]).mean() > 1


def test_reports_say_in_one_line_that_pictures_need_a_new_evaluation(
    evaluated: Path, tmp_path: Path, out: Path
) -> None:
    content = json.loads((evaluated / "scores.json").read_text())
    damaged = (evaluated / "worst.npz").read_bytes()[:-30]
    for n, (change, worst, words) in enumerate(
        [
            ({"worst.npz": ""}, None, "has no spectrograms, as scores of earlier versions"),
            ({}, None, r"worst.npz cannot be read \(No such file"),
            ({}, b"others", "is not the one of"),
            ({"worst.npz": hashlib.sha256(damaged).hexdigest()}, damaged, "is damaged"),
        ]
    ):
        run = tmp_path / f"run{n}"
        run.mkdir()
        (run / "scores.json").write_text(json.dumps(content | change))
        if worst is not None:
            (run / "worst.npz").write_bytes(worst)
        part = make_report([run], out).parts[0]
        assert part.examples == []
        (note,) = part.notes
        assert re.search(rf"10 spectrograms of worst clips are left out: .*{words}.*: evaluate again", note)
        assert "\n" not in note


def test_clips_that_were_not_among_the_worst_are_left_out_of_the_pictures(evaluated: Path, out: Path) -> None:
    part = make_report([evaluated], out, metric="si_sdri", worst=18).parts[0]
    assert len(part.examples) == 18  # ten of each source were kept, there are six
    part = make_report([evaluated], out, compare=["mixture", "model"]).parts[0]
    assert part.notes[0].endswith("has spectrograms of model only, not of mixture")


def test_groups_get_tables_and_are_drawn_whatever_the_data_set(evaluated: Path, out: Path) -> None:
    part = make_report([evaluated], out, resample="group").parts[0]
    assert part.pool.sources == ["vocals", "bass", "drums"]
    assert {record["group"] for record in part.scores} == {"all", "band 0", "band 1", "band 2"}
    text = (out / "report.md").read_text()
    assert "by group" in text
    assert "draws of groups" in text
    assert "| band 1 | 2 |" in text


def test_the_worst_clips_of_folders_of_stems_are_read(tmp_path: Path, out: Path) -> None:
    rng = np.random.default_rng(0)
    stems = {name: torch.from_numpy(0.1 * rng.standard_normal((2, 30000))).float() for name in ("vocals", "drums", "x")}
    for folder, of in (("reference", {"vocals": "vocals", "drums": "drums"}), ("estimate", {"vocals": "x"})):
        for name, stem in of.items():
            audio.write(tmp_path / folder / "test" / "A song" / f"{name}.wav", stems[stem], 44100)
    content = rows({"test/A song": 3.0}) + rows({"test/A song": 4.0}, source="drums")
    true, made = tmp_path / "reference" / "test" / "A song", tmp_path / "estimate" / "test" / "A song"
    track = {
        "references": {name: [str(true / f"{name}.wav")] for name in ("drums", "vocals")},
        "estimates": {name: str(made / f"{name}.wav") for name in ("drums", "vocals")},
    }
    facts = {"kind": "stems", "tracks": {"test/A song": track}}
    part = make_report([write(tmp_path / "run", content, audio=facts)], out).parts[0]
    assert [example.title for example in part.examples] == ["1. test/A song, vocals: NSDR 4.00 dB"]
    (note,) = part.notes
    assert note.startswith("1 spectrograms")
    assert "drums.wav does not exist" in note

    def shape(waveform: torch.Tensor) -> Any:
        mono = audio.resample(waveform.mean(0), 44100, 16000)
        window = torch.hann_window(1024)
        return torch.stft(mono, 1024, 256, window=window, return_complex=True, pad_mode="constant").abs()[:300].numpy()

    mixture = shape(stems["vocals"] + stems["drums"])
    for kind, waveform in (("reference", stems["vocals"]), ("estimate", stems["x"])):
        expected = 20 * np.log10(shape(waveform) / mixture.max())
        found = part.examples[0].levels_db[kind][:300]
        assert np.abs(found - expected).mean() < 0.3, kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "no JSON"),
        ("[1]", "no file of scores"),
        ({"protocol": "BSS Eval v3", "rows": [1]}, "no file of scores"),
        ({"protocol": MIR1K, "rows": rows({"a": 1.0})}, "does not name its model"),
        ({"protocol": MIR1K, "model": "model", "audio": [1], "rows": rows({"a": 1.0})}, "not understood"),
        ({"protocol": MIR1K | {"metrics": [1]}, "model": "model", "rows": rows({"a": 1.0})}, "not understood"),
        ({"protocol": MIR1K, "model": "model", "rows": rows({"a": 10**400})}, "without nsdr"),
        ("[" * 100_000, "no JSON"),
        ({"protocol": MIR1K, "model": "model", "rows": []}, "no rows"),
        ({"protocol": MIR1K | {"average": "mode"}, "model": "model", "rows": []}, "average"),
        ({"protocol": MIR1K, "model": "model", "rows": [{"clip": "a"}]}, "without clip, system or source"),
        (
            {"protocol": MIR1K, "model": "model", "rows": [row | {"nsdr": "high"} for row in rows({"a": 1.0})]},
            "without nsdr",
        ),
        (
            {"protocol": MIR1K, "model": "model", "rows": [row | {"n_samples": 0} for row in rows({"a": 1.0})]},
            "without n_samples",
        ),
        ({"protocol": MIR1K, "model": "model", "rows": rows({"a": 1.0}) * 2}, "a / model / vocals twice"),
    ],
)
def test_what_is_no_file_of_scores_is_named_with_exit_code_2_and_nothing_is_written(
    content: Any,
    words: str,
    tmp_path: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = write(tmp_path / "good", rows(noisy(9, 1))), tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content if isinstance(content, str) else json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["report", str(good), str(bad), "-o", str(out)])
    with pytest.raises(SystemExit) as error:
        report.main()
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(bad) in line
    assert words in line
    assert not out.exists()


def test_names_are_drawn_and_shown_as_they_are(tmp_path: Path, out: Path) -> None:
    odd = {"$\\foo$ [/b]_1_01": 1.0, "\u6b4c_1_01": 2.0}
    content = rows(odd, "model") + rows(odd, "$^$", "$5_ & $^")
    tracks = {"kind": "stems", "tracks": {name: {} for name in odd}}
    part = make_report([write(tmp_path / "run", content, audio=tracks)], out, worst=2).parts[0]
    show_report(Report([part], []))
    assert "does not say where" in part.notes[0]
    labels = [text.get_text() for axis in part.figures["nsdr"].axes for text in axis.get_yticklabels()]
    assert "\\$^\\$" in labels  # what matplotlib shows as $^$


def test_no_more_than_twenty_clips_are_drawn(tmp_path: Path, out: Path) -> None:
    names = [f"{clip}_{n}" for clip in CLIPS for n in range(2)]
    part = make_report([write(tmp_path / "run", rows(noisy(9, 1, names)))], out, worst=100).parts[0]
    assert len(part.worst) == len(names)
    assert part.notes[0].startswith("20 spectrograms")
    with pytest.raises(UserError, match="--seed=-1"):
        make_report([tmp_path / "run"], out, seed=-1)
    for text in ("", "a="):
        with pytest.raises(UserError, match="names no file"):
            make_report([text], out)


def test_two_files_of_one_name_want_names(tmp_path: Path, out: Path) -> None:
    runs = [write(tmp_path / parent / "evaluate", rows(noisy(9, 1))) for parent in "ab"]
    with pytest.raises(UserError, match=r"both called 'evaluate': give NAME=PATH"):
        make_report(runs, out)


def test_a_report_that_cannot_be_written_leaves_the_last_one_as_it_was(tmp_path: Path, out: Path) -> None:
    run = write(tmp_path / "run", rows(noisy(9, 1)))
    make_report([run], out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    (out / "sir.png.part").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        make_report([run], out, seed=5)
    (out / "sir.png.part").rmdir()
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(UserError, match="choose another folder"):
        make_report([run], out / "report.md")


def test_the_terminal_shows_every_number_within_100_columns(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = MIR1K | {"headline": {m: f"G{m.upper()}" for m in ("sdr", "nsdr", "sir")}}
    content = [
        row
        for name in ("mixture", "a system with quite a long name, [bold]of many words")
        for source in ("vocals", "accompaniment")
        for row in rows(noisy(-12.5, 1), name, source)
    ]
    result = make_report([write(tmp_path / "run", content, protocol)], out)
    show_report(result)
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if not line.startswith(str(tmp_path))]
    assert max(map(len, lines)) <= 100
    for record in result.parts[0].scores:
        if record["group"] == "all":
            assert cell(record) in text
    assert "accompaniment" in text
    assert "[bold]of" in text
    assert all(str(path) in text for path in result.paths)


def test_tables_and_pictures_go_to_an_offline_wandb_run(
    evaluated: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    report.run([str(evaluated), "-o", str(out), "--wandb", "--worst", "2", "--compare", "model", "mixture"])
    logged = OfflineRun(out)
    assert logged.exit_code == 0
    (tables,) = logged.history
    kinds = {key.removesuffix("/_type"): value for key, value in tables.items() if key.endswith("/_type")}
    assert kinds == {
        "report/scores": "table-file",
        "report/differences": "table-file",
        "report/worst": "table-file",
        "report/si_sdr": "image-file",
        "report/si_sdri": "image-file",
        "report/worst_spectrograms": "image-file",
    }
    files = logged.folder / "files"
    worst, scores = (json.loads((files / tables[f"report/{name}/path"]).read_text()) for name in ("worst", "scores"))
    assert [row[3:5] for row in worst["data"]] == [[r["clip"], r["system"]] for r in table(out / "worst.csv")]
    assert [row[-1] for row in worst["data"]] == ["Image"] * 2
    assert len(scores["data"]) == len(table(out / "report.csv"))


def test_help_needs_neither_torch_nor_wandb(tmp_path: Path) -> None:
    code = (
        "import sys; from hourglass_sep import report; report.parser().format_help();"
        "assert not {'torch', 'wandb', 'matplotlib.pyplot'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
