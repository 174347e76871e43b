"""Which songs are found, where their stems go, and what is refused before any work starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hourglass_sep.errors import SettingError, UserError
from hourglass_sep.song_search import Song
from hourglass_sep.songs import Output, plan


def make(path: Path, channels: int = 1, rate: int = 8000, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = path.suffix[1:].upper() if path.suffix in (".wav", ".flac") else "WAV"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (800, channels)), rate, subtype, format=form)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_are_named_by_the_pattern() -> None:
    song = Song(make(Path("mix.v2.flac")), "mix.v2")
    output = Output(Path("out"), "{stem}s/{track}.{trackext}.{ext}", stems=["vocals"], format="mp3")
    (job,) = plan([song], output)
    assert job.stems == {"vocals": Path("out/vocalss/mix.v2.flac.mp3")}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["vocals", "accompaniment"]),
        ({"stems": ["accompaniment"]}, ["accompaniment"]),
        ({"two_stems": "vocals"}, ["vocals", "no_vocals"]),
        ({"two_stems": "accompaniment", "other_method": "none"}, ["accompaniment"]),
        ({"two_stems": "vocals", "other_method": "minus"}, ["vocals", "no_vocals"]),
    ],
)
def test_stems_are_those_asked_for(settings: dict[str, object], names: list[str]) -> None:
    (job,) = plan([Song(make(Path("a.wav")), "a")], Output(**settings))  # type: ignore[arg-type]
    assert list(job.stems) == names


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stems": ["drums"]}, "drums"),
        ({"two_stems": "drums"}, "drums"),
        ({"other_method": "guess"}, "guess"),
        ({"format": "aac"}, "aac"),
        ({"clip_mode": "limit"}, "limit"),
        ({"start_seconds": -1.0}, "--start -1"),
        ({"start_seconds": float("nan")}, "--start nan"),
        ({"duration_seconds": 0.0}, "--duration 0"),
        ({"filename": "{song}.{ext}"}, "song"),
        ({"filename": "{track"}, "cannot be read"),
        ({"filename": "{track:d}/{stem}"}, "cannot be read"),
        ({"filename": "{track!x}/{stem}"}, "cannot be read"),
        ({"filename": "{track:{y}}/{stem}"}, "cannot be read"),
        ({"filename": "{0}/{stem}"}, "field {0}"),
        ({"stems": []}, "--stems is empty"),
        ({"duration_seconds": float("inf")}, "--duration inf"),
    ],
)
def test_settings_that_do_not_exist_are_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Output(**settings)  # type: ignore[arg-type]


def test_songs_whose_stems_would_have_one_name_are_refused() -> None:
    songs = [Song(make(Path(name)), Path(name).stem) for name in ("song.wav", "Song.flac")]
    with pytest.raises(UserError, match=r"song\.wav and Song\.flac would both be written to"):
        plan(songs, Output())
    plan(songs, Output(filename="{track}.{trackext}/{stem}.{ext}"))
    same = [Song(make(Path(name)), "01") for name in ("one/01.wav", "two/01.wav")]
    with pytest.raises(UserError, match=r"{folder}/{track}/{stem}"):
        plan(same, Output())
    assert (
        len({path for job in plan(same, Output(filename="{folder}/{track}/{stem}.{ext}")) for path in job.outputs}) == 4
    )
    with pytest.raises(SettingError, match=r"names wav files \.flac"):
        plan(same[:1], Output(filename="{stem}.flac"))
    with pytest.raises(SettingError, match=r"put {stem} into it"):
        plan(songs[:1], Output(filename="{track}.{ext}"))
    with pytest.raises(SettingError, match="the name of a file"):
        plan(songs[:1], Output(filename="{track}/"))


@pytest.mark.parametrize("settings", [{}, {"overwrite": True}, {"skip_existing": True}])
def test_a_song_is_never_replaced_by_a_stem(settings: dict[str, bool], here: Path) -> None:
    """Not even under the stem's temporary name, or by another song's."""
    own = make(Path("out/vocals/vocals.wav"))
    with pytest.raises(UserError, match="would be overwritten"):
        plan([Song(own, "vocals")], Output(Path("out"), **settings))  # type: ignore[arg-type]
    other = make(Path("other.wav"))
    with pytest.raises(UserError, match="would be overwritten"):
        plan([Song(other, "vocals"), Song(own, "x")], Output(Path("out"), **settings))  # type: ignore[arg-type]
    part = own.rename("out/vocals/accompaniment.wav.part")
    with pytest.raises(UserError, match="would be overwritten"):
        plan([Song(other, "vocals"), Song(part, "x")], Output(Path("out"), **settings))  # type: ignore[arg-type]
    (here / "link").symlink_to(here / "out")
    with pytest.raises(UserError, match="would be overwritten"):
        plan([Song(part, "vocals")], Output(Path("link"), **settings))  # type: ignore[arg-type]


def test_files_that_exist_are_replaced_or_left_out_only_when_asked() -> None:
    song = Song(make(Path("song.wav")), "song")
    make(Path("out/song/vocals.wav"))
    with pytest.raises(UserError, match=r"vocals\.wav exists: add --overwrite"):
        plan([song], Output(Path("out")))
    (job,) = plan([song], Output(Path("out"), skip_existing=True))
    assert (job.skipped, list(job.stems)) == (False, ["accompaniment"])
    assert not plan([song], Output(Path("out"), overwrite=True))[0].skipped
    make(Path("out/song/accompaniment.wav"))
    assert plan([song], Output(Path("out"), skip_existing=True))[0].skipped
    with pytest.raises(UserError, match=r"\(and 1 more\) exists"):
        plan([song], Output(Path("out")))
    (job,) = plan([song], Output(Path("out"), skip_existing=True, picture=True))
    assert job.outputs == [Path("out/song/picture.png")]
    Path("out/song/vocals.wav").unlink()
    Path("out/song/vocals.wav").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        plan([song], Output(Path("out"), overwrite=True))


def test_a_song_that_cannot_be_read_does_not_keep_others_from_being_planned() -> None:
    Path("text.wav").write_text("no sound")
    jobs = plan([Song(Path("text.wav"), "text"), Song(make(Path("a.wav")), "a"), Song(Path("gone.wav"), "g")], Output())
    assert [job.error is None for job in jobs] == [False, True, False]
    assert "text.wav cannot be read" in str(jobs[0].error)
    assert "gone.wav does not exist" in str(jobs[2].error)


@pytest.mark.parametrize("name", ["...wav", "..wav"])
def test_no_stem_is_written_outside_of_the_folder_for_stems(name: str) -> None:
    (job,) = plan([Song(make(Path(name)), Path(name).stem)], Output())
    assert "rename it" in str(job.error)


def test_a_format_that_cannot_hold_a_song_is_refused_before_work() -> None:
    song = Song(make(Path("surround.wav"), channels=6), "surround")
    with pytest.raises(UserError, match=r"surround\.wav has 6 channels, mp3 holds 2 at most: use --format wav"):
        plan([song], Output(format="mp3"))


@pytest.mark.parametrize(
    ("subtype", "expected"),
    [("PCM_16", "PCM_16"), ("PCM_24", "PCM_24"), ("PCM_U8", "PCM_16"), ("FLOAT", "FLOAT"), ("DOUBLE", "FLOAT")],
)
def test_stems_have_the_songs_bit_depth(subtype: str, expected: str) -> None:
    (job,) = plan([Song(make(Path("a.wav"), subtype=subtype), "a")], Output())
    assert job.subtype == expected
