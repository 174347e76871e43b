"""Kinds of files that users have and that decoders take otherwise: a line each, as ffmpeg decodes them, or refused."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.support.errors import AudioError
from tests.helpers.ffmpeg_files import (
    MP3,
    PICTURE,
    ape,
    around,
    cut,
    decode,
    ffmpeg,
    flac_says,
    id3v1,
    id3v2,
    joined,
    make,
    mkv_lasts,
    needs_ffmpeg,
    skips,
    song,
    vbri,
    xing,
)

pytestmark = needs_ffmpeg

NOISE = random.Random(0).randbytes(3000)
CBR = (*MP3, "-b:a", "128k", "-write_xing", "0")
VBR = (*MP3, "-q:a", "2", "-write_xing", "0")


def late(folder: Path, name: str, codec: str, seconds: float) -> Path:
    """A video whose sound begins after the picture."""
    plain = make(folder / "plain.wav")
    picture = ("-c:v", "libvpx") if name.endswith("webm") else ("-c:v", "mpeg4")
    ffmpeg("-itsoffset", str(seconds), "-i", plain, *PICTURE, *picture, "-c:a", codec, "-ar", "48000", folder / name)
    return folder / name


def copied(folder: Path, source: Path, name: str) -> Path:
    """What downloaders do: another container around the same packets."""
    ffmpeg("-i", source, "-vn", "-c:a", "copy", folder / name)
    return folder / name


def changing(folder: Path, name: str, first: tuple[str, ...], second: tuple[str, ...]) -> Path:
    """A recorded stream whose rate or channels change."""
    suffix = Path(name).suffix
    return joined(folder / name, make(folder / f"a{suffix}", *first), make(folder / f"b{suffix}", *second))


def as_wav(source: Path, rate: int) -> Path:
    """What copies of DTS discs are: compressed sound that a wav file says is PCM."""
    data = np.frombuffer(source.read_bytes(), np.int16).reshape(-1, 2)
    soundfile.write(source.with_name("disc.wav"), data, rate)
    return source.with_name("disc.wav")


def unknown(path: Path) -> Path:
    """Make the first stream of an mkv one that nobody can decode."""
    path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT", 1))
    return path


AS_FFMPEG: dict[str, Callable[[Path], Path]] = {
    # mp3 without a length of its own
    "mp3 cbr": lambda f: make(f / "a.mp3", *CBR),
    "mp3 cbr, 60 s": lambda f: make(f / "a.mp3", *CBR, seconds=60, channels=1),
    "mp3 cbr, tag in front": lambda f: around(make(f / "a.mp3", *CBR), id3v2(60_000)),
    "mp3 cbr, two tags in front": lambda f: around(make(f / "a.mp3", *CBR), id3v2(500) + id3v2(700)),
    "mp3 cbr, tags behind": lambda f: around(make(f / "a.mp3", *CBR), behind=ape(5000) + id3v1()),
    "mp3 vbr": lambda f: make(f / "a.mp3", *VBR, seconds=4),
    "mp3 abr": lambda f: make(f / "a.mp3", *MP3, "-abr", "1", "-b:a", "160k", "-write_xing", "0", seconds=4),
    "mp3 vbr, 22.05 kHz mono": lambda f: make(f / "a.mp3", *VBR, rate=22050, channels=1),
    "mp3 cut, cbr": lambda f: cut(make(f / "a.mp3", *CBR)),
    # mp3 with a wrong one
    "mp3, no frames counted": lambda f: xing(make(f / "a.mp3", *MP3, "-q:a", "2"), 0),
    "mp3, half the frames counted": lambda f: xing(make(f / "a.mp3", *MP3, "-q:a", "2"), 0.5),
    "mp3, too many frames counted": lambda f: xing(make(f / "a.mp3", *MP3, "-q:a", "2"), 1.5),
    "mp3, VBRI header": lambda f: vbri(make(f / "a.mp3", *MP3, "-b:a", "128k")),
    "mp3, gapless": lambda f: make(f / "a.mp3", *MP3, "-q:a", "4"),
    # junk
    "mp3, junk inside": lambda f: around(make(f / "a.mp3", *MP3), inside=NOISE),
    "mp3, zeros behind": lambda f: around(make(f / "a.mp3", *MP3), behind=bytes(9000)),
    "mp3, junk in front": lambda f: around(make(f / "a.mp3", *CBR), before=bytes(700)),
    "mp3 in wav": lambda f: around(make(f / "a.wav", *MP3), inside=NOISE),
    "mp3 joined": lambda f: joined(f / "a.mp3", make(f / "b.mp3", *MP3), make(f / "c.mp3", *MP3)),
    "aac, tag behind": lambda f: around(make(f / "a.aac"), behind=id3v1()),
    "ac3, tag behind": lambda f: around(make(f / "a.ac3"), behind=id3v1()),
    "wavpack, tag behind": lambda f: around(make(f / "a.wv"), behind=ape(500)),
    "flac, tag behind": lambda f: around(make(f / "a.flac"), behind=id3v1()),
    "wav, tag in front": lambda f: around(make(f / "a.wav"), id3v2(900)),
    "wavpack, tag in front": lambda f: around(make(f / "a.wv"), id3v2(900)),
    "mkv, tag in front": lambda f: around(make(f / "a.mkv", "-c:a", "aac"), id3v2(70_000)),
    "opus, junk behind": lambda f: around(make(f / "a.opus"), behind=b"OggS"),
    "ogg, zeros behind": lambda f: around(make(f / "a.ogg"), behind=bytes(80_000)),
    # wav that holds no PCM
    "dts in wav": lambda f: as_wav(make(f / "a.dts", "-c:a", "dca", "-b:a", "1411200"), 44100),
    "dts as S/PDIF in wav": lambda f: as_wav(
        make(f / "a.spdif", "-c:a", "dca", "-b:a", "768k", "-f", "spdif", rate=48000), 48000
    ),
    "ac3 as S/PDIF in wav": lambda f: as_wav(
        make(f / "a.spdif", "-c:a", "ac3", "-f", "spdif", rate=48000, channels=6), 48000
    ),
    # opus and vorbis
    "opus copied from webm": lambda f: copied(f, make(f / "a.webm", "-c:a", "libopus", rate=48000), "b.opus"),
    "opus copied from a late webm": lambda f: copied(f, late(f, "a.webm", "libopus", 0.6), "b.opus"),
    "opus made from a late mkv": lambda f: make_from(late(f, "a.mkv", "aac", 1.5), f / "b.opus"),
    "oga made from a late mkv": lambda f: make_from(late(f, "a.mkv", "aac", 1.5), f / "b.oga"),
    "vorbis 5.1": lambda f: make(f / "a.ogg", channels=6),
    "vorbis 3.0": lambda f: make(f / "a.ogg", "-af", "aformat=channel_layouts=3.0", channels=3),
    "opus 5.1": lambda f: make(f / "a.opus", "-c:a", "libopus", channels=6),
    "opus 7.1": lambda f: make(f / "a.opus", "-c:a", "libopus", "-af", "aformat=channel_layouts=7.1", channels=8),
    # sound that is not as long as the picture
    "mkv, sound late": lambda f: late(f, "a.mkv", "aac", 2.5),
    "webm, sound late": lambda f: late(f, "a.webm", "libopus", 2.5),
    "mp4, sound late": lambda f: late(f, "a.mp4", "aac", 2.5),
    "wmv, sound short": lambda f: late(f, "a.wmv", "wmav2", 0),
    "avi, sound short": lambda f: late(f, "a.avi", "libmp3lame", 0),
    "avi, sound only": lambda f: make(f / "a.avi", "-c:a", "libmp3lame", "-q:a", "2"),
    "avi, pcm only": lambda f: make(f / "a.avi", "-c:a", "pcm_s16le"),
    "m4a, an edit list beyond the end": lambda f: skips(make(f / "a.m4a", seconds=4), 44100),
    "mkv that lasts for ever": lambda f: mkv_lasts(make(f / "a.mkv", "-c:a", "aac"), b"inf:00:00.0"),
    "mkv that lasts for no number": lambda f: mkv_lasts(make(f / "a.mkv", "-c:a", "aac"), b"nan:00:00.0"),
    # formats that change
    "aac, rate changes": lambda f: changing(f, "c.aac", ("-ar", "22050"), ()),
    "aac, channels change": lambda f: changing(f, "c.aac", ("-ac", "1"), ()),
    "ac3, channels change": lambda f: changing(f, "c.ac3", (), ("-ac", "6")),
    "mp3, rate and channels change": lambda f: changing(f, "c.mp3", CBR, (*CBR, "-ar", "32000", "-ac", "1")),
    # many channels
    **{
        f"{codec} in {suffix}, {n} channels": lambda f, codec=codec, suffix=suffix, n=n: make(  # type: ignore[misc]
            f / f"a.{suffix}", "-c:a", codec, channels=n, seconds=0.5
        )
        for codec, suffix, n in (
            ("flac", "mkv", 8), ("pcm_s16le", "mov", 8), ("pcm_s24le", "mov", 7), ("aac", "m4a", 8),
            ("wavpack", "wv", 8), ("pcm_s16le", "mkv", 16), ("pcm_f32le", "mov", 24), ("pcm_f32le", "w64", 8),
            ("pcm_s24le", "wav", 12), ("alac", "m4a", 8), ("tta", "tta", 8),
        )
    },
    # wrong totals
    "flac of no stated length": lambda f: flac_says(make(f / "a.flac"), 0),
    "flac that says 5 samples": lambda f: flac_says(make(f / "a.flac"), 5),
    "flac that says too much": lambda f: flac_says(make(f / "a.flac"), 200_000),
}  # fmt: skip


def make_from(source: Path, path: Path, *options: str) -> Path:
    ffmpeg("-i", source, *options, path)
    return path


@pytest.mark.parametrize("kind", AS_FFMPEG)
def test_it_is_read_sample_for_sample_as_by_ffmpeg(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = AS_FFMPEG[kind](tmp_path)
    waveform, _ = audio.read(path)
    expected = decode(path)
    assert waveform.shape == expected.shape
    np.testing.assert_allclose(waveform.numpy(), expected, atol=1e-4)
    assert capfd.readouterr() == ("", "")  # no library has a word to say


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mp3 cut": (lambda f: cut(make(f / "a.mp3", *MP3)), r"truncated or damaged \(.* its header says 2\.0"),
    "mp3 with a tag, cut": (lambda f: cut(around(make(f / "a.mp3", *MP3), id3v2(900)), 0.7), "truncated"),
    "flac cut": (lambda f: cut(make(f / "a.flac")), "truncated"),
    "ogg cut": (lambda f: cut(make(f / "a.ogg")), "truncated"),
    "ogg cut, zeros behind": (lambda f: around(cut(make(f / "a.ogg")), behind=bytes(90_000)), "truncated"),
    "m4a with an edit list, cut": (lambda f: cut(edited(f / "a.m4a"), 0.6), "truncated"),
    "aac cut": (lambda f: cut(make(f / "a.aac")), "truncated"),
    "mkv cut": (lambda f: cut(make(f / "a.mkv", "-c:a", "aac")), "truncated"),
    "mkv, sound late, cut": (lambda f: cut(late(f, "a.mkv", "aac", 1.0), 0.6), "truncated"),
    "wv cut": (lambda f: cut(make(f / "a.wv")), "truncated"),
    "tta cut": (lambda f: cut(make(f / "a.tta", seconds=4)), "truncated"),
    "w64 cut": (lambda f: cut(make(f / "a.w64")), "truncated"),
    "no decoder": (
        lambda f: unknown(make(f / "a.mkv", "-c:a", "pcm_s16le")),
        "FFmpeg has no decoder for: convert it to wav or flac",
    ),
    "no sound": (lambda f: video_only(f / "a.mp4"), "has no sound in it"),
    "text": (lambda f: text(f / "a.mp3"), "cannot be read as audio"),
    "text as ogg": (lambda f: text(f / "a.ogg"), "cannot be read as audio"),
}


def edited(path: Path) -> Path:
    ffmpeg("-ss", "1", "-i", make(path.with_name("b.m4a"), seconds=6), "-c", "copy", "-movflags", "faststart", path)
    return path


def video_only(path: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "color=s=64x64:d=1:r=5", "-c:v", "mpeg4", path)
    return path


def text(path: Path) -> Path:
    path.write_text("not a song at all, only words about one\n" * 200)
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_in_one_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build, words = REFUSED[kind]
    with pytest.raises(AudioError, match=words) as caught:
        audio.read(build(tmp_path))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


NOTED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "two streams": (
        lambda f: two_streams(f / "a.mkv"),
        r"2 audio streams \(1: eng, .*; 2: deu, .*\): took 2, --stream",
    ),
    "a first stream without a decoder": (
        lambda f: unknown(two_streams(f / "a.mkv", marked=0)),
        r"\(1: eng, no decoder; 2: deu, pcm_s16le, .*\): took 2, --stream",
    ),
    "a change of rate": (AS_FFMPEG["aac, rate changes"], r"goes on at .* with 44100 Hz .*: converted to 22050 Hz"),
    "junk inside": (AS_FFMPEG["mp3, junk inside"], r"[12] damaged packet\(s\) left out"),
    "a wrong length": (AS_FFMPEG["flac that says too much"], r"2\.00 s of sound, its header says 4\.54"),
}


def two_streams(path: Path, marked: int = 1) -> Path:
    source = make(path.with_name("b.wav"))
    languages = ("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu")
    marks = (f"-disposition:a:{marked}", "default", f"-disposition:a:{1 - marked}", "0")
    both = ("-map", "0", "-map", "0", "-filter:a:1", "volume=0.5", "-c:a", "pcm_s16le")
    ffmpeg("-i", source, *both, *languages, *marks, path)
    return path


@pytest.mark.parametrize("kind", NOTED)
def test_what_the_user_should_know_is_noted(kind: str, tmp_path: Path) -> None:
    build, words = NOTED[kind]
    with audio.open_audio(build(tmp_path)) as decoder:
        torch.cat(list(decoder.blocks()), -1)
    (note,) = decoder.notes
    assert re.search(words, note)


def test_ogg_files_that_were_joined_are_read_one_after_the_other(tmp_path: Path) -> None:
    parts = [make(tmp_path / "b.ogg"), make(tmp_path / "c.ogg", seconds=1)]
    whole = audio.read(joined(tmp_path / "a.ogg", *parts))[0]
    expected = np.concatenate([decode(part) for part in parts], 1)
    assert abs(whole.shape[1] - expected.shape[1]) <= 1024  # what the second encoder delays
    np.testing.assert_allclose(whole[:, :88000], expected[:, :88000], atol=1e-4)
    np.testing.assert_allclose(whole[:, -40000:], expected[:, -40000:], atol=1e-4)


def test_ogg_files_that_were_joined_are_read_one_after_the_other_behind_a_tag_too(tmp_path: Path) -> None:
    whole = joined(tmp_path / "a.ogg", make(tmp_path / "b.ogg"), make(tmp_path / "c.ogg", rate=22050, channels=1))
    expected = audio.read(whole)[0]
    assert torch.equal(audio.read(around(whole, id3v2(70_000)))[0], expected)


def test_pcm_that_looks_like_dts_is_read_to_the_bit(tmp_path: Path) -> None:
    samples = (30000 * song(1.0)).astype(np.int16)
    samples[2000, 0], samples[2000, 1] = np.frombuffer(bytes.fromhex("fe7f0180"), np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    with audio.open_audio(tmp_path / "a.wav") as decoder:
        found = torch.cat(list(decoder.blocks()), -1)
        assert decoder.info.n_samples == len(samples)
    np.testing.assert_array_equal(found.numpy().T * 32768, samples)


def test_ogg_files_of_other_rates_channels_and_codecs_that_were_joined_are_read_to_the_end(tmp_path: Path) -> None:
    parts = [make(tmp_path / "b.ogg"), make(tmp_path / "c.ogg", rate=22050, channels=1), make(tmp_path / "d.opus")]
    path = joined(tmp_path / "a.ogg", *parts)
    with audio.open_audio(path) as decoder:
        whole = torch.cat(list(decoder.blocks()), -1)
    assert whole.shape == (2, 3 * 88200)
    last = decode(make_from(parts[2], tmp_path / "d.wav", "-ar", "44100"))
    likeness = np.corrcoef(whole[0, -80000:], last[0, -80000:])[0, 1]
    assert likeness > 0.99
    (note,) = decoder.notes
    assert "goes on at 2.0 s with 22050 Hz and 1 channel(s): converted to 44100 Hz and 2" in note


def test_the_stream_that_is_asked_for_is_read(tmp_path: Path) -> None:
    path = two_streams(tmp_path / "a.mkv")
    loud, quiet = (torch.cat(list(audio.open_audio(path, stream).blocks()), -1) for stream in (1, 2))
    torch.testing.assert_close(quiet, loud / 2, atol=1e-4, rtol=0)
    with pytest.raises(AudioError, match="no audio stream 3: --stream can be 1 to 2"):
        audio.open_audio(path, 3)


@pytest.mark.parametrize("name", ["a.ogg", "a.flac", "a.mp3", "a.m4a"])
@pytest.mark.parametrize("start", [0.3, 1.99])
def test_a_part_begins_at_its_sample_even_in_the_last_page(name: str, start: float, tmp_path: Path) -> None:
    path = make(tmp_path / name)
    whole = decode(path)[:, round(44100 * start) :]
    with audio.open_audio(path) as decoder:
        np.testing.assert_allclose(torch.cat(list(decoder.blocks(start)), -1), whole, atol=1e-4)


def test_a_file_that_is_replaced_while_it_is_read_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    path = make(tmp_path / "a.ogg", seconds=20)
    with audio.open_audio(path) as decoder:
        blocks = decoder.blocks()
        next(blocks)
        os.truncate(path, 9000)
        with pytest.raises(AudioError, match="became shorter while it was read"):
            list(blocks)
    path = make(tmp_path / "b.ogg", seconds=20)
    with audio.open_audio(path) as decoder:
        path.unlink()
        assert sum(block.shape[1] for block in decoder.blocks()) == 20 * 44100


def test_a_file_that_crashes_the_decoder_takes_nothing_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = make(tmp_path / "good.ogg")
    script = tmp_path / "process.py"
    script.write_text(
        "import os, sys\nfor line in sys.stdin:\n    os.abort() if 'bad' in line else "
        'print(\'{"error": "no", "bytes": 0}\', flush=True)\n'
    )
    monkeypatch.setattr("hourglass_sep.audio.ffmpeg._idle", [])
    monkeypatch.setattr("hourglass_sep.audio.ffmpeg._SCRIPT", script)
    (tmp_path / "bad.ogg").write_bytes(good.read_bytes())
    with pytest.raises(AudioError, match=r"bad\.ogg cannot be read as audio \(FFmpeg crashed: SIGABRT\)"):
        audio.read(tmp_path / "bad.ogg")
    monkeypatch.undo()
    assert audio.read(good)[0].shape == (2, 88200)


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, n) for name, form in audio.FORMATS.items() for n in range(1, min(form.max_channels, 8) + 1)],
)
def test_channels_come_back_in_the_order_in_which_they_were_written(name: str, channels: int, tmp_path: Path) -> None:
    form = audio.FORMATS[name]
    path, waveform = tmp_path / f"a.{name}", torch.from_numpy(song(channels=channels).T)
    subtype = next(iter(form.subtypes.values()))
    with audio.opened([path], 44100, channels, subtype, name) as (append,):
        append(waveform)
    for found in (audio.read(path)[0], torch.from_numpy(decode(path).copy())):
        size = min(found.shape[1], waveform.shape[1])
        likeness = (found[:, None, :size] * waveform[None, :, :size]).sum(-1)
        assert likeness.argmax(1).tolist() == list(range(channels))


def test_tags_are_read_and_written_in_every_format(tmp_path: Path) -> None:
    tags = {"title": "Lied ü 歌", "artist": "somebody", "album": "one", "tracknumber": "3", "date": "2020"}
    for name, form in audio.FORMATS.items():
        path = tmp_path / f"a.{name}"
        subtype = next(iter(form.subtypes.values()))
        with audio.Writer(path, path, 44100, 1, subtype, name, 44100, tags) as append:
            append(torch.from_numpy(song(channels=1).T))
        with audio.open_audio(path) as decoder:
            assert tags.items() <= decoder.tags.items(), name


def test_ctrl_c_while_waiting_for_samples_spoils_no_later_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.ogg")
    decoder = audio.open_audio(path)
    process = decoder._process  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr("hourglass_sep.audio.ffmpeg.json.loads", lambda _: os.kill(os.getpid(), 2))
        with pytest.raises(KeyboardInterrupt):
            list(decoder.blocks())
    decoder.close()
    assert process._process.poll() is not None  # it has an answer that nobody took
    assert audio.read(path)[0].shape == (2, 88200)
