import os
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from hourglass_sep import audio
from hourglass_sep.data.clips import Catalogue, Clip, Part, Split
from hourglass_sep.data.stem_sets import StemFolders
from hourglass_sep.support.errors import DataError, SettingError, UserError
from tests.helpers.real_songs import real_songs

FOUR = ("vocals.wav", "drums.wav", "bass.wav", "other.wav")


def make(root: Path, tracks: dict[str, tuple[str, ...]]) -> Path:
    """Empty files in folders: headers are not read."""
    for track, files in tracks.items():
        (root / track).mkdir(parents=True, exist_ok=True)
        for file in files:
            (root / track / file).touch()
    return root


def many(root: Path, count: int = 20, files: tuple[str, ...] = FOUR) -> Path:
    return make(root, {f"Artist {i // 2} - Song {i}": files for i in range(count)})


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def all_clips(split: Split) -> list[Clip]:
    return sorted(split.train + split.validation + split.test, key=lambda clip: clip.name)


def only(root: Path, **arguments) -> Clip:
    """The first clip of a set, which is not divided."""
    return all_clips(StemFolders(root, **{"validation": 0, "test": 0} | arguments).split())[0]


def test_folders_of_any_format_become_clips_and_mixture_files_their_mixtures(tmp_path: Path) -> None:
    files = ("vocals.wav", "drums.FLAC", "bass.m4a", "other.mp3", "Mixture.ogg", "cover.jpg", "notes.txt")
    many(tmp_path, 20, files)
    catalogue: Catalogue = StemFolders(tmp_path, licence="CC0")
    assert catalogue.sources == ("bass", "drums", "other", "vocals")
    assert catalogue.licence == "CC0"
    split = catalogue.split()
    assert [len(part) for part in (split.train, split.validation, split.test)] == [16, 2, 2]
    clip = all_clips(split)[0]
    folder = tmp_path / "Artist 0 - Song 0"
    assert clip.group == "Artist 0"
    assert clip.stems == {
        "bass": (Part(folder / "bass.m4a"),),
        "drums": (Part(folder / "drums.FLAC"),),
        "other": (Part(folder / "other.mp3"),),
        "vocals": (Part(folder / "vocals.wav"),),
    }
    assert clip.mixture == Part(folder / "Mixture.ogg")


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    catalogue = StemFolders(tmp_path / "none", ["vocals", "rest=drums+bass"])
    assert catalogue.sources == ("vocals", "rest")
    with pytest.raises(
        DataError, match=r"there is no .*none: set data.root to a folder of TRACK/STEM.wav, or to a CSV"
    ):
        catalogue.split()


def test_the_folder_is_read_once(tmp_path: Path) -> None:
    catalogue = StemFolders(many(tmp_path))
    before = catalogue.split()
    make(tmp_path, {"Zeno - New": FOUR})
    assert catalogue.split() is before


def test_the_division_does_not_depend_on_the_order_of_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path)
    before = StemFolders(tmp_path).split()
    original = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(original(path), reverse=True))
    assert StemFolders(tmp_path).split() == before


def test_sources_have_the_given_order_and_sums_all_their_parts(tmp_path: Path) -> None:
    clip = only(many(tmp_path, 2), sources=["vocals", "accompaniment=drums+bass+other"])
    assert list(clip.stems) == ["vocals", "accompaniment"]
    assert [part.path.name for part in clip.stems["accompaniment"]] == ["drums.wav", "bass.wav", "other.wav"]


def test_a_sum_is_the_sum_of_its_files_at_other_rates_and_channels(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    waveforms = {}
    for track in ("A", "B"):
        for stem, channels in (("vocals", 2), ("drums", 1), ("bass", 2)):
            waveforms[stem] = 0.1 * torch.randn(channels, 4000, generator=generator)
            audio.write(tmp_path / track / f"{stem}.wav", waveforms[stem], 8000)
    clip = all_clips(StemFolders(tmp_path, ["rest=drums+bass", "vocals"], validation=0, test=0).split())[1]
    stems = clip.load()
    torch.testing.assert_close(stems["rest"], waveforms["drums"].expand(2, -1) + waveforms["bass"], atol=1e-4, rtol=0)
    torch.testing.assert_close(stems["vocals"], waveforms["vocals"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("valid", ["valid", "validation", "Val"])
def test_folders_of_parts_are_the_split(tmp_path: Path, valid: str) -> None:
    make(tmp_path, {"train/A - 1": FOUR, "train/B - 1": FOUR, f"{valid}/C - 1": FOUR, "test/D - 1": FOUR, "docs": ()})
    split = StemFolders(tmp_path).split()
    assert [names(part) for part in (split.train, split.validation, split.test)] == [
        ["A - 1", "B - 1"],
        ["C - 1"],
        ["D - 1"],
    ]


def test_a_track_may_be_called_test(tmp_path: Path) -> None:
    make(tmp_path, {"test": FOUR, "other song": FOUR})
    assert names(StemFolders(tmp_path, validation=0, test=0).split().train) == ["other song", "test"]


def test_an_artist_in_two_folders_of_parts_is_refused_unless_each_track_is_a_group(tmp_path: Path) -> None:
    make(tmp_path, {"train/A - 1": FOUR, "train/B - 1": FOUR, "valid/A - 2": FOUR})
    with pytest.raises(
        DataError, match=r"group A is on both sides, with A - 1 in train and A - 2 in validation: .*=track"
    ):
        StemFolders(tmp_path).split()
    assert names(StemFolders(tmp_path, group="track").split().validation) == ["A - 2"]


def test_a_track_in_two_parts_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {"train/A": FOUR, "train/B": FOUR, "test/A": FOUR})
    with pytest.raises(DataError, match=r"A is in two parts of .*: remove or rename one of them"):
        StemFolders(tmp_path).split()


def test_tracks_beside_folders_of_parts_are_refused(tmp_path: Path) -> None:
    make(tmp_path, {"train/A": FOUR, "test/B": FOUR, "extra/C": FOUR})
    with pytest.raises(DataError, match=r"extra lies beside t.*: move its tracks into a part"):
        StemFolders(tmp_path).split()


def test_folds_and_lists_divide_folders_without_parts(tmp_path: Path) -> None:
    root = many(tmp_path, 10)
    folds = [StemFolders(root, test=["Artist 4"], fold=fold, folds=2).split() for fold in (1, 2)]
    assert sorted(names(folds[0].validation)) == sorted(names(folds[1].train))
    assert names(folds[0].test) == ["Artist 4 - Song 8", "Artist 4 - Song 9"]


def test_hidden_files_and_archive_leftovers_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, {"A": (*FOUR, "._vocals.wav", ".hidden.wav"), "B": FOUR, "__MACOSX/A": ("vocals.wav",), ".git": ()})
    assert names(StemFolders(tmp_path, validation=0, test=0).split().train) == ["A", "B"]


def test_names_are_one_whatever_their_unicode_form(tmp_path: Path) -> None:
    decomposed, composed = "Beyonce\u0301 - A", "Beyonc\u00e9 - A"
    make(tmp_path, {decomposed: FOUR, "B": FOUR})
    split = StemFolders(tmp_path, validation=[composed], test=0).split()
    assert names(split.validation) == [composed]
    assert split.validation[0].files[0].exists()


def test_stems_are_found_in_upper_and_lower_case(tmp_path: Path) -> None:
    make(tmp_path, {"A": ("Vocals.wav", "drums.wav"), "B": ("vocals.wav", "drums.wav")})
    assert only(tmp_path).stems["vocals"] == (Part(tmp_path / "A" / "Vocals.wav"),)
    make(tmp_path / "same", {"A": ("Lead.wav", "Drums.wav"), "B": ("Lead.wav", "Drums.wav")})
    assert StemFolders(tmp_path / "same").sources == ("Drums", "Lead")
    assert only(tmp_path / "same", sources=["lead"]).stems["lead"][0].path.name == "Lead.wav"


@pytest.mark.parametrize("twin", ["vocals.flac", "Vocals.wav", "VOCALS.mp3"])
def test_two_files_for_one_stem_are_refused(tmp_path: Path, twin: str) -> None:
    make(tmp_path, {"A": FOUR, "B": (*FOUR, twin)})
    with pytest.raises(DataError, match=r"B has two files for one stem, .*: remove one"):
        StemFolders(tmp_path).split()


def test_a_misspelt_source_is_refused_with_the_closest_stem(tmp_path: Path) -> None:
    catalogue = StemFolders(many(tmp_path), ["vocal", "drums"])
    with pytest.raises(
        SettingError, match=r"sources has vocal, .* stem vocal \(vocals\?\): choose from bass, drums, ot"
    ):
        catalogue.split()
    with pytest.raises(SettingError, match=r"no track has a stem backing: choose from bass, .* NAME=STEM\+STEM"):
        StemFolders(tmp_path, ["vocals", "backing"]).split()


def test_accompaniment_is_all_but_the_vocals_where_no_stem_has_that_name(tmp_path: Path) -> None:
    clip = only(many(tmp_path / "four", 2), sources=["accompaniment", "vocals"])
    assert [part.path.name for part in clip.stems["accompaniment"]] == ["bass.wav", "drums.wav", "other.wav"]
    for track in many(tmp_path / "own", 2).iterdir():
        (track / "other.wav").rename(track / "accompaniment.wav")
    clip = only(tmp_path / "own", sources=["accompaniment", "vocals"])
    assert [part.path.name for part in clip.stems["accompaniment"]] == ["accompaniment.wav"]
    with pytest.raises(SettingError, match="stem drums in"):
        StemFolders(tmp_path / "four", ["vocals", "drums", "accompaniment"]).split()


def test_a_name_that_few_tracks_have_is_blamed_on_them(tmp_path: Path) -> None:
    for track in sorted(many(tmp_path, 6).iterdir())[1:2]:
        (track / "drums.wav").rename(track / "durms.wav")
    with pytest.raises(DataError, match=r"Artist 0 - Song 1 has a stem durms, which 5 of 6 tracks do not \(drums\?\)"):
        StemFolders(tmp_path).split()


def test_one_file_is_not_in_two_parts_nor_two_stems(tmp_path: Path) -> None:
    many(tmp_path, 2)
    folder = "Artist 0 - Song 0"
    rows = [
        f"{name},{name},{part},{folder}/vocals.wav,{folder}/{other}.wav\n"
        for name, part, other in (("A", "train", "bass"), ("B", "valid", "drums"), ("C", "test", "other"))
    ]
    (tmp_path / "a.csv").write_text("track,group,split,vocals,rest\n" + "".join(rows))
    with pytest.raises(DataError, match=r"the file .*vocals.wav is on both sides"):
        StemFolders(tmp_path / "a.csv").split()
    (tmp_path / "b.csv").write_text("track,vocals,rest\nA,Artist 0 - Song 0/bass.wav,Artist 0 - Song 0/bass.wav\n")
    with pytest.raises(DataError, match=r"A has .*bass.wav as two of its stems"):
        StemFolders(tmp_path / "b.csv", validation=0, test=0).split()


def test_stems_that_are_in_no_source_are_known(tmp_path: Path) -> None:
    many(tmp_path, 2)
    assert StemFolders(tmp_path, ["vocals", "kit=drums"]).unused == ["bass", "other"]
    assert StemFolders(tmp_path).unused == []


def test_missing_stems_are_refused_with_their_number_and_the_misspelt_file(tmp_path: Path) -> None:
    many(tmp_path, 6)
    for track in ("Artist 1 - Song 2", "Artist 2 - Song 5"):
        (tmp_path / track / "vocals.wav").rename(tmp_path / track / "vocal.wav")
    with pytest.raises(
        DataError,
        match=r"^Artist 1 - Song 2 and 1 more of 6 tracks lack the stem vocals \(vocal\?\): add it, or set data.m",
    ):
        StemFolders(tmp_path, ["vocals", "drums"]).split()


def test_missing_stems_are_silent_or_leave_the_track_out_as_set(tmp_path: Path) -> None:
    make(tmp_path, {"A": FOUR, "B": FOUR[1:], "C": ("drums.wav", "other.wav", "vocals.wav")})
    sources = ["vocals", "rest=drums+bass+other"]
    silent = StemFolders(tmp_path, sources, missing="silence", validation=0, test=0).split().train
    assert [len(clip.stems["vocals"]) for clip in silent] == [1, 0, 1]
    assert [len(clip.stems["rest"]) for clip in silent] == [3, 3, 2]
    assert names(StemFolders(tmp_path, sources[:1], missing="skip", validation=0, test=0).split().train) == ["A", "C"]


def test_a_track_without_any_of_the_sources_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {"A": FOUR, "B": ("noise.wav",)})
    with pytest.raises(DataError, match="B has none of the stems of vocals, drums: remove it"):
        StemFolders(tmp_path, ["vocals", "drums"], missing="silence").split()


def test_no_track_with_all_sources_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {"A": ("vocals.wav",), "B": ("drums.wav",)})
    with pytest.raises(DataError, match="no track has all stems of vocals, drums: choose other sources"):
        StemFolders(tmp_path, ["vocals", "drums"], missing="skip").split()


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ({"A": FOUR, "B": ()}, "B has no stems: set data.root to the folder of TRACK/STEM.wav, or remove .*B"),
        ({"A": FOUR, "B": ("mixture.wav",)}, "B has no stems"),
        ({"album/A": FOUR, "album/B": FOUR}, "album has no stems: set data.root"),
        ({".": ()}, r"there are no tracks in .*: put TRACK/STEM.wav there"),
        ({"train/A": FOUR, "train/B": FOUR, "valid": ()}, "there are no tracks in .*valid"),
        ({"train": ("A.stem.mp4",), "test": ("B.stem.mp4",)}, r"has files \*.stem.mp4, as MUSDB18: use data=musdb18"),
        (
            {".": FOUR},
            "has sound files, but no folders of tracks: give the folder of TRACK/STEM.wav, or data.stem=NAME",
        ),
        ({"A": FOUR}, "A is the only track of its set: add others"),
        ({"A": ("#1.wav",), "B": ("#1.wav",)}, "the stems #1 cannot all be sources: set data.sources, or rename one"),
    ],
)
def test_folders_that_are_no_set_are_refused(tmp_path: Path, tracks: dict, message: str) -> None:
    with pytest.raises(DataError, match=message) as found:
        StemFolders(make(tmp_path, tracks)).split()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"missing": "zero"}, "data.missing='zero' is not allowed: choose from refuse, silence, skip"),
        ({"sources": ["vocals", "vocals"]}, "sources has vocals twice"),
        ({"sources": "vocals"}, "sources='vocals' is not allowed"),
        ({"stem": "mixture"}, "sources has 'mixture', which is no source"),
        ({"group": "("}, "data.group"),
        ({"validation": 2}, "data.validation=2"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_read(arguments: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        StemFolders("nowhere", **arguments)


def test_two_spellings_of_one_stem_among_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="sources has the stem Vocals in vocals and in Vocals: leave one out"):
        StemFolders(many(tmp_path), ["vocals", "Vocals"]).split()


def test_single_files_are_tracks_of_one_stem(tmp_path: Path) -> None:
    make(tmp_path, {".": ("a.wav", "b.flac", "README.md")})
    catalogue = StemFolders(tmp_path, stem="vocals", validation=0, test=0)
    assert catalogue.sources == ("vocals",)
    assert [(clip.name, clip.stems) for clip in catalogue.split().train] == [
        ("a", {"vocals": (Part(tmp_path / "a.wav"),)}),
        ("b", {"vocals": (Part(tmp_path / "b.flac"),)}),
    ]
    (tmp_path / "a.mp3").touch()
    with pytest.raises(DataError, match=r"a is there twice, as .*a.wav: remove one"):
        StemFolders(tmp_path, stem="vocals").split()


def test_single_files_may_lie_in_folders_of_parts(tmp_path: Path) -> None:
    make(tmp_path, {"train": ("a.wav", "b.wav"), "valid": ("c.wav",)})
    split = StemFolders(tmp_path, stem="vocals").split()
    assert [names(part) for part in (split.train, split.validation, split.test)] == [["a", "b"], ["c"], []]


def test_hydra_builds_it_from_plain_lists(tmp_path: Path) -> None:
    catalogue = instantiate(
        {
            "_target_": "hourglass_sep.data.stem_sets.StemFolders",
            "root": str(many(tmp_path)),
            "sources": ["vocals", "accompaniment=drums+bass+other"],
            "validation": ["Artist 1"],
            "test": ["Artist 2 - Song 4", "Artist 2 - Song 5"],
        }
    )
    split = catalogue.split()
    assert catalogue.sources == ("vocals", "accompaniment")
    assert (names(split.validation)[0], names(split.test)[0]) == ("Artist 1 - Song 2", "Artist 2 - Song 4")


def test_real_songs_without_a_bass_stem_are_refused_or_taken_as_their_sum() -> None:
    root = real_songs("everything_is_free")
    with pytest.raises(UserError, match="of 6 tracks lack the stem bass"):
        StemFolders(root).split()
    split = StemFolders(root, ["vocals", "rest=drums+bass+other"], missing="silence").split()
    assert [len(part) for part in (split.train, split.validation, split.test)] == [4, 1, 1]
    for clip in all_clips(split):
        clip.check()


def test_real_solo_voices_are_tracks() -> None:
    clip = only(real_songs("solo_singing"), stem="vocals")
    assert clip.name == "vocadito_10"
    assert clip.load(0, 1)["vocals"].shape == (1, 44100)
