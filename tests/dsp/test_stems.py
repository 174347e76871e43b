"""Stems by name, and names of sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hourglass_sep.dsp.stems import MOST_SOURCES, Stems, read_sources
from hourglass_sep.support.errors import SettingError


def four() -> Stems:
    return Stems({name: torch.full((2, 5), float(n)) for n, name in enumerate(("a", "b", "c", "d"))}, 44100)


def test_stems_are_a_mapping_in_their_order_that_cannot_be_changed() -> None:
    stems = four()
    assert (list(stems), len(stems), stems.sample_rate_hz) == (["a", "b", "c", "d"], 4, 44100)
    for change in ("stems['a'] = 0", "del stems['a']", "stems.sample_rate_hz = 1"):
        with pytest.raises((TypeError, AttributeError)):
            exec(change, {"stems": stems})
    given = {"a": torch.zeros(5)}
    made = Stems(given, 8000)
    given["b"] = torch.zeros(5)
    assert list(made) == ["a"]
    assert repr(four()).startswith("Stems(a (2, 5), b (2, 5)")


def test_stacked_stems_are_in_the_order_asked_for() -> None:
    stacked = four().stacked(["c", "a"])
    assert torch.equal(stacked, torch.tensor([2.0, 0.0])[:, None, None].expand(2, 2, 5))
    arrays = Stems({"a": np.zeros(5, np.float32), "b": np.ones(5, np.float32)}, 8000)
    assert torch.equal(arrays.stacked(["b"]), torch.ones(1, 5))
    with pytest.raises(ValueError, match=r"^there is no stem x, y: there are a, b, c, d$"):
        four().stacked(["a", "x", "y"])


def test_sums_replace_their_parts() -> None:
    summed = four().summed({"rest": ["b", "c", "d"]})
    assert set(summed) == {"a", "rest"}
    assert torch.equal(summed["rest"], torch.full((2, 5), 6.0))
    assert summed.sample_rate_hz == 44100
    with pytest.raises(ValueError, match="there is no stem x"):
        four().summed({"rest": ["b", "x"]})


def test_sources_are_stems_or_sums_of_stems_in_their_order() -> None:
    found = read_sources(["vocals", "rest = bass+ drums +other", "DI (left) & 'amp'"])
    assert list(found.items()) == [
        ("vocals", ("vocals",)),
        ("rest", ("bass", "drums", "other")),
        ("DI (left) & 'amp'", ("DI (left) & 'amp'",)),
    ]
    assert list(read_sources(("vocals",))) == ["vocals"]
    assert len(read_sources([f"s{n}" for n in range(MOST_SOURCES)])) == MOST_SOURCES


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], r"^sources=\[\] is not allowed: give a list of names"),
        ("vocals", "sources='vocals' is not allowed"),
        (None, "sources=None is not allowed"),
        ({"vocals": 1}, "is not allowed"),
        ({"vocals"}, "is not allowed"),
        ([3], "has '3', which is no source"),
        ([None], "has 'None', which is no source"),
        (["vocals", "vocals"], "^sources has vocals twice: leave one out"),
        (["a=x", "a=y"], "sources has a twice"),
        (["a=x+y", "b=y"], "has the stem y twice, in a and in b"),
        (["a=x+x"], "has the stem x twice, in a and in a"),
        (["mixture"], "has 'mixture', which is no source"),
        (["a=mixture"], "which is no source"),
        (["a="], "which is no source"),
        (["=a"], "which is no source"),
        (["a=b=c"], "which is no source"),
        (["../a"], "which is no source"),
        (["a/b"], "which is no source"),
        (["a,b"], "which is no source"),
        (["-a"], "which is no source"),
        ([".a"], "which is no source"),
        (["_a"], "which is no source"),
        (["a\nb"], "which is no source"),
        (["a" * 65], "which is no source"),
        ([f"s{n}" for n in range(MOST_SOURCES + 1)], "sources has 65 names: 64 can be"),
    ],
)
def test_names_that_cannot_be_are_refused_in_one_line(texts: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        read_sources(texts)
    assert "\n" not in str(caught.value)
    if not isinstance(texts, str | None):
        with pytest.raises(SettingError, match=r"^data\.sources"):
            read_sources(texts, "data.sources")
