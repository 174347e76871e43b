"""Networks of any package: what they may return, and how they are built from a class and arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hourglass_sep.networks.base import build_network, masks_of, target_of
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import SettingError


class Returns(nn.Module):
    """Returns what it is given, whatever the magnitude."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, magnitude: Tensor) -> Any:
        return self.result


class Plain(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)


class Counted(Plain):
    def __init__(self, sources: int, audio_channels: int, width: int = 3) -> None:
        super().__init__(width)
        self.counts = (sources, audio_channels)


class Configured(Plain):
    def __init__(self, width: int = 3) -> None:
        super().__init__(width)
        self.config = {"width": width, "from": "itself"}


class Anything(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings


class Even(Plain):
    def __init__(self, width: int = 3) -> None:
        if width % 2:
            raise ValueError(f"width is {width}:\nit must be even")
        super().__init__(width)


def built(make: Any, arguments: dict[str, Any], n_sources: int = 4, audio_channels: int = 2) -> tuple[Any, list[str]]:
    return build_network(make, arguments, n_sources, audio_channels)


# --- masks_of --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_masks_of_all_channels_or_one_for_all_are_returned_as_they_are(channels: int) -> None:
    masks = torch.rand(3, 2, 4, channels, 8, 5)
    assert masks_of(Returns(masks), torch.rand(2, 2, 8, 5), 4) is masks


def test_masks_without_a_channel_axis_are_one_for_all_channels() -> None:
    masks = torch.rand(3, 2, 4, 8, 5)
    found = masks_of(Returns(masks), torch.rand(2, 2, 8, 5), 4)
    assert found.shape == (3, 2, 4, 1, 8, 5)
    assert torch.equal(found[:, :, :, 0], masks)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (torch.rand(1, 2, 3, 2, 8, 5), r"shape \(1, 2, 3, 2, 8, 5\)"),  # sources
        (torch.rand(1, 1, 4, 2, 8, 5), r"shape \(1, 1, 4, 2, 8, 5\)"),  # batch
        (torch.rand(1, 2, 4, 3, 8, 5), r"shape \(1, 2, 4, 3, 8, 5\)"),  # channels
        (torch.rand(1, 2, 4, 2, 7, 5), r"shape \(1, 2, 4, 2, 7, 5\)"),  # bins
        (torch.rand(1, 2, 4, 2, 8, 4), r"shape \(1, 2, 4, 2, 8, 4\)"),  # frames
        (torch.rand(0, 2, 4, 2, 8, 5), r"shape \(0, 2, 4, 2, 8, 5\)"),  # stacks
        (torch.rand(2, 4, 8, 5), r"shape \(2, 4, 8, 5\)"),
        (torch.rand(1, 2, 3, 8, 5), r"shape \(1, 2, 3, 1, 8, 5\)"),
        ((torch.rand(1, 2, 4, 2, 8, 5),), "a tuple"),
        (None, "a NoneType"),
        ([1.0], "a list"),
    ],
)
def test_other_results_are_named_with_the_network_and_what_is_expected(result: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        masks_of(Returns(result), torch.rand(2, 2, 8, 5), 4)
    text = str(caught.value)
    assert "\n" not in text
    assert "the network Returns returned" in text
    assert "return masks (K, 2, 4, 2, 8, 5) for 4 sources" in text


# --- build_network ---------------------------------------------------------------------------------------------------


def test_the_numbers_of_sources_and_channels_are_passed_to_classes_that_take_them_only() -> None:
    network, unknown = built(Counted, {"width": 5, "sources": 2})
    assert network.counts == (4, 2)
    assert network.config == {"width": 5, "sources": 4, "audio_channels": 2}
    assert unknown == []
    plain, unknown = built(Plain, {"width": 5})
    assert (plain.layer.in_features, plain.config, unknown) == (5, {"width": 5}, [])
    ours, _ = built(StackedHourglass, {"stacks": 1, "channels": 4, "depth": 1})
    assert ours(torch.rand(1, 2, 8, 8)).shape == (1, 1, 4, 2, 8, 8)


def test_arguments_that_a_foreign_class_does_not_take_are_left_out_and_named() -> None:
    network, unknown = built(Plain, {"width": 5, "stacks": 4, "fold": 2})
    assert unknown == ["stacks", "fold"]
    assert network.config == {"width": 5}
    anything, unknown = built(Anything, {"width": 5, "stacks": 4})
    assert anything.settings == {"width": 5, "stacks": 4}
    assert unknown == []


def test_this_packages_class_refuses_arguments_that_it_does_not_take() -> None:
    with pytest.raises(SettingError, match=r"StackedHourglass cannot be made .*'stakcs'.* see conf/model") as caught:
        built(StackedHourglass, {"stakcs": 4})
    assert "\n" not in str(caught.value)


def test_a_network_keeps_its_own_config() -> None:
    assert built(Configured, {"width": 5})[0].config == {"width": 5, "from": "itself"}


def test_a_config_is_of_plain_values_and_no_one_elses_lists() -> None:
    given = {"sizes": [1, 2], "pair": (3, 4)}
    network, _ = built(Anything, given)
    given["sizes"].append(3)  # type: ignore[attr-defined]
    assert network.config == {"sizes": [1, 2], "pair": [3, 4]}


@pytest.mark.parametrize("value", [torch.zeros(1), float("nan"), float("inf"), {1, 2}, nn.ReLU(), nn.ReLU, b"x"])
def test_arguments_that_no_checkpoint_could_hold_are_refused(value: Any) -> None:
    with pytest.raises(SettingError, match=r"test_base\.Anything has arguments that are no plain values") as caught:
        built(Anything, {"value": value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [len, nn.functional.relu, int, "torch.nn.Linear", None, nn.ReLU()])
def test_what_is_no_network_class_is_refused(make: Any) -> None:
    with pytest.raises(SettingError, match=r"^model\._target_=.* is not allowed: give a class that is a torch"):
        built(make, {})


def test_a_class_that_refuses_its_arguments_is_named() -> None:
    with pytest.raises(SettingError, match=r"test_base\.Plain cannot be made"):
        built(Plain, {"width": "wide"})
    with pytest.raises(SettingError, match=r"test_base\.Even cannot be made \(width is 5: it must be even\)"):
        built(Even, {"width": 5})
    with pytest.raises(SettingError, match=r"^model\.stacks=0 is not allowed"):
        built(StackedHourglass, {"stacks": 0})


def test_a_target_is_the_dotted_name_of_the_class() -> None:
    assert target_of(Plain()) == f"{__name__}.Plain"
