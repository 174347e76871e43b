"""Where songs' stems go, and what is refused before any work starts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hourglass_sep.songs.choices import FILENAME
from hourglass_sep.songs.plan import Output, plan
from hourglass_sep.songs.search import Song
from hourglass_sep.support.errors import SettingError, UserError
from hourglass_sep.support.files import part_of
from tests.helpers.weights import BAND

pytestmark = pytest.mark.usefixtures("here")


def make(path: Path, channels: int = 1, rate: int = 8000, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = path.suffix[1:].upper() if path.suffix in (".wav", ".flac") else "WAV"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (800, channels)), rate, subtype, format=form)
    return path


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
        ({"sources": BAND}, ["vocals", "drums", "bass", "other"]),
        ({"sources": BAND, "stems": ["other", "bass", "other"]}, ["other", "bass"]),
        ({"sources": BAND, "two_stems": "bass"}, ["bass", "no_bass"]),
        ({"sources": ["speech"]}, ["speech"]),
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
        (
            {"stems": ["accompaniment"], "sources": BAND},
            "'accompaniment' is no stem of these weights: they have vocals",
        ),
        ({"two_stems": "accompaniment", "sources": BAND}, "--two-stems 'accompaniment' is no stem"),
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
        ({"filename": "{track:>9999999999}/{stem}"}, "fields take no format or conversion"),
        ({"filename": "{track!r}/{stem}"}, "fields take no format or conversion"),
        ({"filename": "{track.__class__}/{stem}"}, "field {track.__class__}"),
        ({"filename": "{track[0]}/{stem}"}, r"field {track\[0\]}"),
        ({"filename": "{}/{stem}"}, "field {}"),
        ({"filename": "{0}/{stem}"}, "field {0}"),
        ({"filename": "{stem}\0"}, "a NUL"),
        ({"filename": "../{track}/{stem}.{ext}"}, "leaves the folder for stems: say with -o"),
        ({"filename": "{track}/../../{stem}.{ext}"}, "leaves the folder"),
        ({"filename": "/tmp/{track}/{stem}.{ext}"}, "leaves the folder"),
        ({"filename": "{stem}/.."}, "leaves the folder"),
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
    with pytest.raises(SettingError, match=r"names wav files \.flac"):
        plan(songs[:1], Output(filename="{stem}.flac"))
    with pytest.raises(SettingError, match=r"put {stem} into it"):
        plan(songs[:1], Output(filename="{track}.{ext}"))
    with pytest.raises(SettingError, match=r"put {ext} into it"):
        plan(songs[:1], Output(filename="{stem}", sources=["picture"], picture=True))
    with pytest.raises(SettingError, match="the name of a file"):
        plan(songs[:1], Output(filename="{track}/"))


TWINS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "nothing but the stem in common": (("a.wav", "b.wav"), "{track}/{stem}.{ext}"),
    "two types": (("a.wav", "a.flac"), "{track}.{trackext}/{stem}.{ext}"),
    "two folders": (("one/a.wav", "two/a.wav"), "{folder}/{track}/{stem}.{ext}"),
    "the current folder and one below": (("a.wav", "below/a.wav"), "{folder}/{track}/{stem}.{ext}"),
    "one above": (("../a.wav", "a.wav"), "{folder}/{track}/{stem}.{ext}"),
    "a folder by a way round": (("one/../a.wav", "two/a.wav"), "{folder}/{track}/{stem}.{ext}"),
    "two types and two folders": (("one/a.wav", "two/a.wav", "two/a.flac"), "{folder}/{track}.{trackext}/{stem}.{ext}"),
    "types that differ in case": (("a.wav", "a.WAV"), None),
    "folders of one name": (("x/one/a.wav", "y/one/a.wav"), None),
    "a name without a suffix": (("a", "a.wav"), "{track}.{trackext}/{stem}.{ext}"),
}


@pytest.mark.parametrize("kind", TWINS)
def test_the_names_that_a_collision_suggests_are_free_and_in_the_folder(kind: str, here: Path) -> None:
    names, suggestion = TWINS[kind]
    place = here / "there"
    for folder in ("one", "two", "out"):
        (place / folder).mkdir(parents=True)
    os.chdir(place)
    songs = [Song(make(Path(name)), Path(name).stem) for name in names]
    with pytest.raises(UserError, match="would both be written to") as caught:
        plan(songs, Output(filename="{stem}.{ext}" if kind.startswith("nothing") else FILENAME))
    assert (suggestion or "separate them one by one") in str(caught.value)
    if suggestion is not None:
        paths = [path for job in plan(songs, Output(Path("out"), suggestion)) for path in job.outputs]
        assert len({str(path).casefold() for path in paths}) == 2 * len(songs)
        assert all(path.resolve().is_relative_to(place / "out") for path in paths)


@pytest.mark.parametrize(
    ("name", "filename", "expected"),
    [
        ("a.wav", "{folder}/{stem}.{ext}", "there/vocals.wav"),
        ("./a.wav", "{folder}/{stem}.{ext}", "there/vocals.wav"),
        ("../a.wav", "{folder}/{stem}.{ext}", "HERE/vocals.wav"),
        ("below/../a.wav", "{folder}-{stem}.{ext}", "there-vocals.wav"),
        ("below/a.wav", "{folder}/{track}/{stem}.{ext}", "below/a/vocals.wav"),
        ("link/a.wav", "{folder}/{stem}.{ext}", "link/vocals.wav"),
        ("bare", "{trackext}/{stem}.{ext}", "vocals.wav"),
        ("bare", "{track}.{trackext}/{stem}.{ext}", "bare./vocals.wav"),
        ("{stem}.wav", "{track}/{stem}.{ext}", "{stem}/vocals.wav"),
        ("back\\..\\slash.wav", "{track}/{stem}.{ext}", "back\\..\\slash/vocals.wav"),
        ("a\n\x1b.wav", "{track}/{stem}.{ext}", "a\n\x1b/vocals.wav"),
        ("dots. .wav", "{track}/{stem}.{ext}", "dots. /vocals.wav"),
    ],
)
def test_fields_are_made_from_where_a_song_really_lies(name: str, filename: str, expected: str, here: Path) -> None:
    for folder in ("there/below", "elsewhere"):
        (here / folder).mkdir(parents=True)
    os.chdir("there")
    Path("link").symlink_to(here / "elsewhere")
    (job,) = plan([Song(make(Path(name)), Path(name).stem)], Output(Path("out"), filename, stems=["vocals"]))
    assert job.error is None
    assert job.stems["vocals"] == Path("out") / expected.replace("HERE", here.name)


def test_a_song_in_the_root_has_a_folder_too() -> None:
    assert Output(Path("out"), "{folder}/{stem}").path(Song(Path("/a.wav"), "a"), "vocals", "wav") == Path(
        "out/root/vocals"
    )


@pytest.mark.parametrize(
    ("name", "track", "filename"),
    [
        ("...wav", "..", "{track}/{stem}.{ext}"),
        ("a.wav", "../../a", "{track}/{stem}.{ext}"),
        ("bare", "bare", ".{trackext}./{stem}.{ext}"),
        ("bare", "bare", "{stem}/.{trackext}."),
    ],
)
def test_no_field_leads_out_of_the_folder_for_stems(name: str, track: str, filename: str) -> None:
    jobs = plan([Song(make(Path(name)), track), Song(make(Path("b.wav")), "b")], Output(filename=filename))
    assert "rename it" in str(jobs[0].error)
    assert jobs[0].outputs == []
    assert jobs[1].error is None


@pytest.mark.parametrize("track", ["b" * 245, "ä" * 122 + "b", "x" * 251])
def test_a_name_that_is_too_long_is_said_before_work_and_stops_no_other_song(track: str) -> None:
    long = make(Path(f"{track}.wav"))
    jobs = plan(
        [Song(long, track), Song(make(Path("b.wav")), "b")], Output(filename="{track}_{stem}.{ext}", stems=["vocals"])
    )
    assert "bytes in it, where 255 is the most: shorten --filename" in str(jobs[0].error)
    assert jobs[1].error is None
    jobs = plan([Song(long, track)], Output(filename="{track}.{ext}", stems=["vocals"]))
    assert jobs[0].error is None
    jobs = plan([Song(long, track)], Output(Path("/".join(["d" * 200] * 22))))
    assert "bytes long, where 4095 is the most: shorten --filename" in str(jobs[0].error)


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
    assert part == part_of(Path("out/vocals/accompaniment.wav"))
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
