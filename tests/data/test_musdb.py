import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

from hourglass_sep.data.clips import Catalogue, Clip, Part
from hourglass_sep.data.musdb import VALIDATION_TRACKS, Musdb18
from hourglass_sep.support.errors import DataError, SettingError
from tests.helpers.real_songs import real_songs

STEMS = ("bass", "drums", "other", "vocals")
TRACKS = {
    "train": ["Skelpolu - Together Alone", "Meaxic - You Listen", "Remember December - C U Next Time"],
    "validation": ["Meaxic - Take A Step", "Skelpolu - Human Mistakes"],
    "test": ["Skelpolu - Resurrection", "PR - Oh No", "PR - Happy Daze"],
}


@pytest.fixture(params=["HQ", "stem.mp4"])
def musdb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Empty files in MUSDB18-HQ's and MUSDB18's layout."""
    for part, tracks in TRACKS.items():
        folder = tmp_path / ("test" if part == "test" else "train")
        for track in tracks:
            if request.param == "HQ":
                (folder / track).mkdir(parents=True)
                for stem in ("mixture", *STEMS):
                    (folder / track / f"{stem}.wav").touch()
            else:
                folder.mkdir(exist_ok=True)
                (folder / f"{track}.stem.mp4").touch()
    (tmp_path / "train" / "README.md").touch()
    return tmp_path


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def settings() -> dict:
    spec = importlib.util.find_spec("musdb")
    if spec is None or spec.origin is None:
        pytest.skip("the package musdb is not installed")
    return yaml.safe_load((Path(spec.origin).parent / "configs" / "mus.yaml").read_text())


def test_validation_tracks_are_those_of_the_package_musdb() -> None:
    assert sorted(VALIDATION_TRACKS) == sorted(settings()["validation_tracks"])


def test_streams_are_those_of_the_package_musdb(tmp_path: Path) -> None:
    for track in ("A - B", VALIDATION_TRACKS[0]):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / f"{track}.stem.mp4").touch()
    clip = Musdb18(tmp_path).split().train[0]
    streams = {stem: part.stream for stem, (part,) in clip.stems.items()}
    assert clip.mixture is not None
    streams["mixture"] = clip.mixture.stream
    assert streams == {stem: number + 1 for stem, number in settings()["stem_ids"].items()}


def test_accompaniment_is_the_sum_that_the_package_musdb_takes(musdb: Path) -> None:
    catalogue = Musdb18(musdb, ["vocals", "accompaniment"])
    assert catalogue.sources == ("vocals", "accompaniment")
    clip = catalogue.split().train[0]
    assert set(clip.stems["accompaniment"]) == {
        part for stem in settings()["targets"]["accompaniment"] for part in Musdb18(musdb).split().train[0].stems[stem]
    }


def test_the_split_is_the_authors(musdb: Path) -> None:
    catalogue: Catalogue = Musdb18(musdb)
    assert catalogue.sources == ("vocals", "drums", "bass", "other")
    split = catalogue.split()
    for part, tracks in TRACKS.items():
        assert names(getattr(split, part)) == sorted(tracks)


def test_only_artists_in_one_part_are_groups(musdb: Path) -> None:
    split = Musdb18(musdb).split()
    assert [clip.group for clip in split.test] == ["PR", "PR", "Skelpolu - Resurrection"]
    assert "Remember December" in [clip.group for clip in split.train]
    assert [clip.group for clip in split.validation] == names(split.validation)
    assert {clip.group for clip in Musdb18(musdb, group="track").split().test} == set(TRACKS["test"])


def test_hq_has_files_and_the_stems_format_streams(musdb: Path) -> None:
    clip = Musdb18(musdb).split().train[1]
    folder = musdb / "train"
    if (folder / "Remember December - C U Next Time").is_dir():
        assert clip.stems["vocals"] == (Part(folder / clip.name / "vocals.wav"),)
        assert clip.mixture == Part(folder / clip.name / "mixture.wav")
    else:
        assert clip.stems["vocals"] == (Part(folder / f"{clip.name}.stem.mp4", 5),)
        assert clip.mixture == Part(folder / f"{clip.name}.stem.mp4", 1)


def test_other_validation_tracks_can_be_chosen(musdb: Path) -> None:
    assert names(Musdb18(musdb, validation=["Meaxic"]).split().validation) == sorted(
        track for tracks in TRACKS.values() for track in tracks if "Meaxic" in track
    )
    everything = Musdb18(musdb, validation=0).split()
    assert (len(everything.train), everything.validation, len(everything.test)) == (5, [], 3)
    folds = [Musdb18(musdb, fold=fold, folds=3).split() for fold in (1, 2, 3)]
    assert sorted(name for split in folds for name in names(split.validation)) == names(everything.train)
    with pytest.raises(DataError, match="Meaxic is on both sides"):
        Musdb18(musdb, validation=["Meaxic - Take A Step"]).split()
    assert len(Musdb18(musdb, validation=["Meaxic - Take A Step"], group="track").split().validation) == 1


def test_a_copy_without_validation_tracks_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / f"Artist {i} - Song.stem.mp4").touch()
    with pytest.raises(DataError, match=r"none of MUSDB18's validation tracks is in .*train: set data.validation to a"):
        Musdb18(tmp_path).split()
    assert len(Musdb18(tmp_path, validation=0.25).split().validation) == 3


def test_a_copy_of_the_test_part_only_can_be_tested_on(musdb: Path) -> None:
    (musdb / "train").rename(musdb / "elsewhere")
    for validation in (None, 0.1):
        split = Musdb18(musdb, validation=validation).split()
        assert (split.train, split.validation, len(split.test)) == ([], [], 3)


def test_damaged_copies_are_refused(musdb: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(
        DataError, match=r"no MUSDB18 tracks \({train,test}/TRACK/STEM.wav or TRACK.stem.mp4\) in .*: set"
    ):
        Musdb18(tmp_path_factory.mktemp("empty")).split()
    with pytest.raises(SettingError, match=r"sources has drum, but no track has a stem drum \(drums\?\)"):
        Musdb18(musdb, ["drum"])
    track = musdb / "test" / "PR - Oh No"
    if track.is_dir():
        (track / "bass.wav").unlink()
        with pytest.raises(DataError, match="PR - Oh No of 3 tracks lack the stem bass: restore it from MUSDB18-HQ"):
            Musdb18(musdb).split()
        (musdb / "test" / "PR - Oh No.stem.mp4").touch()
    else:
        track.mkdir()
        (track / "vocals.wav").touch()
    with pytest.raises(DataError, match=r"PR - Oh No is in .*test as a folder and as .stem.mp4: remove one of them"):
        Musdb18(musdb).split()


def test_the_real_excerpts_are_split_and_their_stems_add_up_to_the_mixture() -> None:
    split = Musdb18(real_songs("musdb18_7s_cc"), ["vocals", "accompaniment"]).split()
    assert (len(split.train), len(split.test)) == (37, 2)
    assert names(split.validation) == [
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Meaxic - Take A Step",
    ]
    for clip in (split.train[0], split.test[0]):
        stems = clip.load(0, 3)
        error = stems["mixture"] - stems.stacked(["vocals", "accompaniment"]).sum(0)
        assert stems.sample_rate_hz == 44100
        assert 10 * torch.log10(stems["mixture"].square().sum() / error.square().sum()) > 20  # dB, by AAC
