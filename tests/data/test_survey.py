import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.data.clips import Clip, Part
from hourglass_sep.data.store import open_store
from hourglass_sep.data.survey import Facts, survey
from hourglass_sep.support.errors import DataError, SettingError
from tests.conftest import REPO
from tests.helpers.stems import noise, write_clip

SOURCES = ["vocals", "drums"]


def stems(seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: noise(1, 9000, seed=2 * seed + k, peak=0.25) for k, name in enumerate(SOURCES)}


def track(root: Path, name: str, waveforms: Mapping[str, torch.Tensor], off: float = 0.0) -> Clip:
    """A track whose mixture differs from the sum by ``off`` times the amplitude of the sum."""
    total = sum(waveforms.values())
    assert isinstance(total, torch.Tensor)
    return write_clip(root, name, waveforms, mixture=total * (1 + off), subtype="FLOAT")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_sound_set_is_silent_and_its_facts_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waveforms = stems()
    (facts,) = survey([track(tmp_path, "song", waveforms)], SOURCES, tmp_path / "cache")
    peaks = {name: float(waveform.abs().max()) for name, waveform in waveforms.items()}
    assert facts == Facts(8000, 1, 9000, False, peaks, 200.0)
    assert lines(capsys) == []


def test_every_clip_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [track(tmp_path, f"song {k}", stems(k)) for k in range(3)]
    opened: list[Path] = []
    decode = audio.Decoder.blocks

    def counted(decoder: audio.Decoder, *place: float) -> object:
        opened.append(decoder.path)
        return decode(decoder, *place)

    monkeypatch.setattr(audio.Decoder, "blocks", counted)
    open_store(clips[:2], SOURCES, 8000, 1, tmp_path / "cache")
    assert len(opened) == 6
    before = survey(clips, SOURCES, tmp_path / "cache")
    assert sorted(opened) == sorted(path for clip in clips for path in clip.files)
    assert survey(clips, SOURCES, tmp_path / "cache") == before
    assert len(opened) == 9
    os.utime(clips[2].files[0], ns=(0, 0))
    survey(clips, SOURCES, tmp_path / "cache")
    assert sorted(opened[9:]) == sorted(clips[2].files)


def test_nan_is_named_with_its_track_and_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "song", stems() | {"drums": torch.full((1, 9000), torch.inf)}, subtype="FLOAT")
    with pytest.raises(DataError, match=r"^song: .*drums.wav holds NaN, infinite"):
        survey([clip], SOURCES, tmp_path / "cache")


def test_a_track_without_any_sound_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "hush", dict.fromkeys(SOURCES, torch.zeros(1, 9000)))
    with pytest.raises(DataError, match="hush is silent in all its stems"):
        survey([clip], SOURCES, tmp_path / "cache")


def test_silent_stems_are_counted_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [write_clip(tmp_path, f"song {k}", stems(k) | {"vocals": torch.zeros(1, 9000)}) for k in range(3)]
    instrumental = write_clip(tmp_path, "instrumental", stems() | {"vocals": torch.zeros(0, 0)})
    survey([instrumental, *clips], SOURCES, tmp_path / "cache")
    assert lines(capsys) == ["warning: 3 silent stems, the first is vocals of song 0: silence, not scored"]


def test_mixed_rates_and_channels_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [write_clip(tmp_path, f"song {k}", stems(k)) for k in range(3)]
    soundfile.write(clips[1].files[0], torch.rand(18_000).numpy(), 16000)
    soundfile.write(clips[2].files[0], torch.rand(9000, 2).numpy(), 8000)
    found = survey(clips, SOURCES, tmp_path / "cache")
    assert [facts.mixed for facts in found] == [False, True, True]
    (line,) = lines(capsys)
    assert (
        "files of 2 tracks differ in sample rate or channels, the first is song 1: read at the highest, 16000 Hz"
        in line
    )


def test_stems_near_their_mixture_are_one_line_with_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offs = {"exact": 0.0, "hardly": 0.001, "near": 0.03, "far": 0.1}
    found = survey([track(tmp_path, name, stems(), off) for name, off in offs.items()], SOURCES, tmp_path / "cache")
    assert found[3].mixture_db == pytest.approx(20.83, abs=0.01)  # (1 + 0.1) / 0.1
    assert lines(capsys) == [
        "warning: the stems of 2 tracks add up to their mixture at 20.8 to 30.7 dB (median 25.8), the worst is far"
    ]


def test_stems_of_another_mixture_are_refused_unless_the_sum_is_the_mixture(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "song", stems(), mixture=noise(1, 9000, seed=9))
    with pytest.raises(DataError, match=r"stems of song .*mixture.wav at -?\d.\d dB.*data.mixture=sum.*fix that file"):
        survey([clip], SOURCES, tmp_path / "cache")
    assert survey([clip], SOURCES, tmp_path / "cache", mixture="sum")
    with pytest.raises(SettingError, match=r"data\.mixture='both'"):
        survey([clip], SOURCES, tmp_path / "cache", mixture="both")


def test_a_silent_mixture_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "song", stems(), mixture=torch.zeros(1, 9000))
    with pytest.raises(DataError, match="stems of song"):
        survey([clip], SOURCES, tmp_path / "cache")


def test_a_track_that_lacks_a_source_is_not_compared_with_its_mixture(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "song", {"vocals": stems()["vocals"]}, mixture=noise(1, 9000, seed=9))
    (facts,) = survey([clip], SOURCES, tmp_path / "cache")
    assert facts.mixture_db is None


def test_the_stems_of_a_real_song_add_up_to_its_mixture_as_its_publishers_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(os.environ.get("HOURGLASS_SONGS_DIR", REPO.parent / "shared" / "data" / "songs"))
    found = sorted((root / "musdb18_7s_cc" / "test").glob("*.stem.mp4"))
    if not found:
        pytest.skip(f"no MUSDB18 excerpts in {root}: set HOURGLASS_SONGS_DIR")
    names = ["drums", "bass", "other", "vocals"]
    clip = Clip("song", "", {name: [Part(found[0], k)] for k, name in enumerate(names, 2)}, Part(found[0], 1))
    (facts,) = survey([clip], names, tmp_path / "cache")
    assert facts.mixture_db is not None
    assert 21 <= facts.mixture_db <= 35
    assert len(lines(capsys)) == 1
