"""Stems by the sources of the weights: their order, and their names in file names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass_sep.dsp.stems import SOURCES, read_sources
from hourglass_sep.songs.choices import check_stems, in_written_order
from hourglass_sep.songs.filenames import file_names, folded
from hourglass_sep.support.errors import SettingError, UserError
from tests.helpers.weights import BAND


@pytest.mark.parametrize(
    ("sources", "order"),
    [
        (SOURCES, ["vocals", "accompaniment"]),
        (BAND, ["vocals", "drums", "bass", "other"]),
        (("speech", "music"), ["speech", "music"]),
    ],
)
def test_vocals_come_first_and_the_others_as_the_weights_have_them(sources: tuple[str, ...], order: list[str]) -> None:
    assert in_written_order(sources) == order


@pytest.mark.parametrize(
    ("stems", "two_stems", "message"),
    [
        (["drms"], None, "--stems 'drms' is no stem of these weights: did you mean drums? they have vocals, drums, "),
        (["vocals", ""], None, "--stems '' is no stem of these weights: they have vocals, drums, bass, other"),
        (None, "VOCALS", "--two-stems 'VOCALS' is no stem of these weights: did you mean vocals? they have vocals,"),
        (None, "accompaniment", "--two-stems 'accompaniment' is no stem of these weights: they have vocals, drums,"),
        ([], None, "--stems is empty: choose from vocals, drums, bass, other"),
    ],
)
def test_a_stem_that_the_weights_lack_is_named_with_those_they_have(
    stems: list[str] | None, two_stems: str | None, message: str
) -> None:
    with pytest.raises(SettingError) as caught:
        check_stems(stems, two_stems, BAND)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_names_that_are_plain_are_names_of_files() -> None:
    assert file_names(BAND) == {name: name for name in BAND}


def test_names_that_a_file_system_would_take_for_one_are_numbered_and_those_it_refuses_are_changed() -> None:
    found = file_names(["Vocals", "vocals", "VOCALS.", "vocals_2", "aux", "café", "cafe\u0301", "a. ."])
    assert found == {
        "Vocals": "Vocals",
        "vocals": "vocals_2",
        "VOCALS.": "VOCALS_3",
        "vocals_2": "vocals_2_2",
        "aux": "aux_",
        "café": "café",
        "cafe\u0301": "cafe\u0301_2",
        "a. .": "a",
    }


letters = st.sampled_from("aAbB1é") | st.characters(categories=("L", "N"))
texts = st.tuples(letters, st.text(st.sampled_from("aA. _()&'+-2"), max_size=5)).map("".join)


@given(st.lists(texts, min_size=1, max_size=8, unique=True))
def test_any_sources_have_different_names_of_files_that_lead_nowhere(names: list[str]) -> None:
    try:
        sources = [*read_sources(names)]
    except UserError:
        return
    found = file_names(sources)
    assert list(found) == sources
    assert len({folded(name) for name in found.values()}) == len(sources)
    assert all(name and name == name.rstrip(". ") and not set(name) & set("/\\:\0") for name in found.values())
