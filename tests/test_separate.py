from pathlib import Path

import numpy as np
import pytest
import soundfile

from hourglass_sep import separate
from hourglass_sep.errors import AudioError, UserError
from hourglass_sep.separator import Separator


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (9000, 2)), 44100)
    return path


def test_a_song_is_never_replaced_by_its_own_stem(song: Path, tmp_path: Path, tiny_separator: Separator) -> None:
    (tmp_path / "vocals").mkdir()
    own = song.rename(tmp_path / "vocals" / "vocals.wav")
    before = own.read_bytes()
    with pytest.raises(AudioError, match="overwritten"):
        separate.separate_file(tiny_separator, own, tmp_path)
    assert own.read_bytes() == before


@pytest.mark.parametrize("name", ["...wav", "..wav"])
def test_no_stem_is_written_outside_of_the_folder_for_stems(
    name: str, song: Path, tmp_path: Path, tiny_separator: Separator
) -> None:
    odd = song.rename(tmp_path / name)
    with pytest.raises(AudioError, match="rename it"):
        separate.separate_file(tiny_separator, odd, tmp_path / "stems")
    assert not (tmp_path / "vocals.wav").exists()


def test_silence_is_warned_about_and_separated(
    tmp_path: Path, tiny_separator: Separator, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "rest.wav", np.zeros(5000), 22050)
    for path in separate.separate_file(tiny_separator, tmp_path / "rest.wav", tmp_path):
        assert not soundfile.read(path)[0].any()
    assert "is silent" in capsys.readouterr().err


def test_songs_that_would_share_a_folder_are_named(song: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"song\.wav and .*Song\.flac would share"):
        separate.run([str(song), str(tmp_path / "Song.flac")])


def test_a_missing_song_is_found_before_any_is_separated(song: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"missing\.wav does not exist"):
        separate.run([str(song), str(tmp_path / "missing.wav"), "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_masks_are_refined_and_sounds_rebuilt_as_the_command_line_says(song: Path, tmp_path: Path) -> None:
    stems = {}
    for name, options in {
        "plain": [],
        "refined": ["--refine", "nmf", "--set", "refine.rank=5"],
        "filtered": ["--reconstruct", "wiener", "--set", "reconstruct.iterations=2"],
    }.items():
        paths = separate.run([str(song), "-o", str(tmp_path / name), *options])
        stems[name] = [soundfile.read(path)[0] for path in paths]
        np.testing.assert_allclose(sum(stems[name]), soundfile.read(song)[0], atol=1e-4)
    for name in ("refined", "filtered"):
        assert np.abs(stems[name][0] - stems["plain"][0]).max() > 1e-3
    with pytest.raises(UserError, match="rank=0 is not allowed"):
        separate.run([str(song), "--refine", "nmf", "--set", "refine.rank=0"])
