import shutil
from pathlib import Path

import pytest

from hourglass_sep.data.clips import Catalogue, Clip, Part
from hourglass_sep.data.dsd100 import Dsd100
from hourglass_sep.support.errors import DataError, SettingError

DEV = [
    "051 - AM Contra - Heart Peripheral",
    "055 - Angels In Amplifiers - I'm Alright",
    "081 - Patrick Talbot - Set Me Free",
]
TEST = ["005 - Angela Thomas Wade - Milk Cow Blues", "020 - Patrick Talbot - Other"]


@pytest.fixture
def dsd100(tmp_path: Path) -> Path:
    """Empty files in DSD100's layout."""
    for part, tracks in (("Dev", DEV), ("Test", TEST)):
        for track in tracks:
            for folder, files in (("Mixtures", ["mixture"]), ("Sources", ["bass", "drums", "other", "vocals"])):
                (tmp_path / folder / part / track).mkdir(parents=True)
                for file in files:
                    (tmp_path / folder / part / track / f"{file}.wav").touch()
    (tmp_path / "dsd100.xlsx").touch()
    return tmp_path


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def test_dev_trains_and_test_tests(dsd100: Path) -> None:
    catalogue: Catalogue = Dsd100(dsd100)
    assert catalogue.sources == ("bass", "drums", "other", "vocals")
    split = catalogue.split()
    assert (names(split.train), split.validation, names(split.test)) == (DEV, [], TEST)
    clip = split.train[0]
    assert clip.stems["other"] == (Part(dsd100 / "Sources" / "Dev" / DEV[0] / "other.wav"),)
    assert clip.mixture == Part(dsd100 / "Mixtures" / "Dev" / DEV[0] / "mixture.wav")


def test_groups_are_artists_except_of_those_on_both_sides(dsd100: Path) -> None:
    split = Dsd100(dsd100).split()
    assert [clip.group for clip in split.train] == ["AM Contra", "Angels In Amplifiers", DEV[2]]
    assert [clip.group for clip in split.test] == ["Angela Thomas Wade", TEST[1]]


def test_accompaniment_is_known(dsd100: Path) -> None:
    clip = Dsd100(dsd100, ["accompaniment", "vocals"]).split().test[0]
    assert [part.path.stem for part in clip.stems["accompaniment"]] == ["bass", "drums", "other"]


def test_validation_tracks_can_be_taken_from_dev(dsd100: Path) -> None:
    split = Dsd100(dsd100, validation=["AM Contra"]).split()
    assert (names(split.train), names(split.validation), names(split.test)) == (DEV[1:], DEV[:1], TEST)
    folds = [names(Dsd100(dsd100, fold=fold, folds=3).split().validation) for fold in (1, 2, 3)]
    assert sorted(folds) == [[name] for name in DEV]


def test_without_mixtures_they_are_the_sums_of_the_sources(dsd100: Path) -> None:
    shutil.rmtree(dsd100 / "Mixtures")
    assert {clip.mixture for clip in Dsd100(dsd100).split().train} == {None}


def test_damaged_copies_are_refused(dsd100: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DataError, match=r"no DSD100 tracks \(Sources/{Dev,Test}/TRACK/STEM.wav\) in .*: set data.root"):
        Dsd100(tmp_path_factory.mktemp("empty")).split()
    with pytest.raises(SettingError, match=r"no track has a stem voice: choose from bass, drums, other, vocals"):
        Dsd100(dsd100, ["voice"])
    (dsd100 / "Sources" / "Test" / TEST[0] / "bass.wav").unlink()
    with pytest.raises(DataError, match="Milk Cow Blues of 2 tracks lack the stem bass: restore it from DSD100"):
        Dsd100(dsd100).split()
    shutil.rmtree(dsd100 / "Sources" / "Dev" / DEV[0])
    with pytest.raises(DataError, match=f"{DEV[0]} is missing in .*Sources/Dev: restore it from DSD100"):
        Dsd100(dsd100).split()
    shutil.rmtree(dsd100 / "Mixtures" / "Dev" / DEV[0])
    shutil.rmtree(dsd100 / "Mixtures" / "Dev" / DEV[1])
    with pytest.raises(DataError, match=f"{DEV[1]} is missing in .*Mixtures/Dev"):
        Dsd100(dsd100).split()
