import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.songs import choices
from hourglass_sep.support.errors import AudioError, FileError, UserError
from tests.helpers.av_files import encode


def sound(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_read_gives_channels_first_in_float32_at_full_scale_one(suffix: str, tmp_path: Path) -> None:
    time = np.arange(22050) / 22050
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 880 * time)], 1)
    soundfile.write(tmp_path / f"song.{suffix}", stereo, 22050)
    waveform, sample_rate_hz = audio.read(tmp_path / f"song.{suffix}")
    assert sample_rate_hz == 22050
    assert (waveform.dtype, waveform.shape[0]) == (torch.float32, 2)
    middle = waveform[:, 5000:15000]
    torch.testing.assert_close(middle.abs().amax(1), torch.tensor([0.5, 0.25]), atol=0.05, rtol=0)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    waveform = sound(3, 1000)
    assert audio.write(tmp_path / "new folder" / "a.wav", waveform, 44100, "FLOAT") == 0
    again, sample_rate_hz = audio.read(tmp_path / "new folder" / "a.wav")
    assert sample_rate_hz == 44100
    assert torch.equal(again, waveform)


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    waveform = torch.tensor([[0.5, 1.5, -1.0, -2.0]])
    assert audio.write(tmp_path / "a.wav", waveform, 8000) == 2
    torch.testing.assert_close(audio.read(tmp_path / "a.wav")[0], waveform.clamp(-1, 1), atol=1e-4, rtol=0)
    assert audio.write(tmp_path / "b.wav", waveform, 8000, "FLOAT") == 0


def broken_files(folder: Path) -> dict[str, Path]:
    files = {what: folder / f"{what}.wav" for what in ("empty", "truncated", "infinite", "enormous", "hollow", "text")}
    files["empty"].touch()
    soundfile.write(files["truncated"], sound(9000).numpy(), 8000)
    files["truncated"].write_bytes(files["truncated"].read_bytes()[:9000])
    soundfile.write(files["infinite"], np.array([0.1, np.nan, 0.2]), 8000, "FLOAT")
    soundfile.write(files["enormous"], np.array([0.1, 1e37]), 8000, "FLOAT")
    soundfile.write(files["hollow"], np.zeros(0), 8000)
    files["text"].write_text("not a song at all, only words about one\n" * 20)
    return files | {"missing": folder / "missing.wav", "folder": folder}


@pytest.mark.parametrize(
    ("what", "words"),
    {
        "empty": "is an empty file",
        "truncated": "is truncated",
        "infinite": "NaN, infinite",
        "enormous": "absurdly large",
        "hollow": "no samples",
        "text": "cannot be read as audio",
        "missing": "does not exist",
        "folder": "is a folder",
    }.items(),
)
def test_a_broken_file_is_named_in_one_line(what: str, words: str, tmp_path: Path) -> None:
    path = broken_files(tmp_path)[what]
    with pytest.raises(AudioError, match=words) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_half_a_file_is_refused_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"song.{suffix}"
    soundfile.write(path, sound(2 * 44100, 2).numpy(), 44100)
    audio.read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"truncated|damaged"):
        audio.read(path)


def test_a_name_that_the_system_cannot_open_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("a" * 300 + ".wav", "bad\udcff.wav"):
        with pytest.raises(AudioError):
            audio.read(tmp_path / name)


def test_files_that_are_opened_together_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "new" / "b.wav").mkdir(parents=True)
    with (
        pytest.raises(FileError, match=r"b\.wav"),
        audio.opened([tmp_path / "new" / "a.wav", tmp_path / "new" / "b.wav"], 8000, 1),
    ):
        pytest.fail("the block was entered")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.wav"]


def test_nothing_is_left_of_a_file_whose_writing_failed(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("older")

    def fail_half_way() -> None:
        with audio.opened([tmp_path / "a.wav"], 8000, 1) as (append,):
            append(sound(1, 100))
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_text() == "older"

    def fail_in_a_new_folder() -> None:
        with audio.opened([tmp_path / "new" / "a.wav"], 8000, 1):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail_in_a_new_folder()
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_found_before_the_computation(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(FileError, match="cannot be written to"),
        audio.opened([tmp_path / "file" / "a.wav"], 8000, 1),
    ):
        pytest.fail("the block was entered")


COMPRESSED = {
    "song.m4a": ("aac", None, False),
    "song.aac": ("aac", "adts", False),
    "song.wma": ("wmav2", "asf", False),
    "song.opus": ("libopus", "ogg", False),
    "song.webm": ("libopus", None, False),
    "film.mp4": ("aac", None, True),
    "film.mkv": ("aac", None, True),
    "film.mov": ("pcm_s16le", None, True),
    "film.avi": ("libmp3lame", None, True),
    "lossless.m4a": ("alac", None, False),
    "song.wv": ("wavpack", None, False),
}


def two_tones(rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 880 * time)]).astype("float32")


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_ffmpeg_knows_is_read_and_half_of_it_refused(name: str, tmp_path: Path) -> None:
    codec, container, video = COMPRESSED[name]
    tones = two_tones(48000, 12.0)
    path = encode(tmp_path / name, tones, 48000, codec, container, video)
    waveform, sample_rate_hz = audio.read(path)
    assert (sample_rate_hz, waveform.shape[0]) == (48000, 2)
    assert abs(waveform.shape[1] - tones.shape[1]) < 5000  # codecs pad
    middle = waveform[:, 40000:140000]
    torch.testing.assert_close(middle.abs().amax(1), torch.tensor([0.5, 0.25]), atol=0.06, rtol=0)
    power = torch.fft.rfft(middle.double()).abs().square()
    hz = torch.fft.rfftfreq(middle.shape[1], 1 / 48000)
    for channel, tone in zip(power, (440, 880), strict=True):
        assert channel[(hz - tone).abs() < 20].sum() > 0.98 * channel.sum()
    if codec in ("pcm_s16le", "alac"):
        torch.testing.assert_close(waveform, torch.from_numpy(tones), atol=2**-15, rtol=0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"truncated|damaged"):
        audio.read(path)


def test_a_film_without_sound_and_a_playlist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="has no sound in it"):
        audio.read(encode(tmp_path / "silent.mp4", None, 0, "", None, True))
    encode(tmp_path / "part.aac", two_tones(44100, 1.0), 44100, "aac", "adts")
    for text in (
        "ffconcat version 1.0\nfile part.aac\n",
        f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/part.aac\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {tmp_path}/part.aac",
    ):
        (tmp_path / "list.wav").write_text(text)
        with pytest.raises(AudioError, match="cannot be read as audio"):
            audio.read(tmp_path / "list.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "m4a"])
@pytest.mark.parametrize(("start", "duration"), [(0.0, 0.5), (0.75, 0.5), (1.5, None), (1.9, 9.0), (1.0, 1e-6)])
def test_a_part_of_a_file_is_that_part_of_the_whole(
    suffix: str, start: float, duration: float | None, tmp_path: Path
) -> None:
    tones = two_tones(44100, 2.0)
    if suffix == "m4a":
        encode(tmp_path / "song.m4a", tones, 44100, "aac")
    else:
        soundfile.write(tmp_path / f"song.{suffix}", tones.T, 44100)
    whole, _ = audio.read(tmp_path / f"song.{suffix}")
    with audio.open_audio(tmp_path / f"song.{suffix}") as decoder:
        part = torch.cat(list(decoder.blocks(start, duration)), -1)
    first = round(44100 * start)
    last = None if duration is None else first + max(round(44100 * duration), 1)
    torch.testing.assert_close(part, whole[:, first:last], atol=0, rtol=0)


def test_a_part_behind_the_end_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", np.zeros(8000), 8000)
    with audio.open_audio(tmp_path / "song.wav") as decoder, pytest.raises(AudioError, match=r"is 1\.0 s long"):
        list(decoder.blocks(1.5))


def test_a_stream_that_does_not_say_how_long_it_is_is_read_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", two_tones(44100, 1.0).T, 44100)
    whole, _ = audio.read(tmp_path / "song.wav")
    for size in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        data = (tmp_path / "song.wav").read_bytes()
        (tmp_path / "piped.wav").write_bytes(data[:4] + size + data[8:40] + b"\xff\xff\xff\xff" + data[44:])
        assert torch.equal(audio.read(tmp_path / "piped.wav")[0], whole)
    soundfile.write(tmp_path / "song.flac", two_tones(44100, 1.0).T, 44100)
    whole, _ = audio.read(tmp_path / "song.flac")
    flac = bytearray((tmp_path / "song.flac").read_bytes())
    flac[21] &= 0xF0  # the length's 36 bits in STREAMINFO
    flac[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(flac)
    assert torch.equal(audio.read(tmp_path / "piped.flac")[0], whole)


@pytest.mark.parametrize(("subtype", "steps"), [("PCM_16", 2**15), ("PCM_24", 2**23)])
@pytest.mark.parametrize("name", ["wav", "flac"])
def test_every_step_of_an_integer_format_is_written_as_itself(
    name: str, subtype: str, steps: int, tmp_path: Path
) -> None:
    values = np.unique(np.r_[np.linspace(-steps, steps - 1, 9001).astype("int64"), -steps, -1, 0, 1, steps - 1])
    waveform = torch.from_numpy(values / steps).float()[None]
    with audio.opened([tmp_path / "song"], 44100, 1, subtype, name) as (append,):
        assert append(waveform) == 0
    assert torch.equal(audio.read(tmp_path / "song")[0], waveform)


def test_wav_beyond_four_gibibytes_becomes_rf64_and_is_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the length is not known beforehand it is RF64 until it turns out to be small."""
    monkeypatch.setattr("hourglass_sep.audio.encode._WAV_LIMIT", 1 << 18)
    waveform = sound(2, 80000)
    for known, head in ((waveform.shape[1], b"RF64"), (None, b"RIFF"), (40000, b"RIFF"), (10, b"RIFF")):
        part = waveform[:, : 40000 if known == 10 else None]
        with audio.opened([tmp_path / "song.wav"], 44100, 2, "PCM_16", "wav", known) as (append,):
            append(part)
        assert (tmp_path / "song.wav").read_bytes()[:4] == head
        torch.testing.assert_close(audio.read(tmp_path / "song.wav")[0], part, atol=2**-15, rtol=0)

    def write_too_much() -> None:
        with audio.opened([tmp_path / "large.wav"], 44100, 2, "PCM_16", "wav", 10) as (append,):
            for _ in range(4):
                append(waveform)

    with pytest.raises(FileError, match="larger than 4 GiB"):
        write_too_much()
    assert not list(tmp_path.glob("large*"))


@pytest.mark.parametrize(
    ("name", "depth", "info", "words"),
    [
        ("mp3", None, audio.Info(9, 96000, 2), ["96000 Hz", "48000", "--format wav"]),
        ("mp3", None, audio.Info(9, 44100, 6), ["6 channels", "--format wav"]),
        ("ogg", None, audio.Info(9, 384000, 2), ["384000 Hz", "--format wav"]),
        ("flac", None, audio.Info(9, 44100, 9), ["9 channels", "--format wav"]),
        ("flac", "float32", audio.Info(9, 44100, 2), ["float32", "--format wav"]),
        ("mp3", "16", audio.Info(9, 44100, 2), ["no bit depth", "--format wav"]),
        ("wav", "12", audio.Info(9, 44100, 2), ["12", "16, 24, float32"]),
    ],
)
def test_a_format_that_cannot_hold_a_song_is_refused_with_one_that_can(
    name: str, depth: str | None, info: audio.Info, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        audio.choose_subtype(Path("song.wav"), info, name, depth)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_command_line_knows_the_formats_and_depths_that_there_are() -> None:
    assert tuple(audio.FORMATS) == choices.FORMAT_NAMES
    assert {depth for form in audio.FORMATS.values() for depth in form.subtypes} == {*choices.BIT_DEPTHS, ""}


@pytest.mark.parametrize("name", audio.FORMATS)
def test_what_a_format_is_said_to_hold_it_does_hold(name: str, tmp_path: Path) -> None:
    form = audio.FORMATS[name]
    for rate in (4000, 8000, 11025, 22050, 44100, 44101, 48000, 96000, 192000, 384000):
        for channels in (1, 2, 3, 6, 8, 9, 255):
            info = audio.Info(100, rate, channels)
            try:
                subtype = audio.choose_subtype(Path("song"), info, name)
            except UserError:
                assert channels > form.max_channels or not form.rates_hz(rate)
                continue
            with audio.opened([tmp_path / "t"], rate, channels, subtype, name) as (append,):
                append(sound(channels, 100))
            assert audio.info(tmp_path / "t")[:3] == (100, rate, channels)


def test_the_bit_depth_is_the_songs_as_far_as_the_format_can() -> None:
    for depth, expected in {
        "16": ("PCM_16", "PCM_16"),
        "24": ("PCM_24", "PCM_24"),
        "float32": ("FLOAT", "PCM_24"),
    }.items():
        info = audio.Info(9, 44100, 2, depth)
        assert tuple(audio.choose_subtype(Path("a"), info, name) for name in ("wav", "flac")) == expected
        assert audio.choose_subtype(Path("a"), info, "wav", "24") == "PCM_24"


@pytest.mark.parametrize(
    ("form", "suffix"), [("RF64", "rf64"), ("W64", "w64"), ("AIFF", "aiff"), ("AU", "au"), ("CAF", "caf")]
)
def test_half_a_file_is_refused_in_formats_that_studios_use(form: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"song.{suffix}"
    soundfile.write(path, sound(44100, 2).numpy(), 44100, format=form)
    assert audio.read(path)[0].shape == (2, 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(path)


@pytest.mark.parametrize("size", [0x7FFFF024, 0x7FFFFFFF, 0x80000024, 0xFFFFFFFF])
def test_wav_from_a_pipe_is_read_whole(size: int, tmp_path: Path) -> None:
    """As sox, arecord and FFmpeg write it."""
    soundfile.write(tmp_path / "song.wav", sound(9000, 2).numpy(), 44100)
    data = (tmp_path / "song.wav").read_bytes()
    piped = data[:4] + size.to_bytes(4, "little") + data[8:40] + (size - 36).to_bytes(4, "little") + data[44:]
    (tmp_path / "piped.wav").write_bytes(piped)
    assert torch.equal(audio.read(tmp_path / "piped.wav")[0], audio.read(tmp_path / "song.wav")[0])


def test_w64_from_a_pipe_is_read_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.w64", sound(9000, 2).numpy(), 44100)
    data = (tmp_path / "song.w64").read_bytes()
    place = data.index(b"data") + 16
    piped = data[:16] + b"\xff" * 8 + data[24:place] + b"\xff" * 7 + b"\x7f" + data[place + 8 :]
    (tmp_path / "piped.w64").write_bytes(piped)
    assert torch.equal(audio.read(tmp_path / "piped.w64")[0], audio.read(tmp_path / "song.w64")[0])


@pytest.mark.parametrize("form", ["WAV", "CAF"])
def test_words_in_other_chunks_are_not_taken_for_the_sound(form: str, tmp_path: Path) -> None:
    """A comment may say "metadata" before the samples begin."""
    path = tmp_path / "song"
    soundfile.write(path, sound(9000, 2).numpy(), 44100, format=form)
    data = path.read_bytes()
    words = b"metadata \xee\xee\xee\xee\xee\xee\xee\x0e of a song"
    if form == "WAV":
        chunk = b"LIST" + len(words).to_bytes(4, "little") + words + b"\0" * (len(words) % 2)
        size = (len(data) + len(chunk) - 8).to_bytes(4, "little")
        path.write_bytes(data[:4] + size + data[8:36] + chunk + data[36:])
    else:
        at = data.index(b"data")
        path.write_bytes(data[:at] + b"info" + len(words).to_bytes(8, "big") + words + data[at:])
    assert audio.read(path)[0].shape == (2, 9000)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(path)


@pytest.mark.parametrize("n_samples", [1, 50, 600, 5000])
def test_a_short_wav_that_is_truncated_is_refused_too(n_samples: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", sound(n_samples, 2).numpy(), 44100)
    data = (tmp_path / "song.wav").read_bytes()
    (tmp_path / "song.wav").write_bytes(data[: 44 + (len(data) - 44) // 2])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(tmp_path / "song.wav")


def test_wav_is_read_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "song.wav", sound(100, 2).numpy(), 44100)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "hourglass_sep.audio.ffmpeg", raising=False)
    assert audio.read(tmp_path / "song.wav")[0].shape == (2, 100)


def test_ogg_cut_anywhere_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.ogg", sound(90000, 1).numpy(), 44100)
    data = (tmp_path / "song.ogg").read_bytes()
    page = data.rindex(b"OggS")
    for length in (*range(page - 2, page + 30), len(data) // 2, 3, 27):
        (tmp_path / "cut.ogg").write_bytes(data[:length])
        with pytest.raises(AudioError):
            audio.read(tmp_path / "cut.ogg")


def test_bit_depths_are_told(tmp_path: Path) -> None:
    tones = two_tones(44100, 0.2)
    for subtype, depth in {"ALAC_16": "16", "ALAC_24": "24", "ALAC_32": "float32"}.items():
        soundfile.write(tmp_path / "a.caf", tones.T, 44100, subtype, format="CAF")
        assert audio.info(tmp_path / "a.caf").bit_depth == depth
    for codec, depth in {"pcm_f32le": "float32", "pcm_s24le": "24", "pcm_s16le": "16", "aac": "16"}.items():
        assert audio.info(encode(tmp_path / "a.mov", tones, 44100, codec)).bit_depth == depth


def test_samples_beyond_full_scale_are_counted_in_lossy_formats_too(tmp_path: Path) -> None:
    waveform = sound(1, 5000)
    waveform[0, :7] = 1.5
    for name, subtype in (("mp3", "MPEG_LAYER_III"), ("ogg", "VORBIS")):
        with audio.opened([tmp_path / "a"], 44100, 1, subtype, name) as (append,):
            assert append(waveform) == 7


def test_an_interruption_between_renames_waits_until_all_files_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def interrupted(*names: Path) -> None:
        replace(*names)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", interrupted)

    def write_both() -> None:
        with audio.opened([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1) as writers:
            for append in writers:
                append(sound(1, 10))

    with pytest.raises(KeyboardInterrupt):
        write_both()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 8000), (8000, 44100), (44101, 8000), (48000, 16000)])
def test_resampling_keeps_a_sine_in_place(from_hz: int, to_hz: int) -> None:
    def sine(rate: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * 440 * torch.arange(rate, dtype=torch.float64) / rate).float()

    resampled = audio.resample(sine(from_hz).expand(2, 1, -1), from_hz, to_hz)
    assert resampled.shape == (2, 1, to_hz)
    torch.testing.assert_close(resampled[1, 0, 500:-500], sine(to_hz)[500:-500], atol=2e-3, rtol=0)


def test_resampling_gives_the_length_asked_for() -> None:
    for n_samples in (1, 7999, 8000, 8003):
        assert audio.resample(sound(2, 16000), 16000, 8000, n_samples).shape == (2, n_samples)
    assert audio.resample(sound(2, 1), 44100, 8000).shape == (2, 1)


def test_paths_that_are_longer_than_libsndfile_takes_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["folder" * 30] * 6, "song.wav")
    waveform = sound(2, 5000)
    audio.write(path, waveform, 44100, "FLOAT")
    assert len(str(path)) > 1100
    assert torch.equal(audio.read(path)[0], waveform)
