"""Finding songs: folders and links, patterns, lists on standard input, and the suffixes that sound is looked for by."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from hourglass_sep import audio
from hourglass_sep.songs.plan import Output, plan
from hourglass_sep.songs.search import find_songs, names_on
from hourglass_sep.support.errors import UserError
from tests.helpers.av_files import encode

pytestmark = pytest.mark.usefixtures("here")


def make(path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 800), 8000, format="WAV")
    return path


def find(*arguments: str | Path, recursive: bool = False, listed: tuple[str, ...] = (), out: str = "out") -> list[str]:
    return [str(song.path) for song in find_songs(map(str, arguments), recursive, listed, Path(out))]


def test_folders_are_searched_for_sound_but_hidden_files_and_stems_are_not() -> None:
    for name in ("album/b.wav", "album/deep/a.flac", "album/._b.wav", "album/.cache/c.wav", "album/out/b/vocals.wav"):
        make(name)
    (Path("album") / "cover.jpg").touch()
    songs = find_songs(["album"], True, (), Path("album/out"))
    assert [(str(song.path), song.track) for song in songs] == [
        ("album/b.wav", "b"),
        ("album/deep/a.flac", "deep/a"),
    ]


def test_what_is_left_out_of_a_folder_is_said_in_one_line() -> None:
    for name in ("album/b.wav", "album/._b.wav", "album/.cache/c.wav"):
        make(name)
    for name in ("a.jpg", "b.JPG", "c.xyz", "README"):
        Path("album", name).touch()
    Path("album/gone").symlink_to("nowhere")
    Path("album/up").symlink_to("..")
    notes: list[str] = []
    find_songs(["album"], True, (), Path("out"), notes.append)
    assert notes == [
        "left out of album: 4 no sound by name (.jpg, no suffix, .xyz), 2 hidden (._b.wav, .cache), "
        "1 linked to nothing (gone), 1 linked to a folder around it (up)"
    ]
    notes.clear()
    find_songs([str(make("plain/a.wav").parent)], True, (), Path("out"), notes.append)
    assert notes == []


def link(path: str, target: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).symlink_to(target)


LINKS: dict[str, tuple[dict[str, str], list[str]]] = {
    "a folder elsewhere": ({"music/album": "../other"}, ["music/a.wav", "music/deep/c.wav", "music/album/b.wav"]),
    "a folder elsewhere, twice": (
        {"music/album": "../other", "music/zoo": "../other"},
        ["music/a.wav", "music/deep/c.wav", "music/album/b.wav"],
    ),
    "a folder below, under a name that comes first": ({"music/_": "deep"}, ["music/a.wav", "music/deep/c.wav"]),
    "itself": ({"music/loop": "loop"}, ["music/a.wav", "music/deep/c.wav"]),
    "the folder that holds it": ({"music/loop": "."}, ["music/a.wav", "music/deep/c.wav"]),
    "folders that hold it, twice": (
        {"music/deep/one": "..", "music/deep/two": "..", "music/deep/three": "."},
        ["music/a.wav", "music/deep/c.wav"],
    ),
    "a folder around all": ({"music/up": "..", "music/root": "/"}, ["music/a.wav", "music/deep/c.wav"]),
    "a loop through two folders": (
        {"music/album": "../other", "other/back": "../music"},
        ["music/a.wav", "music/deep/c.wav", "music/album/b.wav"],
    ),
    "a link to a link": (
        {"music/album": "../first", "first": "second", "second": "other"},
        ["music/a.wav", "music/deep/c.wav", "music/album/b.wav"],
    ),
    "a song": ({"music/z.wav": "../other/b.wav"}, ["music/a.wav", "music/z.wav", "music/deep/c.wav"]),
    "the same song": ({"music/z.wav": "a.wav"}, ["music/a.wav", "music/deep/c.wav"]),
    "stems": ({"music/done": "../out", "music/one": "../out/x"}, ["music/a.wav", "music/deep/c.wav"]),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_followed_to_each_real_folder_and_song_once(kind: str) -> None:
    for name in ("music/a.wav", "music/deep/c.wav", "other/b.wav", "out/x/vocals.wav"):
        make(name)
    links, expected = LINKS[kind]
    for path, target in links.items():
        link(path, target)
    assert find("music", recursive=True) == expected
    assert sorted(find("music/**/*.wav")) == sorted(expected)


def test_a_song_behind_a_linked_folder_is_named_by_the_link() -> None:
    make("other/deep/b.wav")
    link("music/album", "../other")
    (song,) = find_songs(["music"], True, (), Path("out"))
    assert song.track == "album/deep/b"


def test_stems_lie_around_what_is_searched_or_below_and_are_not_found() -> None:
    make("here/music/a.wav")
    make("here/music/out/b.wav")
    assert find("here/music", recursive=True, out="here") == ["here/music/a.wav", "here/music/out/b.wav"]
    assert find("here", recursive=True, out="here/music/out") == ["here/music/a.wav"]


def test_a_link_to_a_stem_is_no_song() -> None:
    for name in ("music/a.wav", "out/x/vocals.wav"):
        make(name)
    link("music/best.wav", "../out/x/vocals.wav")
    assert find("music", recursive=True) == ["music/a.wav"]


def test_a_folder_that_is_too_deep_is_named_and_not_lost(here: Path) -> None:
    make("music/a.wav")
    os.chdir("music")
    for _ in range(22):  # 4400 bytes and more
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.chdir(here)
    song, deep = find_songs([str(here / "music")], True, (), Path("out"))
    assert song.error is None
    assert "cannot be searched (File name too long): shorten its path" in str(deep.error)


def test_what_cannot_be_searched_is_named_and_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("music/a.wav", "music/locked/b.wav"):
        make(name)
    link("music/broken.wav", "nowhere.wav")
    normal = os.scandir

    def scandir(place: Path) -> object:
        if str(place) == "music/locked":
            raise PermissionError(13, "Permission denied")
        return normal(place)

    monkeypatch.setattr(os, "scandir", scandir)
    errors = {str(song.path): str(song.error) for song in find_songs(["music"], True, (), Path("out"))}
    assert errors["music/a.wav"] == "None"
    assert "music/locked cannot be searched (Permission denied): check its permissions" in errors["music/locked"]
    assert "music/broken.wav is a link that leads nowhere" in errors["music/broken.wav"]


def test_a_folder_wants_r_and_songs_in_it() -> None:
    Path("empty").mkdir()
    for recursive, words in ((False, "empty is a folder: add -r"), (True, "no sound files in empty")):
        (song, other) = find_songs(["empty", str(make("a.wav"))], recursive, (), Path("out"))
        assert words in str(song.error)
        assert other.error is None
        assert [job.error for job in plan([song, other], Output())] == [song.error, None]
    for out in (".", "link"):
        Path("link").unlink(missing_ok=True)
        link("link", ".")
        with pytest.raises(UserError, match="would find its own stems"):
            find(".", recursive=True, out=out)


def test_patterns_are_expanded_where_the_shell_did_not() -> None:
    for name in ("a1.wav", "a2.wav", "b.wav", "odd[1].wav", "deep/a3.wav", "deep[2]/er/a4.wav", ".cache/a5.wav"):
        make(name)
    assert find("a*.wav") == ["a1.wav", "a2.wav"]
    assert find("odd[1].wav") == ["odd[1].wav"]
    assert find("**/a3.wav") == ["deep/a3.wav"]
    assert find("**/a?.wav") == ["a1.wav", "a2.wav", "deep/a3.wav", "deep[2]/er/a4.wav"]
    assert find("**/er/**/*.wav") == find("dee*/**/a4.wav") == ["deep[2]/er/a4.wav"]
    assert "nothing matches c*.wav" in str(find_songs(["c*.wav"], False, (), Path("out"))[0].error)


def test_a_list_stands_for_its_names_and_no_song_comes_twice() -> None:
    for name in ("a.wav", "with space.wav", "-dash.wav"):
        make(name)
    listed = ("with space.wav", "", "-dash.wav", "./a.wav")
    assert find("a.wav", "-", listed=listed) == ["a.wav", "with space.wav", "-dash.wav"]
    with pytest.raises(UserError, match="no songs given"):
        find("-", listed=("",))
    (song,) = find_songs(["a\0.wav"], False, (), Path("out"))
    assert "holds a NUL" in str(song.error)


LISTS: dict[str, tuple[bytes, list[bytes]]] = {
    "lines": (b"a.wav\nb c.wav\n", [b"a.wav", b"b c.wav"]),
    "no line break at the end": (b"a.wav\nb.wav", [b"a.wav", b"b.wav"]),
    "Windows' line breaks": (b"a.wav\r\n\r\nb.wav\r\n", [b"a.wav", b"b.wav"]),
    "find -print0": (b"a.wav\0b\nc.wav\0", [b"a.wav", b"b\nc.wav"]),
    "find -print0, a name that ends in a line break": (b"a.wav\n\0", [b"a.wav\n"]),
    "find -print0, an escape sequence": (b"a\x1b[31m.wav\0b.wav\0c.wav\0", [b"a\x1b[31m.wav", b"b.wav", b"c.wav"]),
    "another encoding": (b"caf\xe9.wav\n\xff\xfe\n", [b"caf\xe9.wav", b"\xff\xfe"]),
    "a byte order mark": (b"\xef\xbb\xbfa.wav\n", [b"a.wav"]),
    "UTF-16, as by PowerShell": ("\ufeffä.wav\r\nb.wav\r\n".encode("utf-16-le"), ["ä.wav".encode(), b"b.wav"]),
    "UTF-16 the other way": ("\ufeffa.wav\nb.wav".encode("utf-16-be"), [b"a.wav", b"b.wav"]),
    "names twice": (b"a.wav\na.wav\n" * 100_000, [b"a.wav"]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_read_as_other_programs_write_them(kind: str) -> None:
    data, expected = LISTS[kind]
    for name in (b"b.wav", b"c.wav"):
        make(os.fsdecode(name))
    assert [os.fsencode(name) for name in names_on(io.BytesIO(data)) if name] == expected


def test_a_long_list_of_songs_is_read_whole() -> None:
    names = [f"a folder with a long name/{number:06}.wav" for number in range(100_000)]
    assert list(names_on(io.StringIO("\n".join(names)))) == names


def sound(form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, (20000, 2)), 44100, format=form)
    return file.getvalue()


class Endless:
    """Gives one block for ever, as /dev/zero and `yes` do, and counts."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return self._block * (size // len(self._block))


NO_LISTS: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        form: (partial(lambda form: io.BytesIO(sound(form)), form), "binary data")
        for form in ("WAV", "FLAC", "MP3", "OGG")
    },
    "a header and no more": (lambda: io.BytesIO(sound("WAV")[:44]), "binary data"),
    "an endless song": (lambda: Endless(sound("WAV")[:60_000]), "binary data"),
    "zeros": (lambda: Endless(bytes(1000)), "longer than 16 MiB"),
    "yes": (lambda: Endless(b"y\n"), "longer than 16 MiB"),
    "one line": (lambda: Endless(b"y"), "longer than 16 MiB"),
    "a name of a megabyte": (lambda: io.BytesIO(b"y" * (1 << 20)), "binary data"),
    "a folder": (lambda: Failing(), "cannot be read"),
}


class Failing:
    def read(self, size: int = -1) -> bytes:
        raise IsADirectoryError(21, "Is a directory")


@pytest.mark.parametrize("kind", NO_LISTS)
def test_what_is_no_list_is_refused_in_one_line_and_read_no_further_than_need_be(kind: str) -> None:
    make("a.wav")
    Path("y").touch()
    stream, words = NO_LISTS[kind]
    with pytest.raises(UserError, match=words) as caught:
        list(names_on(stream()))
    assert "\n" not in str(caught.value)


def test_a_song_that_never_ends_is_refused_by_its_beginning() -> None:
    stream: Any = Endless(sound("WAV")[:60_000])
    with pytest.raises(UserError, match="binary data"):
        list(names_on(stream))
    assert stream.given <= 1 << 17


SAMPLES = {
    "wav pcm_s16le": ".wav .wave .bwf",
    "aiff pcm_s16be": ".aif .aiff .aifc .afc",
    "au pcm_s16be": ".au .snd",
    "ircam pcm_s16le": ".ircam .sf",
    "ogg flac": ".ogg .oga .ogx .ogv .ogm",
    "mp3 libmp3lame": ".mp3 .mpa .m2a .mpga",
    "ipod aac": ".m4a .m4b .m4r .m4v",
    "adts aac": ".aac .adts",
    "latm aac": ".latm .loas",
    "asf wmav2": ".wma .wmv .asf",
    "mov pcm_s16le": ".mov .qt",
    "3gp aac": ".3gp .3gpp .3g2 .3gp2 .3ga .mj2",
    "ismv aac": ".isma .ismv",
    "matroska ac3": ".mka .mkv .mk3d",
    "webm libopus": ".webm .weba",
    "avi libmp3lame": ".avi .divx",
    "mpeg mp2": ".mpg .mpeg .mpe .m2p",
    "vob ac3": ".vob .evo .vro",
    "mpegts mp2": ".ts .tp .trp .mts .m2ts .m2t",
    "rm ac3": ".rm .rmvb",
    **{f"{name} {name}": f".{name}" for name in ("flac", "mp2", "ac3", "eac3", "tta", "aptx", "sbc", "g722")},
    **{f"{name} pcm_s16le": f".{name}" for name in ("w64", "caf", "nut", "gxf")},
    **{f"{name} aac": f".{name}" for name in ("mp4", "f4v")},
    **{f"{name} libmp3lame": f".{name}" for name in ("flv", "swf")},
    "caf alac": ".alac",
    "opus libopus": ".opus",
    "wv wavpack": ".wv",
    "rm real_144": ".ra",
    "amr libopencore_amrnb": ".amr",
    "wtv mp2": ".wtv",
    "voc pcm_u8": ".voc",
    "sox pcm_s32le": ".sox",
    "adx adpcm_adx": ".adx",
    "ast pcm_s16be_planar": ".ast",
    "mmf adpcm_yamaha": ".mmf",
}
"""Container and codec to suffixes: those that PyAV's FFmpeg can write."""

SNDFILE = {
    **{".avr": "AVR", ".nist": "NIST", ".sph": "NIST", ".paf": "PAF", ".pvf": "PVF", ".sd2": "SD2", ".sds": "SDS"},
    **{".8svx": "SVX", ".wve": "WVE", ".rf64": "RF64"},
}
"""Suffix to format: those that libsndfile can write."""

READ_ONLY = {
    **{".ape": "ape ape", ".tak": "tak tak", ".shn": "shn shorten", ".dsf": "dsf dsd_lsbf", ".dff": "iff dsd_msbf"},
    **{".wsd": "wsd dsd_msbf", ".mlp": "mlp mlp", ".thd": "truehd truehd", ".qoa": "qoa qoa", ".osq": "osq osq"},
    **{".mp1": "mp3 mp1float", ".mpc": "mpc8 mpc8", ".spx": "ogg speex", ".ec3": "eac3 eac3", ".dts": "dts dca"},
    **{".dtshd": "dtshd dca", ".awb": "amr libopencore_amrwb", ".gsm": "gsm gsm", ".oma": "oma atrac3"},
    **{".aa3": "oma atrac3plus", ".at3": "wav atrac3", ".vqf": "vqf twinvq", ".qcp": "qcp qcelp", ".hca": "hca hca"},
    **{".xwma": "xwma wmav2", ".mxf": "mxf pcm_s24le", ".dv": "dv dvaudio", ".nsv": "nsv mp3float"},
    **{".nuv": "nuv mp3float", ".amv": "avi adpcm_ima_amv", ".psp": "mov aac"},
}
"""Suffix to demuxer and decoder: those that nothing here can write."""

RATES_HZ = {"real_144": 8000, "libopencore_amrnb": 8000, "g722": 16000, "adpcm_yamaha": 44100, "libmp3lame": 44100}


@pytest.mark.parametrize("suffix", audio.SUFFIXES)
def test_a_suffix_that_is_searched_for_is_of_a_type_that_is_read(suffix: str) -> None:
    path = Path(f"song{suffix}")
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 24000)).astype("float32")
    if suffix in SNDFILE:
        subtype = "ALAW" if suffix == ".wve" else None
        soundfile.write(path, noise[0], 8000, subtype, format=SNDFILE[suffix])
    elif sample := next((key for key, suffixes in SAMPLES.items() if suffix in suffixes.split()), None):
        container, codec = sample.split()
        channels = 2 if codec in ("aptx", "libmp3lame") else 1
        encode(path, noise[:channels], RATES_HZ.get(codec, 48000), codec, container)
    else:
        demuxer, decoder = READ_ONLY[suffix].split()
        assert av.format.ContainerFormat(demuxer, "r").is_input
        assert decoder in av.codecs_available
        return
    assert audio.read(path)[0].shape[1] > 20000


def test_no_suffix_is_searched_for_twice() -> None:
    assert len(set(audio.SUFFIXES)) == len(audio.SUFFIXES)
