from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.errors import AudioError


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
        pytest.raises(AudioError, match=r"b\.wav"),
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
        pytest.raises(AudioError, match="cannot be written to"),
        audio.opened([tmp_path / "file" / "a.wav"], 8000, 1),
    ):
        pytest.fail("the block was entered")


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
