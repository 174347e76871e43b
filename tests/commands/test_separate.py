"""The command: files to files, good ones and bad ones."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from hourglass_sep import audio, separate
from hourglass_sep.inference.separator import Separator
from hourglass_sep.songs.console import BatchLog
from hourglass_sep.songs.separate_song import separate_file
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.files import replacing
from tests.helpers.av_files import encode


def noise(n_samples: int, channels: int = 2, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, (n_samples, channels)).clip(-1, 1)


pytestmark = pytest.mark.usefixtures("song")


def files(folder: str | Path = ".") -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


def stems_of(folder: str | Path, suffix: str = "wav") -> list[Tensor]:
    return [audio.read(Path(folder) / f"{name}.{suffix}")[0] for name in ("vocals", "accompaniment")]


def test_paths_go_to_standard_output_and_the_rest_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert separate.run(["song.wav", "-o", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["out/song/vocals.wav", "out/song/accompaniment.wav"]
    assert "device: cpu" in captured.err
    assert "x real time), peak memory" in captured.err
    assert "nothing" not in captured.err
    assert separate.run(["song.wav", "-o", "out", "--overwrite", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert files() == ["out/song/accompaniment.wav", "out/song/vocals.wav", "song.wav"]


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2.0**-15), ("PCM_24", 2.0**-23), ("FLOAT", 1e-6)])
def test_stems_add_up_to_the_song_to_one_step_of_its_format(subtype: str, step: float) -> None:
    loud = noise(100_000, level=0.2)
    soundfile.write("loud.wav", loud, 44100, subtype)
    song, _ = audio.read("loud.wav")
    assert separate.run(["loud.wav", "-q"]) == 0
    assert {audio.info(path).bit_depth for path in files("separated")} == {audio.info("loud.wav").bit_depth}
    total = sum(stems_of("separated/loud"))
    assert float((total - song).abs().max()) <= step * 1.0001


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.flac", "a.m4a", "film.mp4"])
@pytest.mark.parametrize("form", ["wav", "mp3", "ogg", "flac"])
def test_stems_have_the_songs_rate_channels_and_length_in_every_format(name: str, form: str) -> None:
    if name.endswith(("m4a", "mp4")):
        encode(Path(name), noise(30000).T.astype("float32"), 48000, "aac", None, name == "film.mp4")
    else:
        soundfile.write(name, noise(30000), 48000)
    song, rate = audio.read(name)
    assert separate.run([name, "--format", form, "-q", "-o", "out"]) == 0
    for path in files("out"):
        stem, stem_rate = audio.read(path)
        assert (stem.shape, stem_rate) == (song.shape, rate)
    if form in ("wav", "flac"):
        assert float((sum(stems_of(Path("out") / Path(name).stem, form)) - song).abs().max()) < 2.0**-14


@pytest.mark.parametrize("rate", [8000, 11025, 44101, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 6])
def test_any_rate_and_number_of_channels_is_separated(rate: int, channels: int) -> None:
    soundfile.write("odd.wav", noise(rate // 2, channels), rate, "PCM_24")
    assert separate.run(["odd.wav", "-q"]) == 0
    song, _ = audio.read("odd.wav")
    torch.testing.assert_close(sum(stems_of("separated/odd")), song, atol=2.0**-22, rtol=0)


@pytest.mark.parametrize("n_samples", [1, 2, 100])
def test_the_shortest_songs_are_separated(n_samples: int) -> None:
    soundfile.write("short.wav", noise(n_samples, 1), 44100)
    assert separate.run(["short.wav", "-q"]) == 0
    assert all(stem.shape == (1, n_samples) for stem in stems_of("separated/short"))


def test_silence_is_warned_about_and_separated(capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("rest.wav", np.zeros(5000), 22050)
    assert separate.run(["rest.wav"]) == 0
    assert not any(stem.any() for stem in stems_of("separated/rest"))
    assert "rest.wav is silent" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["two words.wav", "Lied ä 歌.wav", "-dash.wav", "per%cent {brace}.wav", "a.b.c.wav"])
def test_odd_names_are_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("song.wav").rename(name)
    assert separate.run(["-o", "out", "--", name]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"out/{Path(name).stem}/vocals.wav"


def test_the_same_song_gives_the_same_samples_twice() -> None:
    for folder in ("one", "two"):
        assert separate.run(["song.wav", "-o", folder, "-q", "--float32"]) == 0
    for one, two in zip(files("one"), files("two"), strict=True):
        assert torch.equal(audio.read(one)[0], audio.read(two)[0])


def test_the_other_stem_is_added_up_taken_away_or_left_out() -> None:
    assert separate.run(["song.wav", "-o", "plain", "-q", "--float32"]) == 0
    for method in ("add", "minus", "none"):
        options = ["song.wav", "-o", method, "-q", "--float32", "--two-stems", "vocals", "--other-method", method]
        assert separate.run(options) == 0
    rest = {method: audio.read(f"{method}/song/no_vocals.wav")[0] for method in ("add", "minus")}
    vocals, accompaniment = stems_of("plain/song")
    assert torch.equal(rest["add"], accompaniment)
    torch.testing.assert_close(rest["minus"], audio.read("song.wav")[0] - vocals)
    assert files("none") == ["none/song/vocals.wav"]
    assert separate.run(["song.wav", "-o", "one", "-q", "--stems", "accompaniment"]) == 0
    assert files("one") == ["one/song/accompaniment.wav"]


class Louder(torch.nn.Module):
    """Masks that make a voice three times as loud as the song, and as much the other way."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor([0.5, 3.0]))

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.gain[:, None, None].expand(1, len(magnitude), 2, *magnitude.shape[-2:])


@pytest.fixture
def louder() -> Separator:
    from hourglass_sep.dsp.stft import Spectrogram

    return Separator(Louder(), Spectrogram(), masks="raw")


@pytest.mark.parametrize("mode", ["none", "rescale", "clamp"])
@pytest.mark.parametrize("depth", ["16", "float32"])
def test_what_is_beyond_full_scale_is_clipped_counted_turned_down_or_cut(
    mode: str, depth: str, louder: Separator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 8000)
    soundfile.write("tone.wav", tone, 8000)
    monkeypatch.setattr(Separator, "load", lambda *_, **__: louder)
    assert separate.run(["tone.wav", "--clip-mode", mode, "--bit-depth", depth]) == 0
    vocals, accompaniment = stems_of("separated/tone")
    error = capsys.readouterr().err
    peak = float(vocals[:, 2000:-2000].abs().max())
    level = float(accompaniment[:, 2000:-2000].abs().max())
    if mode == "rescale":
        assert 0.95 < peak <= 1
        assert level == pytest.approx(peak / 6, rel=1e-3)  # one gain for both
        assert "turned down to 0.6" in error
    else:
        assert level == pytest.approx(0.25, rel=1e-3)
        assert peak == pytest.approx(1.5 if mode == "none" and depth == "float32" else 1.0, rel=1e-3)
    clipped = mode == "none" and depth == "16"
    assert ("were clipped: --clip-mode rescale" in error) == clipped
    assert files("separated") == ["separated/tone/accompaniment.wav", "separated/tone/vocals.wav"]


def test_a_preview_is_that_part_of_the_song(capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("long.wav", noise(5 * 8000, 1), 8000)
    assert separate.run(["long.wav", "--start", "1.5", "--duration", "2", "-q", "--float32"]) == 0
    song, _ = audio.read("long.wav")
    torch.testing.assert_close(sum(stems_of("separated/long")), song[:, 12000:28000], atol=1e-6, rtol=0)
    assert separate.run(["long.wav", "--duration", "1e305", "-q", "-o", "whole"]) == 0
    for late in ("9", "1e305"):
        assert separate.run(["long.wav", "--start", late, "-o", "late"]) == 1
        assert "nothing is left of it" in capsys.readouterr().err
    assert not Path("late").exists()


def test_a_picture_is_drawn_beside_the_stems(capsys: pytest.CaptureFixture[str]) -> None:
    assert separate.run(["song.wav", "--plot", "-o", "out"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "out/song/picture.png"
    assert Path("out/song/picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(files("out")) == 3


def test_masks_are_refined_and_sounds_rebuilt_as_the_command_line_says() -> None:
    stems = {}
    for name, options in {
        "plain": [],
        "refined": ["--refine", "nmf", "--set", "refine.rank=5"],
        "filtered": ["--reconstruct", "wiener", "--set", "reconstruct.iterations=2"],
        "silent": ["--high-band", "zero"],
    }.items():
        assert separate.run(["song.wav", "-o", name, "-q", "--float32", *options]) == 0
        stems[name] = stems_of(f"{name}/song")
    song, _ = audio.read("song.wav")
    for name in ("refined", "filtered", "silent"):
        assert float((stems[name][0] - stems["plain"][0]).abs().max()) > 1e-3
        if name != "silent":
            torch.testing.assert_close(sum(stems[name]), song, atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="rank=0 is not allowed"):
        separate.run(["song.wav", "-o", "bad", "--refine", "nmf", "--set", "refine.rank=0"])


def test_a_list_on_standard_input_and_what_exists_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("other.flac", noise(5000), 44100)
    assert separate.run(["other.flac", "-q"]) == 0
    before = Path("separated/other/vocals.wav").stat().st_mtime_ns
    monkeypatch.setattr(sys, "stdin", io.StringIO("song.wav\nother.flac\n"))
    assert separate.run(["-", "--skip-existing", "--json"]) == 0
    songs = json.loads(capsys.readouterr().out)["songs"]
    assert [(song["song"], song["status"]) for song in songs] == [("song.wav", "done"), ("other.flac", "skipped")]
    assert songs[0]["duration_seconds"] == pytest.approx(9000 / 44100, abs=1e-3)
    assert songs[0]["stems"]["vocals"] == "separated/song/vocals.wav"
    assert Path("separated/other/vocals.wav").stat().st_mtime_ns == before


def test_songs_found_in_folders_keep_their_folders() -> None:
    for name in ("in/a/01.wav", "in/b/01.wav"):
        Path(name).parent.mkdir(parents=True)
        soundfile.write(name, noise(500), 8000)
    assert separate.run(["-r", "in", "-q", "-o", "in/out"]) == 0
    assert files("in/out") == [f"in/out/{k}/01/{stem}.wav" for k in "ab" for stem in ("accompaniment", "vocals")]


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.wav": (lambda path: None, "does not exist"),
    "empty.wav": (lambda path: path.touch(), "is an empty file"),
    "folderlike.wav": (lambda path: os.mkfifo(path), "is not a plain file"),
    "text.wav": (lambda path: path.write_text("Not a song.\n" * 100), "cannot be read as audio"),
    "text.mp3": (lambda path: path.write_text("Not a song.\n" * 100), "cannot be read as audio"),
    "text.m4a": (lambda path: path.write_text("Not a song.\n" * 100), "cannot be read as audio"),
    "bytes.flac": (lambda path: path.write_bytes(bytes(range(256)) * 40), "cannot be read as audio|no sound"),
    "bare.raw": (lambda path: path.write_bytes(bytes(4000)), "cannot be read as audio|no sound"),
    "nan.wav": (lambda path: soundfile.write(path, np.full(4000, np.nan), 8000, "FLOAT"), "holds NaN"),
    "inf.wav": (lambda path: soundfile.write(path, [0.0] * 70000 + [np.inf], 8000, "DOUBLE"), "holds NaN"),
    "hollow.wav": (lambda path: soundfile.write(path, np.zeros((0, 2)), 8000), "no samples"),
    "slow.wav": (lambda path: soundfile.write(path, np.zeros(10), 10), "10 Hz"),
    "fast.wav": (lambda path: soundfile.write(path, np.zeros(10), 2_000_000_000), "2000000000 Hz"),
    "cut.wav": (lambda path: halve(soundfile.write(path, noise(9000), 8000), path), "truncated"),
    "cut.flac": (lambda path: halve(soundfile.write(path, noise(90000), 8000), path), r"truncated|damaged"),
    "cut.ogg": (lambda path: halve(soundfile.write(path, noise(90000), 8000), path), "truncated"),
    "cut.mp3": (lambda path: halve(soundfile.write(path, noise(90000), 8000), path), "truncated"),
    "cut.m4a": (lambda path: halve(encode(path, noise(90000).T, 44100, "aac"), path), "truncated"),
    "silent.mp4": (lambda path: encode(path, None, 0, "", None, True), "has no sound"),
    "channels.wav": (
        lambda path: path.write_bytes(
            b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\0\0\x40\x1f\0\0\0\0\0\0\0\0\x10\0data\x08\0\0\0" + bytes(8)
        ),
        "cannot be read as audio|no sound",
    ),
}


def halve(_: object, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_song_is_named_in_one_line_leaves_nothing_and_does_not_stop_the_others(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = BROKEN[name]
    make(Path(name))
    before = Path(name).read_bytes() if Path(name).is_file() else None
    assert separate.run([name, "song.wav", "-o", "out", "-q"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert name in line
    assert re.search(words, line), line
    assert files("out") == ["out/song/accompaniment.wav", "out/song/vocals.wav"]
    assert (Path(name).read_bytes() if Path(name).is_file() else None) == before


@pytest.mark.slow
@pytest.mark.parametrize(("form", "mode"), [*((form, "none") for form in audio.FORMATS), ("wav", "rescale")])
def test_a_full_disk_is_named_and_leaves_nothing(form: str, mode: str) -> None:
    soundfile.write("long.wav", noise(400_000), 44100)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "hourglass_sep.separate",
            "long.wav",
            "-o",
            "out",
            "--format",
            form,
            "--clip-mode",
            mode,
            "-q",
        ],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert result.returncode == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert "cannot be written to" in line
    assert "make room" in line
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_made_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert separate.run(["song.wav", "-o", "song.wav/out", "-q"]) == 1
    assert "song.wav/out/song/vocals.wav cannot be written to" in capsys.readouterr().err


def test_what_exists_of_a_song_is_left_and_the_rest_made() -> None:
    assert separate.run(["song.wav", "-o", "out", "-q"]) == 0
    Path("out/song/vocals.wav").unlink()
    kept = Path("out/song/accompaniment.wav").stat().st_mtime_ns
    assert separate.run(["song.wav", "-o", "out", "-q", "--skip-existing", "--plot"]) == 0
    assert files("out/song") == ["out/song/accompaniment.wav", "out/song/picture.png", "out/song/vocals.wav"]
    assert Path("out/song/accompaniment.wav").stat().st_mtime_ns == kept
    Path("out/song/picture.png").unlink()
    assert separate.run(["song.wav", "-o", "out", "-q", "--skip-existing", "--plot"]) == 0
    assert len(files("out/song")) == 3


def test_two_runs_do_not_write_the_same_file_and_what_a_killed_one_left_is_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with replacing([Path("out/song/vocals.wav")]) as (part,):
        part.write_text("of another run")
        assert separate.run(["song.wav", "-o", "out", "-q"]) == 1
        assert "vocals.wav.part is being written by another run" in capsys.readouterr().err
        assert part.read_text() == "of another run"
    Path("out/song/vocals.wav").unlink()
    Path("precious").write_text("precious")
    Path("out/song/vocals.wav.part").write_text("left behind")
    Path("out/song/accompaniment.wav.part").symlink_to(Path("precious").resolve())
    assert separate.run(["song.wav", "-o", "out", "-q"]) == 0
    assert files("out") == ["out/song/accompaniment.wav", "out/song/vocals.wav"]
    assert Path("precious").read_text() == "precious"


def test_a_file_that_appears_in_the_meantime_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = Separator.pairs

    def pairs(self: Separator, *arguments: object) -> Iterator[tuple[Tensor, Tensor]]:
        Path("out/song/accompaniment.wav").write_text("mine")
        return normal(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Separator, "pairs", pairs)
    assert separate.run(["song.wav", "-o", "out", "-q"]) == 1
    assert "accompaniment.wav has appeared in the meantime: add --overwrite" in capsys.readouterr().err
    assert files("out") == ["out/song/accompaniment.wav"]
    assert Path("out/song/accompaniment.wav").read_text() == "mine"


def test_a_song_that_changes_in_the_meantime_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Separator.load

    def change(*arguments: object, **changes: object) -> Separator:
        soundfile.write("song.wav", noise(500, 1), 8000)
        return load(*arguments, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(Separator, "load", change)
    assert separate.run(["song.wav", "-o", "out", "-q"]) == 1
    assert "song.wav is another file than a moment ago" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["chain.ogg", "chain.mp3"])
def test_songs_that_were_joined_are_separated_whole(name: str) -> None:
    soundfile.write(f"one{name[-4:]}", noise(44100 * 40), 44100)
    Path(name).write_bytes(2 * Path(f"one{name[-4:]}").read_bytes())
    if name == "chain.ogg":  # with a serial number of its own
        soundfile.write("two.ogg", noise(44100 * 40), 44100)
        Path(name).write_bytes(Path("one.ogg").read_bytes() + Path("two.ogg").read_bytes())
    assert audio.read(name)[0].shape[1] == pytest.approx(2 * 44100 * 40, rel=0.01)


def test_quiet_songs_are_not_turned_up(louder: Separator, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write("quiet.wav", 0.01 * np.sin(np.arange(16000) / 10), 8000)
    monkeypatch.setattr(Separator, "load", lambda *_, **__: louder)
    for mode in ("none", "rescale"):
        assert separate.run(["quiet.wav", "--clip-mode", mode, "-o", mode, "-q"]) == 0
    for one, other in zip(stems_of("none/quiet"), stems_of("rescale/quiet"), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full", "| head -c 0"])
def test_closed_and_full_streams_do_not_matter(shell: str) -> None:
    command = f"{sys.executable} -m hourglass_sep.separate song.wav -o out {shell}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert files("out") == ["out/song/accompaniment.wav", "out/song/vocals.wav"]


def test_an_interrupted_command_fails(capsys: pytest.CaptureFixture[str]) -> None:
    report = BatchLog()
    report.interrupted(3)
    assert report.finish() == 1
    assert "interrupted: 0 of 3 song(s) done" in capsys.readouterr().err


def test_sound_before_silence_is_no_silent_song(capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.zeros(8000 * 100)
    samples[:1000] = noise(1000, 1)[:, 0]
    soundfile.write("fading.wav", samples, 8000)
    assert separate.run(["fading.wav"]) == 0
    assert "is silent" not in capsys.readouterr().err


def test_names_with_control_characters_stay_in_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert separate.run(["bad\nname\x1b31m.wav"]) == 1
    assert "bad\\nname\\x1b31m.wav does not exist" in capsys.readouterr().err


def test_names_in_another_encoding_are_names(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    Path("song.wav").rename(name)
    assert separate.run([name, "-o", "out", "-q"]) == 0
    assert len(files("out")) == 2


HOSTILE = {
    "colours": b"red\x1b[31m",
    "a title": b"\x1b]0;owned\x07",
    "a line break": b"one\ntwo",
    "carriage return and backspace": b"gone\rhere\x08\x08",
    "C1 controls": "\x9b31m".encode(),
    "another encoding": b"caf\xe9",
}


def printed(command: list[str], terminal: bool) -> tuple[bytes, bytes]:
    """What a command prints, on a terminal or into pipes."""
    if not terminal:
        result = subprocess.run(command, capture_output=True)
        return result.stdout, result.stderr
    main, side = pty.openpty()
    process = subprocess.Popen(command, stdout=side, stderr=side, stdin=subprocess.DEVNULL, env=os.environ | PLAIN)
    os.close(side)
    data = b""
    with suppress(OSError):  # EIO: the other end is closed
        while block := os.read(main, 1 << 16):
            data += block
    process.wait()
    os.close(main)
    return data, b""


PLAIN = {"TERM": "dumb", "NO_COLOR": "1"}


@pytest.mark.slow
def test_paths_go_to_pipes_to_the_byte_and_to_terminals_without_controls() -> None:
    for name in HOSTILE.values():
        Path(os.fsdecode(b"in/" + name + b".wav")).parent.mkdir(exist_ok=True)
        Path(os.fsdecode(b"in/" + name + b".wav")).write_bytes(Path("song.wav").read_bytes())
    Path("in/broken\x1b.wav").symlink_to("nowhere")
    Path("in/other.\x1b[2J").touch()
    command = [sys.executable, "-m", "hourglass_sep.separate", "-v", "--stems", "vocals", "-r", "in", "gone\x1b[2J.wav"]
    output, errors = printed([*command, "-o", "piped"], terminal=False)
    names = [name.replace(b"\n", rb"\n") for name in sorted(HOSTILE.values(), key=os.fsdecode)]
    assert output == b"".join(b"piped/" + name + b"/vocals.wav\n" for name in names)
    assert b"\x1b" not in errors
    shown, _ = printed([*command, "-o", "shown"], terminal=True)
    assert set(shown) & {*range(32), 127} <= set(b"\r\n")
    assert "\x9b".encode() not in shown
    assert b"\rhere" not in shown
    for text in (rb"shown/red\x1b[31m/vocals.wav", rb"nothing matches gone\x1b[2J.wav", rb"broken\x1b.wav is a link"):
        assert text in shown


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_an_option_that_does_not_exist_is_quoted_without_controls(terminal: bool) -> None:
    command = [sys.executable, "-m", "hourglass_sep.separate", "song.wav", "--\x1b[31mred.wav"]
    assert all(b"\x1b" not in text for text in printed(command, terminal))
    assert any(rb"--\x1b[31mred.wav" in text for text in printed(command, terminal))


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="no folder here that refuses even root")
def test_a_folder_that_nothing_may_be_written_to_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert separate.run(["song.wav", "-o", "/sys/kernel/out", "-q"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "/sys/kernel/out/song/vocals.wav cannot be written to (" in line
    assert "choose another folder" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stems", "vocals", "--two-stems", "vocals"], "do not go together"),
        (["--overwrite", "--skip-existing"], "do not go together"),
        (["--stems", "drums"], "drums"),
        (["-n", "nobody"], "nobody"),
        (["--format", "flac", "--float32"], "--format wav"),
        (["--start", "-1"], "--start"),
    ],
)
def test_options_that_cannot_be_are_refused_before_work(options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        separate.run(["song.wav", "-o", "out", *options])
    assert not Path("out").exists()


def test_what_nobody_thought_of_does_not_stop_the_other_songs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("bad.wav", noise(500), 8000)
    soundfile.write("good.wav", noise(500), 8001)
    normal = Separator.pairs

    def pairs(self: Separator, blocks: Iterator[Tensor], rate: int, ticker: object) -> Iterator[tuple[Tensor, Tensor]]:
        if rate == 8000:
            raise RuntimeError("out of\nmemory")
        return normal(self, blocks, rate, ticker)  # type: ignore[arg-type]

    monkeypatch.setattr(Separator, "pairs", pairs)
    assert separate.run(["bad.wav", "good.wav", "-q"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.wav could not be separated (RuntimeError: out of memory)" in line
    assert files("separated") == ["separated/good/accompaniment.wav", "separated/good/vocals.wav"]


def test_separate_file_is_the_same_from_python(tiny_separator: Separator) -> None:
    paths = separate_file(tiny_separator, "song.wav", "out", format="flac")
    assert [str(path) for path in paths] == ["out/song/vocals.flac", "out/song/accompaniment.flac"]
    with pytest.raises(UserError, match="exists"):
        separate_file(tiny_separator, "song.wav", "out", format="flac")
    with pytest.raises(UserError, match="does not exist"):
        separate_file(tiny_separator, "gone.wav", "out")


def test_separate_takes_paths_arrays_and_tensors(tiny_separator: Separator) -> None:
    tensor, rate = audio.read("song.wav")
    by_tensor = tiny_separator.separate(tensor, rate)
    by_array = tiny_separator.separate(tensor.numpy().astype("float64"), np.int64(rate))  # type: ignore[arg-type]
    by_path = tiny_separator.separate("song.wav")
    assert by_path.sample_rate_hz == 44100
    assert isinstance(by_array["vocals"], np.ndarray)
    assert torch.equal(by_path["vocals"], by_tensor["vocals"])
    np.testing.assert_array_equal(by_array["vocals"], by_tensor["vocals"].numpy())


def start(*options: str) -> subprocess.Popen[str]:
    """The command, in work: something has been written, and the fourth segment waits for a minute."""
    code = (
        "import time; from hourglass_sep import separate; "
        "from hourglass_sep.inference import separator; step = separator.Separator._separate_segment\n"
        "waits = iter([0, 0, 0, 60])\n"
        "def slow(*arguments): time.sleep(next(waits, 0)); return step(*arguments)\n"
        "separator.Separator._separate_segment = slow; separate.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 60
    while not list(Path("out").rglob("*.part")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_whole_files_only(number: signal.Signals) -> None:
    soundfile.write("long.wav", noise(44100 * 200), 44100)
    before = Path("long.wav").read_bytes()
    process = start("song.wav", "long.wav", "-o", "out", "-q")
    while not Path("out/long").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    left = files("out")
    assert [path for path in left if not path.endswith(".part")] == [
        "out/song/accompaniment.wav",
        "out/song/vocals.wav",
    ]
    assert Path("long.wav").read_bytes() == before
    if number != signal.SIGKILL:
        assert process.returncode == 1
        (line,) = errors.splitlines()
        assert "interrupted: 1 of 2 song(s) done" in line
        assert "--skip-existing" in line
        assert len(left) == 2
        assert not Path("out/long").exists()
    assert separate.run(["song.wav", "long.wav", "-o", "out", "--skip-existing", "--duration", "1"]) == 0
    assert len(files("out")) == 4


@pytest.mark.slow
def test_separate_imports_neither_lightning_nor_wandb_nor_hydra_nor_librosa() -> None:
    code = (
        "import sys; from hourglass_sep import separate; code = separate.run(['song.wav', '-q']); "
        "bad = {'pytorch_lightning', 'lightning', 'wandb', 'hydra', 'librosa', 'matplotlib'} & set(sys.modules); "
        "assert not bad, bad; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_song() -> None:
    """The default weights, 44.1 kHz stereo: four minutes and sixteen, and both below a gibibyte."""
    peaks = []
    for minutes in (4, 16):
        with soundfile.SoundFile("long.wav", "w", 44100, 2) as file:
            for _ in range(minutes):
                file.write(noise(44100 * 60))
        command = [sys.executable, "-m", "hourglass_sep.separate", "long.wav", "--json", "--overwrite"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(json.loads(result.stdout)["peak_memory_mib"])
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 1024
