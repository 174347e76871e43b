"""Cards of both formats: files of earlier versions, and the weights that ship."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hourglass_sep import Separator
from hourglass_sep.checkpoints.card import FORMAT, OWN_NETWORK, problem, upgraded
from hourglass_sep.checkpoints.shipped import shipped_cards
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.networks.base import target_of
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.paths import WEIGHTS_DIR

OLD = Path(__file__).resolve().parents[1] / "records" / "old"
PARTS = ("network", "sources", "audio", "inference")


def old_card() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((OLD / "card_v1.json").read_text())
    return content


def test_a_card_of_the_former_format_says_the_same_in_the_present_one() -> None:
    former, present = old_card(), upgraded(old_card())
    assert present["format"] == FORMAT != former["format"]
    assert problem(present) == ""
    assert present["network"] == {"_target_": OWN_NETWORK, "arguments": former["model"] | {"audio_channels": 1}}
    assert present["audio"] == former["audio"] | {"channels": 1, "stereo": "mid_side"}
    assert present["sources"] == ["accompaniment", "vocals"]
    assert present["inference"] == former["inference"]
    others = former.keys() - {"format", "model", "audio", "inference"}
    assert present["facts"] == {key: former[key] for key in others}
    assert len(others) > 8
    assert present.keys() == {"format", *PARTS, "facts"}
    assert upgraded(present) == present


def test_the_present_format_names_the_class_that_this_package_builds() -> None:
    assert target_of(StackedHourglass(stacks=1, channels=4, depth=1)) == OWN_NETWORK


@pytest.mark.parametrize("other", [None, 3, [], {}, {"format": "hourglass_sep/1.5"}, {"format": ["hourglass_sep/1"]}])
def test_what_is_not_of_the_former_format_is_left_as_it_is(other: Any) -> None:
    assert upgraded(other) is other


def test_weights_with_a_card_of_the_former_format_are_loaded_as_the_shipped_ones(tmp_path: Path) -> None:
    shutil.copy(WEIGHTS_DIR / "default.safetensors", tmp_path / "mine.safetensors")
    shutil.copy(OLD / "card_v1.json", tmp_path / "mine.json")
    mine, shipped = Separator.from_checkpoint(tmp_path / "mine.safetensors"), Separator.from_pretrained()
    assert mine.description == shipped.description
    noise = 0.1 * torch.randn(9000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mine.separate(noise, 8000)["vocals"], shipped.separate(noise, 8000)["vocals"])


def test_a_checkpoint_of_the_former_format_is_loaded() -> None:
    separator = Separator.from_checkpoint(OLD / "two_steps.ckpt")
    assert separator.sources == SOURCES
    assert separator.description["format"] == FORMAT
    assert (separator.spectrogram.channels, separator.network.config["audio_channels"]) == (1, 1)  # type: ignore[index]
    assert problem(separator.description) == ""


def test_cards_of_the_shipped_weights_describe_their_separators_and_keep_their_facts() -> None:
    cards = shipped_cards()
    assert {*cards} == {path.stem for path in WEIGHTS_DIR.glob("*.safetensors")} == {"default", "large"}
    for name, card in cards.items():
        assert problem(card) == ""
        described = Separator.from_pretrained(name).description
        for part in ("sources", "audio", "inference"):
            assert card[part] == described[part]
        assert described["network"]["arguments"].items() <= card["network"]["arguments"].items()
        assert {"trained_on", "data_licence", "licence", "commit", "test_scores_db"} <= card["facts"].keys()


def test_a_saved_card_can_be_read_again_and_keeps_facts_apart(tiny_separator: Separator, tmp_path: Path) -> None:
    tiny_separator.save_weights(tmp_path / "a.safetensors", {"audio": "mine", "steps": 3})
    card = json.loads((tmp_path / "a.json").read_text())
    assert card == tiny_separator.description | {"facts": {"audio": "mine", "steps": 3}}
    assert problem(card) == ""
