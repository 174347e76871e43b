"""``separate`` with weights of other sources than vocals and accompaniment, and of other packages' networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from hourglass_sep import Separator, audio, export, separate
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.songs.separate_song import separate_file
from hourglass_sep.support.errors import CheckpointError, SettingError, UserError
from tests.helpers.weights import BAND, separator_of, weights_of

pytestmark = pytest.mark.usefixtures("song")


def files(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


def stem(path: str) -> Tensor:
    return audio.read(path)[0]


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("channels", [1, 2])
def test_as_many_stems_are_written_as_the_weights_have_and_they_add_up(
    suffix: str, channels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(weights_of(Path(f"band.{suffix}"), BAND, channels=channels))
    assert separate.run(["song.wav", "-n", name, "-o", "out", "--float32"]) == 0
    order = ["vocals", "drums", "bass", "other"]
    assert capsys.readouterr().out.splitlines() == [f"out/song/{stem}.wav" for stem in order]
    stems = [stem(f"out/song/{name}.wav") for name in order]
    torch.testing.assert_close(torch.stack(stems).sum(0), stem("song.wav"), atol=1e-5, rtol=0)
    expected = Separator.load(name).separate("song.wav")
    for source, waveform in zip(order, stems, strict=True):
        torch.testing.assert_close(waveform, expected[source], atol=1e-6, rtol=0)
        assert float(waveform.abs().max()) > 1e-3


def test_stems_are_chosen_among_those_of_the_weights() -> None:
    name = str(weights_of(Path("band.ckpt"), BAND))
    assert separate.run(["song.wav", "-n", name, "-o", "out", "-q", "--stems", "bass, drums"]) == 0
    assert files("out") == ["bass.wav", "drums.wav"]


def test_the_rest_of_a_stem_is_the_sum_of_the_others_and_the_song_without_it() -> None:
    name = str(weights_of(Path("band.ckpt"), BAND))
    shared = ["song.wav", "-n", name, "-q", "--float32"]
    assert separate.run([*shared, "-o", "all"]) == 0
    for method in ("add", "minus", "none"):
        assert separate.run([*shared, "-o", method, "--two-stems", "drums", "--other-method", method]) == 0
    assert files("none") == ["drums.wav"]
    assert files("add") == files("minus") == ["drums.wav", "no_drums.wav"]
    others = torch.stack([stem(f"all/song/{name}.wav") for name in ("bass", "other", "vocals")]).sum(0)
    assert torch.equal(stem("add/song/drums.wav"), stem("all/song/drums.wav"))
    torch.testing.assert_close(stem("add/song/no_drums.wav"), others, atol=1e-6, rtol=0)
    torch.testing.assert_close(stem("minus/song/no_drums.wav"), others, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["add", "minus"])
def test_the_rest_of_a_single_source_is_the_song_without_it(method: str) -> None:
    name = str(weights_of(Path("one.ckpt"), ("vocals",), masks="raw"))
    shared = ["song.wav", "-n", name, "-q", "--float32"]
    assert separate.run([*shared, "-o", "one"]) == 0
    assert files("one") == ["vocals.wav"]
    assert separate.run([*shared, "-o", "two", "--two-stems", "vocals", "--other-method", method]) == 0
    vocals, rest = stem("two/song/vocals.wav"), stem("two/song/no_vocals.wav")
    assert torch.equal(vocals, stem("one/song/vocals.wav"))
    torch.testing.assert_close(rest, stem("song.wav") - vocals, atol=1e-6, rtol=0)
    assert float(rest.abs().max()) > 1e-3


@pytest.mark.parametrize("method", ["add", "minus"])
def test_stems_are_files_of_their_own_where_case_does_not_matter(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ("Vocals", "vocals", "no_vocals", "R&B (live).")
    name = str(weights_of(Path("odd.ckpt"), sources))
    assert separate.run(["song.wav", "-n", name, "-o", "out", "--json", "--float32"]) == 0
    stems = json.loads(capsys.readouterr().out)["songs"][0]["stems"]
    assert stems == {
        "vocals": "out/song/vocals_2.wav",
        "Vocals": "out/song/Vocals.wav",
        "no_vocals": "out/song/no_vocals.wav",
        "R&B (live).": "out/song/R&B (live).wav",
    }
    expected = Separator.load(name).separate("song.wav")
    for source, path in stems.items():
        torch.testing.assert_close(stem(path), expected[source], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stems", "vocals,drms"], r"--stems 'drms' is no stem of these weights: did you mean drums\? they have voc"),
        (["--stems", "accompaniment"], r"'accompaniment' is no stem .*: they have vocals, drums, bass, other$"),
        (["--two-stems", "Bass"], r"--two-stems 'Bass' is no stem of these weights: did you mean bass\?"),
        (["--stems", ""], "--stems '' is no stem"),
        (["--stems", "bass", "--two-stems", "bass"], "do not go together"),
        (["--refine", "nmf", "--set", "refine.sources=[accompaniment]"], r"refine\.sources='accompaniment' is not all"),
        (["--filename", "{track}.{ext}"], r"gives two files one name: put \{stem\} into it"),
        (["--format", "flac", "--float32"], "--format wav"),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_options_that_the_weights_do_not_have_are_refused_before_work(
    suffix: str, options: list[str], words: str
) -> None:
    name = str(weights_of(Path(f"band.{suffix}"), BAND))
    with pytest.raises(UserError, match=words) as caught:
        separate.run(["song.wav", "-n", name, "-o", "out", *options])
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: None, "weights.ckpt is not a file"),
        (lambda: Path("weights.ckpt").write_text("words"), "not a checkpoint"),
        (lambda: torch.save({"state_dict": {}}, "weights.ckpt"), "something else"),
    ],
)
def test_weights_that_are_none_are_named_in_the_json_object_too(
    make: object, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make()  # type: ignore[operator]
    monkeypatch.setattr(sys, "argv", ["separate", "song.wav", "-n", "weights.ckpt", "-o", "out", "--json"])
    with pytest.raises(SystemExit) as caught:
        separate.main()
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert words in line
    assert json.loads(out)["songs"] == []
    assert not Path("out").exists()


def test_nothing_is_loaded_for_songs_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = ["song.wav", "-n", str(weights_of(Path("band.ckpt"), BAND)), "-o", "out", "-q", "--skip-existing"]
    assert separate.run([*shared, "--stems", "bass"]) == 0
    kept = Path("out/song/bass.wav").stat().st_mtime_ns
    assert separate.run(shared) == 0
    assert files("out") == ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]
    assert Path("out/song/bass.wav").stat().st_mtime_ns == kept
    monkeypatch.setattr(Separator, "load", None)
    assert separate.run(shared) == 0


def test_weights_that_change_before_they_are_loaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(weights_of(Path("band.ckpt"), BAND))
    monkeypatch.setattr(Separator, "load", lambda *_, **__: separator_of(BAND[:3]))
    with pytest.raises(CheckpointError, match=r"band\.ckpt is another file than a moment ago"):
        separate.run(["song.wav", "-n", name, "-o", "out"])
    assert not Path("out").exists()


def test_four_stems_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    name = str(weights_of(Path("band.ckpt"), BAND))
    assert separate.run(["song.wav", "-n", name, "-o", "out", "--plot", "--stems", "bass"]) == 0
    assert capsys.readouterr().out.splitlines() == ["out/song/bass.wav", "out/song/picture.png"]
    assert Path("out/song/picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_separate_file_follows_the_separator(capsys: pytest.CaptureFixture[str]) -> None:
    paths = separate_file(separator_of(BAND), "song.wav", "out", two_stems="bass", format="flac")
    assert [str(path) for path in paths] == ["out/song/bass.flac", "out/song/no_bass.flac"]
    with pytest.raises(SettingError, match="they have vocals, drums"):
        separate_file(separator_of(BAND), "song.wav", "out", stems=["accompaniment"])


NETWORK = """
import torch

class Gains(torch.nn.Module):
    def __init__(self, sources: int) -> None:
        super().__init__()
        self.config = {"sources": sources}
        self.gain = torch.nn.Parameter(torch.arange(1.0, sources + 1))

    def forward(self, magnitude):
        return (0 * magnitude + self.gain[:, None, None])[None]
"""


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Weights of a network class that is defined in the current folder, which is not on ``sys.path``."""
    Path("gains_here.py").write_text(NETWORK)
    with imported("gains_here") as module:
        separator = Separator(module.Gains(4), Spectrogram(), sources=BAND)  # type: ignore[attr-defined]
        separator.save_weights("foreign.safetensors", {})
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", str(Path.cwd()))])
    yield "foreign.safetensors"
    sys.modules.pop("gains_here", None)


@contextmanager
def imported(name: str) -> Iterator[object]:
    sys.path.insert(0, str(Path.cwd()))
    yield __import__(name)
    sys.path.remove(str(Path.cwd()))
    del sys.modules[name]


def test_another_packages_network_is_imported_only_if_it_is_trusted(foreign: str) -> None:
    for trust in ([], ["--trust", "gains"]):
        with pytest.raises(CheckpointError, match=r"--trust gains_here"):
            separate.run(["song.wav", "-n", foreign, "-o", "out", *trust])
        assert "gains_here" not in sys.modules
    with pytest.raises(UserError, match="no stem of these weights"):
        separate.run(["song.wav", "-n", foreign, "-o", "out", "--two-stems", "drms", "--trust", "gains_here"])
    assert "gains_here" not in sys.modules
    assert not Path("out").exists()
    options = ["--trust", "other", "--trust", "gains_here", "--float32", "-q"]
    assert separate.run(["song.wav", "-n", foreign, "-o", "out", *options]) == 0
    for k, name in enumerate(BAND):
        torch.testing.assert_close(stem(f"out/song/{name}.wav"), (k + 1) / 10 * stem("song.wav"), atol=1e-5, rtol=0)


def test_another_packages_network_is_exported_if_it_is_trusted(foreign: str) -> None:
    with pytest.raises(CheckpointError, match=r"--trust gains_here"):
        export.run(["-n", foreign])
    assert export.run(["-n", foreign, "--trust", "gains_here"]) == Path("foreign.onnx")


def test_weights_of_a_higher_rate_separate_songs_of_any_rate() -> None:
    separator = separator_of(BAND)
    separator.spectrogram = Spectrogram(sample_rate_hz=44100, n_fft=4096, hop_length=1024, n_freq=2048)
    separator.save_weights("full.safetensors", {})
    song = stem("song.wav")
    for rate in (8000, 48000):
        soundfile.write("odd.wav", song.T.numpy(), rate, "FLOAT")
        assert separate.run(["odd.wav", "-n", "full.safetensors", "-q", "--overwrite"]) == 0
        total = torch.stack([stem(f"separated/odd/{name}.wav") for name in BAND]).sum(0)
        torch.testing.assert_close(total, song, atol=1e-5, rtol=0)
