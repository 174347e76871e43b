"""Temporary names: as long as the file system takes, the same for every run, and locked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hourglass_sep.support.errors import FileError
from hourglass_sep.support.files import part_of, replacing, write_all

LONG = {
    "ascii": "b" * 251 + ".wav",
    "two bytes a letter": "ä" * 125 + "b.wav",
    "four bytes a letter": "𝄞" * 62 + "abc.wav",
    "another encoding": os.fsdecode(b"\xe9" * 251 + b".wav"),
    "no suffix": "x" * 255,
    "251 bytes": "x" * 247 + ".wav",
    "140 bytes": "x" * 136 + ".wav",
}


pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("kind", LONG)
def test_a_file_whose_name_fits_is_written(kind: str) -> None:
    path = Path("out", LONG[kind])
    (written,) = write_all(Path("out"), {path.name: b"content"})
    assert written.read_bytes() == b"content"
    assert os.listdir("out") == [path.name]


@pytest.mark.parametrize("name", ["a.wav", *LONG.values()])
def test_temporary_names_are_recognised_short_whole_and_one_for_each_file(name: str) -> None:
    part = part_of(Path("out", name))
    assert part == part_of(Path("out", name))
    assert part.parent == Path("out")
    assert part.name.endswith(".part")
    assert len(os.fsencode(part.name)) <= 143
    assert part != part_of(Path("out", name[:-1] + "_"))
    assert part.name == f"{name}.part" or len(os.fsencode(name)) > 138


def test_a_temporary_name_is_valid_in_utf_8_where_the_file_s_is() -> None:
    for length in range(240, 256):
        name = "a" * (length % 3) + "歌" * (length // 3)
        part_of(Path(name)).name.encode()


@pytest.mark.parametrize("name", [*LONG.values(), "short.wav"])
def test_two_runs_do_not_write_one_file_and_what_a_killed_one_left_is_removed(name: str) -> None:
    with replacing([Path(name)]) as (part,):
        part.write_text("of the first run")
        with pytest.raises(FileError, match="being written by another run"), replacing([Path(name)]):
            pass
        assert part.read_text() == "of the first run"
    assert Path(name).read_text() == "of the first run"
    part.write_text("left behind")
    with replacing([Path(name)]) as (again,):
        assert again == part
        assert again.read_text() == ""
    assert os.listdir() == [name]


@pytest.mark.parametrize("name", ["short.wav", "n" * 17, "n" * 140, "n" * 255])
def test_a_path_as_long_as_the_system_takes_is_written(name: str, here: Path) -> None:
    folder, left = here, 4095 - len(os.fsencode(here)) - 1 - len(name)
    while left:
        step = min(left, 200 if left > 400 else left if left <= 200 else 150)
        folder, left = folder / ("d" * (step - 1)), left - step
    path = folder / name
    assert len(os.fsencode(path)) == 4095
    with replacing([path]) as (part,):
        part.write_text("content")
    assert path.read_text() == "content"
    assert os.listdir(folder) == [path.name]


@pytest.mark.parametrize("name", ["b" * 256, "ä" * 128, "d" * 300 + "/a.wav", "/".join(["d" * 200] * 22) + "/a.wav"])
def test_what_is_too_long_is_said_with_a_remedy_that_helps(name: str) -> None:
    with pytest.raises(FileError, match=r"too long.*: shorten its name") as caught, replacing([Path("out", name)]):
        pass
    assert "make room" not in str(caught.value)
    assert not Path("out").exists()
