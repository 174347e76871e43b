from pathlib import Path

import pytest

from hourglass_sep.data.clips import Part
from hourglass_sep.data.stem_sets import StemFolders
from hourglass_sep.support.errors import DataError

TABLE = """track,group,split,vocals,drums,mixture
One,amy,train,a/v1.wav,a/d1.wav,a/m1.wav
Two,bob,valid,a/v2.wav,a/d2.wav,

Three,carl,test,a/v3.flac,a/d3.wav,a/m3.wav
"""


def write(root: Path, text: str, encoding: str = "utf-8") -> Path:
    (root / "a").mkdir(exist_ok=True)
    for name in ("v1.wav", "d1.wav", "m1.wav", "v2.wav", "d2.wav", "v3.flac", "d3.wav", "m3.wav"):
        (root / "a" / name).touch()
    (root / "set.csv").write_text(text, encoding=encoding)
    return root / "set.csv"


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8"), (", ", "utf-8")]
)
def test_a_table_gives_paths_groups_and_parts(tmp_path: Path, delimiter: str, encoding: str) -> None:
    catalogue = StemFolders(write(tmp_path, TABLE.replace(",", delimiter), encoding))
    assert catalogue.sources == ("drums", "vocals")
    split = catalogue.split()
    (one,), (two,), (three,) = split.train, split.validation, split.test
    assert (one.name, one.group, one.mixture) == ("One", "amy", Part(tmp_path / "a" / "m1.wav"))
    assert (two.name, two.group, two.mixture) == ("Two", "bob", None)
    assert three.stems == {"drums": (Part(tmp_path / "a" / "d3.wav"),), "vocals": (Part(tmp_path / "a" / "v3.flac"),)}


def test_without_group_and_split_artists_are_groups_and_shares_are_drawn(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.wav").touch()
    rows = "".join(f"Artist {i // 2} - {i},{i}.wav\n" for i in range(20))
    split = StemFolders(write(tmp_path, "Track,Vocals\n" + rows)).split()
    assert [len(part) for part in (split.train, split.validation, split.test)] == [16, 2, 2]
    assert len({clip.group for clip in split.train}) == 8


def test_absolute_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_text(f"track,vocals\nOne,{tmp_path / 'a' / 'v1.wav'}\nTwo,a/v2.wav\n")
    assert StemFolders(path, validation=0, test=0).split().train[0].files == [tmp_path / "a" / "v1.wav"]


def test_an_empty_cell_is_a_missing_stem(tmp_path: Path) -> None:
    table = write(tmp_path, TABLE.replace("a/v2.wav", ""))
    with pytest.raises(DataError, match="Two of 3 tracks lack the stem vocals: add it"):
        StemFolders(table).split()
    assert StemFolders(table, missing="silence").split().validation[0].stems["vocals"] == ()


def test_a_group_on_both_sides_is_refused_unless_each_track_is_a_group(tmp_path: Path) -> None:
    table = write(tmp_path, TABLE.replace("carl", "amy"))
    with pytest.raises(DataError, match="group amy is on both sides, with One in train and Three in test"):
        StemFolders(table).split()
    assert StemFolders(table, group="track").split().test[0].group == "Three"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            TABLE,
            "",
            "set.csv has no column for tracks or stems: its first line should be track, group, split and a name",
        ),
        ("track,", "song,", "has no column for tracks or stems"),
        (",vocals,drums,mixture", ",mixture", "has no column for tracks or stems"),
        ("vocals,drums", "drums,Drums", "has two columns 'drums'"),
        ("Two,", "One,", "row 3 has the track One again: correct it"),
        ("Two,", ",", "row 3 has no track: correct it"),
        ("valid", "valdi", "row 3: Two has the split 'valdi', which is none of train, valid, test"),
        (",valid,", ",,", "row 3: Two has the split '', which is none"),
        ("bob,valid", "valid", r"row 3 \(Two\) has 5 cells, but 6 columns"),
        ("a/v2.wav,a/d2.wav", ",", "row 3: Two has no stems: remove it"),
        ("a/v2.wav", "a/v2.wave", r"Two has no file .*a/v2.wave \(v2.wav\?\) for vocals: correct the table"),
        ("a/v2.wav", "a", "Two has no file .*/a for vocals"),
        ("a/m1.wav", "b/m1.wav", "One has no file .*b/m1.wav for mixture"),
        (TABLE[TABLE.index("\n") :], "\n", "set.csv has no rows: add a row per track"),
    ],
)
def test_invalid_tables_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    with pytest.raises(DataError, match=message) as found:
        StemFolders(write(tmp_path, TABLE.replace(old, new, 1))).split()
    assert "\n" not in str(found.value)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(b"RIFF\xff\xfe\x00\x80")
    with pytest.raises(
        DataError, match=r"song.wav cannot be read as a table .*: set data.root to a CSV file or a folder"
    ):
        StemFolders(path).split()
