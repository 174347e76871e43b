import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep import score
from hourglass_sep.data.stem_folders import find_tracks
from hourglass_sep.results import score_folders
from hourglass_sep.results.report import make_report
from hourglass_sep.results.show import show_scores
from hourglass_sep.support.errors import UserError
from tests.helpers.sounds import museval_bss_eval

RATE = 8000


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def write(folder: Path, name: str, samples: np.ndarray, rate: int = RATE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, samples, rate, subtype="PCM_16")


def musdb(root: Path, estimates: bool = False, stems: tuple[str, ...] = ("bass", "drums", "other", "vocals")) -> Path:
    """Two tracks of stereo stems as MUSDB18-HQ lays them out; estimates are the references with leaks."""
    for t, track in enumerate(("Ann - One", "Bob & Co - Two")):
        sources = {
            stem: noise(20000, 2, seed=10 * t + s) for s, stem in enumerate(("bass", "drums", "other", "vocals"))
        }
        sources["accompaniment"] = sources["bass"] + sources["drums"] + sources["other"]
        folder = root / "test" / track
        write(folder, "mixture.wav", sources["accompaniment"] + sources["vocals"])
        for s, stem in enumerate(stems):
            leak = 0.2 * sources["other" if stem == "vocals" else "vocals"] + 0.02 * noise(20000, 2, seed=99 + s)
            write(folder, f"{stem}.wav", sources[stem] + leak * estimates)
    return root


def run(tmp_path: Path, *options: str) -> dict:
    arguments = ["--reference", f"{tmp_path}/true", "--estimate", f"{tmp_path}/made", "-o", f"{tmp_path}/out", *options]
    score.run(arguments)
    return json.loads((tmp_path / "out" / "scores.json").read_text())


def interrupted_after_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Press Ctrl-C once, before the second track; the tracks that were scored, then and by later runs."""
    original = score_folders.score_track
    scored: list[str] = []
    pressed: list[bool] = []

    def watched(protocol, system, track, *more):
        if scored and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        scored.append(track.name)
        return original(protocol, system, track, *more)

    monkeypatch.setattr(score_folders, "score_track", watched)
    with pytest.raises(UserError, match="1 of 2 clips are done and kept"):
        run(tmp_path, "-j", "1")
    return scored


def value(content: dict, clip: str, system: str, source: str, metric: str) -> float:
    (row,) = [r for r in content["rows"] if (r["clip"], r["system"], r["source"]) == (clip, system, source)]
    return row[metric]


@pytest.mark.slow
def test_another_tools_stems_get_the_scores_that_museval_gives_them(tmp_path: Path) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True)
    content = run(tmp_path)
    assert content["protocol"]["name"] == "museval_v4"
    stems = ("bass", "drums", "other", "vocals")
    for track in ("test/Ann - One", "test/Bob & Co - Two"):
        true, made = (
            np.stack([soundfile.read(tmp_path / side / track / f"{stem}.wav")[0] for stem in stems])
            for side in ("true", "made")
        )
        theirs = museval_bss_eval(true, made, window=RATE, hop=RATE)[:4]
        for metric, values in zip(("sdr", "isr", "sir", "sar"), theirs, strict=True):
            for s, stem in enumerate(stems):
                assert value(content, track, "made", stem, metric) == pytest.approx(np.median(values[s]), abs=1e-6)
    tracks = [value(content, track, "made", "vocals", "sdr") for track in ("test/Ann - One", "test/Bob & Co - Two")]
    assert content["summary"]["made"]["vocals"]["sdr"] == pytest.approx(np.median(tracks))
    assert content["summary"]["made"]["vocals"]["sdr"] > content["summary"]["mixture"]["vocals"]["sdr"] + 3


def test_two_stem_tools_are_scored_against_sums_of_references(tmp_path: Path) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True, stems=("vocals", "accompaniment"))
    content = run(tmp_path, "--sum", "accompaniment=bass+drums+other", "--protocol", "mir1k", "--name", "Spleeter")
    assert list(content["summary"]) == ["mixture", "Spleeter"]
    assert list(content["summary"]["Spleeter"]) == ["accompaniment", "vocals"]
    assert 10 < content["summary"]["Spleeter"]["vocals"]["gnsdr"] < 30
    assert content["audio"]["sums"] == {"accompaniment": ["bass", "drums", "other"]}


def test_dsd100_and_flat_layouts_pair_by_the_tracks_names(tmp_path: Path) -> None:
    for stem in ("bass", "vocals"):
        samples = noise(9000, seed=len(stem))
        write(tmp_path / "DSD100" / "Sources" / "Test" / "001 - A - Song", f"{stem}.wav", samples)
        write(tmp_path / "made" / "001 - A - Song", f"{stem}.flac", samples)
    write(tmp_path / "DSD100" / "Mixtures" / "Test" / "001 - A - Song", "mixture.wav", noise(9000))
    (track,) = find_tracks(tmp_path / "DSD100", tmp_path / "made")
    assert track.name == "Test/001 - A - Song"
    assert list(track.estimates) == ["bass", "vocals"]
    (alone,) = find_tracks(tmp_path / "made" / "001 - A - Song", tmp_path / "made" / "001 - A - Song")
    assert alone.name == "001 - A - Song"
    references, estimates, rate, _ = track.load()
    assert references.shape == estimates.shape == (2, 1, 9000)
    assert rate == RATE
    torch.testing.assert_close(references, estimates, atol=1e-4, rtol=0)  # of 16 bits each


def test_chosen_stems_only_are_scored(tmp_path: Path) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True, stems=("vocals", "drums"))
    assert {r["source"] for r in run(tmp_path, "--stems", "vocals,drums")["rows"]} == {"vocals", "drums"}


def test_a_silent_stem_is_null_and_counted_and_the_others_are_scored(tmp_path: Path) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True)
    write(tmp_path / "made" / "test" / "Ann - One", "drums.wav", np.zeros((20000, 2)))
    content = run(tmp_path)
    assert value(content, "test/Ann - One", "made", "drums", "sdr") is None
    assert value(content, "test/Ann - One", "made", "vocals", "sdr") > 5
    assert content["unscored_rows"] == 1


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True)
    whole = run(tmp_path, "-j", "1")["rows"]
    scored = interrupted_after_one(tmp_path, monkeypatch)
    assert run(tmp_path, "-j", "1")["rows"] == whole
    assert scored == ["test/Ann - One", "test/Bob & Co - Two"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scores.csv", "scores.json"]
    with (tmp_path / "out" / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(whole)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (
            lambda made: write(made, "drums.wav", noise(17999, 2)),
            [],
            r"17999 samples, but .* 20000: up to 0\.25 s are cut",
        ),
        (lambda made: write(made, "drums.wav", noise(20000, 2), 16000), [], "drums.wav has 16000 Hz, but .* has 8000"),
        (lambda made: write(made, "drums.wav", noise(20000)), [], r"drums.wav has 1 channel\(s\), but .* has 2"),
        (lambda made: (made / "drums.wav").unlink(), [], "estimate of test/Ann - One lacks drums .it has bass"),
        (lambda made: write(made, "piano.wav", noise(20000, 2)), [], "reference of test/Ann - One lacks piano"),
        (lambda made: write(made, "drums.flac", noise(9)), [], "drums.wav and drums.flac are the same stem"),
        (lambda made: (made / "drums.wav").write_text("x"), [], "drums.wav cannot be read as audio"),
        (lambda made: made.rename(made.parent / "Ann"), [], "Ann - One in .* has no estimate"),
        (lambda made: write(made.parent / "Eve", "drums.wav", noise(9)), [], "Eve has no reference"),
        (lambda made: None, ["--stems", "vocals,piano"], "lacks piano"),
        (lambda made: None, ["--sum", "band=bass+piano"], "lacks piano, of which band is to be the sum"),
        (lambda made: None, ["--sum", "band"], "--sum band is not understood"),
        (lambda made: None, ["--sum", " =bass"], "--sum  =bass is not understood"),
        (lambda made: None, ["--sum", "band=bass+bass"], "names something twice"),
        (lambda made: None, ["--sum", "vocals=bass+drums"], "has a vocals of its own"),
        (lambda made: None, ["--stems", "vocals,"], "names something twice or not at all"),
        (lambda made: None, ["--name", "mixture"], "another --name"),
        (lambda made: None, ["--protocol", "v5"], "protocol 'v5' is not known: choose from mir1k"),
        (lambda made: None, ["--reference", "nowhere"], "nowhere is not a folder"),
        (lambda made: None, ["-j", "0"], "workers=0"),
    ],
)
def test_what_does_not_pair_up_is_named_before_anything_is_written(
    change, options: list[str], words: str, tmp_path: Path
) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True)
    change(tmp_path / "made" / "test" / "Ann - One")
    with pytest.raises(UserError, match=words) as caught:
        run(tmp_path, *options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "scores.json").exists()


def test_an_estimate_that_could_belong_to_two_references_is_named(tmp_path: Path) -> None:
    for folder in ("true/A/Song", "true/B/Song", "made/Song"):
        write(tmp_path / folder, "vocals.wav", noise(9000))
    with pytest.raises(UserError, match=r"made/Song could belong to .*A/Song and .*B/Song"):
        find_tracks(tmp_path / "true", tmp_path / "made")


def test_estimates_may_lie_inside_the_references_folder_and_behind_links(tmp_path: Path) -> None:
    write(tmp_path / "songs" / "One", "vocals.wav", noise(9000))
    write(tmp_path / "elsewhere", "vocals.wav", noise(9000, seed=1))
    write(tmp_path / "elsewhere", "._vocals.wav", noise(9))  # what macOS leaves behind
    (tmp_path / "songs" / "made").mkdir()
    (tmp_path / "songs" / "made" / "One").symlink_to(tmp_path / "elsewhere")
    (track,) = find_tracks(tmp_path / "songs", tmp_path / "songs" / "made")
    assert track.name == "One"
    assert not torch.equal(*track.load()[:2])


@pytest.mark.parametrize("change", ["protocol", "code", "file", "stems"])
def test_rows_of_another_run_are_not_taken_over(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True)
    scored = interrupted_after_one(tmp_path, monkeypatch)
    options = {"protocol": ["--protocol", "si_sdr"], "stems": ["--stems", "vocals,drums"]}.get(change, [])
    if change == "code":
        monkeypatch.setattr(score_folders, "code_hash", lambda: "other")
    if change == "file":
        write(tmp_path / "made" / "test" / "Ann - One", "drums.wav", noise(20000, 2, seed=5))
    run(tmp_path, "-j", "1", *options)
    assert scored == ["test/Ann - One"] * 2 + ["test/Bob & Co - Two"]


def test_references_without_an_estimate_may_be_left_out(tmp_path: Path) -> None:
    musdb(tmp_path / "true")
    musdb(tmp_path / "made", estimates=True)
    for path in (tmp_path / "made" / "test" / "Ann - One").iterdir():
        path.unlink()
    assert {r["clip"] for r in run(tmp_path, "--partial")["rows"]} == {"test/Bob & Co - Two"}


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("change", [-1, 317, -1900])
def test_stems_of_almost_the_references_length_are_cut_or_padded_and_it_is_said_once(
    suffix: str, change: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = noise(20000, 2)
    for track in ("one", "two"):
        write(tmp_path / "ref" / track, "vocals.wav", reference)
        folder = tmp_path / "est" / track
        folder.mkdir(parents=True)
        longer = np.concatenate([reference, np.zeros((400, 2))])[: 20000 + change]
        soundfile.write(folder / f"vocals.{suffix}", longer, 8000)
    arguments = ["--reference", str(tmp_path / "ref"), "--estimate", str(tmp_path / "est"), "-o", str(tmp_path / "out")]
    score.run([*arguments, "--protocol", "si_sdr"])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(
        r"warning: stems of 2 track\(s\) are longer or shorter .* by up to \d+ samples: cut, or padded", line
    )
    content = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert content["audio"]["fitted_samples"].keys() == {"one", "two"}
    assert {row["n_samples"] for row in content["rows"]} == {20000}


@pytest.mark.parametrize(
    "links", [{"loop": "."}, {"loop": ".", "more": ".."}, {"a": "one", "b": "one"}, {"one/up": "../.."}]
)
def test_folders_that_are_linked_to_are_scored_once(links: dict[str, str], tmp_path: Path) -> None:
    for root in ("ref", "est"):
        write(tmp_path / root / "one", "vocals.wav", noise(9000, 1))
        for name, target in links.items():
            (tmp_path / root / name).symlink_to(target, target_is_directory=True)
    (track,) = find_tracks(tmp_path / "ref", tmp_path / "est")
    assert track.name == "one"


def test_pictures_of_fitted_stems_are_drawn(tmp_path: Path) -> None:
    for root, lengths in (("true", (20000, 19990, 20300)), ("made", (20010, 19000))):
        for length, stem in zip(lengths, ("vocals", "bass", "drums"), strict=False):
            write(tmp_path / root / "one", f"{stem}.wav", noise(length, seed=length))
    (tmp_path / "made" / "one" / "bass.wav").rename(tmp_path / "made" / "one" / "band.wav")
    run(tmp_path, "--protocol", "si_sdr", "--sum", "band=bass+drums")
    (part,) = make_report([tmp_path / "out"], tmp_path / "report").parts
    assert len(part.examples) == 2


def test_what_a_folder_is_called_does_not_depend_on_links_to_it(tmp_path: Path) -> None:
    for root in ("ref", "est"):
        write(tmp_path / root / "b" / "song", "vocals.wav", noise(9000, 1))
    (tmp_path / "ref" / "a").mkdir()
    (tmp_path / "ref" / "a" / "link").symlink_to("../b/song")  # found before what it links to
    (tmp_path / "ref" / "other").symlink_to("../est")
    (track,) = find_tracks(tmp_path / "ref", tmp_path / "est")
    assert track.name == "b/song"


@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_a_stem_that_is_no_file_is_refused_and_not_waited_for(target: str | None, tmp_path: Path) -> None:
    write(tmp_path / "ref" / "one", "vocals.wav", noise(9000, 1))
    path = tmp_path / "est" / "one" / "vocals.wav"
    path.parent.mkdir(parents=True)
    os.mkfifo(path) if target is None else path.symlink_to(target)
    with pytest.raises(UserError, match=r"vocals\.wav is no file: remove it"):
        find_tracks(tmp_path / "ref", tmp_path / "est")


def test_fitted_stems_are_remembered_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for track in ("one", "two"):
        write(tmp_path / "true" / track, "vocals.wav", noise(20000, 2))
        (tmp_path / "made" / track).mkdir(parents=True)
        soundfile.write(tmp_path / "made" / track / "vocals.ogg", noise(19000, 2), RATE)  # its header says no length
    interrupted_after_one(tmp_path, monkeypatch)
    assert run(tmp_path, "-j", "1")["audio"]["fitted_samples"].keys() == {"one", "two"}


def test_a_name_that_is_no_text_is_scored_written_down_and_reported(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for root in ("ref", "est"):
        write(tmp_path / root / "plain", "vocals.wav", noise(9000, 1) + 0.01 * noise(9000, 1, seed=root == "est"))
        (tmp_path / root / "plain").rename(tmp_path / root / name)
    arguments = ["--reference", str(tmp_path / "ref"), "--estimate", str(tmp_path / "est"), "-o", str(tmp_path / "out")]
    score.run([*arguments, "--protocol", "si_sdr"])
    show_scores(tmp_path / "out")
    assert {row["clip"] for row in json.loads((tmp_path / "out" / "scores.json").read_text())["rows"]} == {name}
    assert r"caf\udce9" in (tmp_path / "out" / "scores.csv").read_text()
    make_report([tmp_path / "out"], tmp_path / "report")
    assert r"caf\udce9" in (tmp_path / "report" / "worst.csv").read_text()
