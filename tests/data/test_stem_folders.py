from pathlib import Path

import pytest

from hourglass_sep.data.stem_folders import find_tracks
from hourglass_sep.support.errors import DataError


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize("suffix", [".m4a", ".opus", ".MP3", ".aiff"])
def test_references_and_estimates_of_any_format_are_paired(tmp_path: Path, suffix: str) -> None:
    reference = touch(tmp_path / "true", f"A/vocals{suffix}", f"A/mixture{suffix}")
    (track,) = find_tracks(reference, touch(tmp_path / "made", "A/vocals.wav"))
    assert track.references == {"vocals": [reference / "A" / f"vocals{suffix}"]}


def test_files_that_hold_all_stems_of_a_track_are_no_stems(tmp_path: Path) -> None:
    reference = touch(tmp_path / "true", "test/A - B.stem.mp4")
    with pytest.raises(
        DataError, match=r"no stems in .*true: it should hold TRACK/STEM.wav \(or .flac, .mp3, .m4a, ...\)"
    ):
        find_tracks(reference, touch(tmp_path / "made", "A/vocals.wav"))
