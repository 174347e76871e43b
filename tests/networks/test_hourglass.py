import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hourglass_sep.networks.hourglass import Hourglass, StackedHourglass
from hourglass_sep.support.errors import SettingError


def literal_forward(network: StackedHourglass, magnitude: Tensor) -> Tensor:
    """Park et al. 2018, sections 3.1 and 3.2, written down call by call from the weights alone; even sizes."""
    weights = dict(network.named_parameters())
    sources, channels, fold = (network.config[name] for name in ("sources", "audio_channels", "fold"))
    cells = [(i, j) for i in range(fold) for j in range(fold)]

    def conv(x: Tensor, name: str) -> Tensor:
        weight = weights[f"{name}.weight"]
        return functional.conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def hourglass(x: Tensor, name: str, depth: int) -> Tensor:
        skip = conv(x, f"{name}.skip.0").relu()
        low = functional.max_pool2d(x, kernel_size=2, stride=2)
        low = conv(low, f"{name}.down.0").relu()
        low = hourglass(low, f"{name}.inner", depth - 1) if depth > 1 else conv(low, f"{name}.inner.0").relu()
        low = conv(low, f"{name}.up.0").relu()
        return skip + low.repeat_interleave(2, -2).repeat_interleave(2, -1)

    x = torch.stack([magnitude[:, :, i::fold, j::fold] for i, j in cells], dim=2).flatten(1, 2)
    for layer in range(5):
        x = conv(x, f"stem.{layer}.0").relu()
    stacks = []
    for k in range(network.config["stacks"]):
        features = hourglass(x, f"hourglasses.{k}", network.config["depth"])
        features = conv(conv(features, f"features.{k}.0.0").relu(), f"features.{k}.1.0").relu()
        masks = conv(features, f"heads.{k}")
        unfolded = magnitude.new_zeros(len(magnitude), sources, channels, *magnitude.shape[-2:])
        for s in range(sources):
            for c in range(channels):
                for n, (i, j) in enumerate(cells):
                    unfolded[:, s, c, i::fold, j::fold] = masks[:, (s * channels + c) * len(cells) + n]
        stacks.append(unfolded)
        if k + 1 < network.config["stacks"]:
            x = x + conv(features, f"feature_links.{k}") + conv(masks, f"mask_links.{k}")
    return torch.stack(stacks)


@pytest.mark.parametrize(("stacks", "millions"), [(1, 8.99), (2, 17.39), (4, 34.18)])
def test_parameter_counts_are_the_papers(stacks: int, millions: float) -> None:
    with torch.device("meta"):
        network = StackedHourglass(stacks=stacks, channels=256, depth=4, sources=2)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize(("sources", "channels"), [(2, 1), (3, 2)])
@pytest.mark.parametrize("fold", [1, 2])
def test_network_computes_what_the_paper_says_on_folded_cells_too(fold: int, sources: int, channels: int) -> None:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=3, channels=8, depth=3, sources=sources, fold=fold, audio_channels=channels)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    magnitude = torch.rand(2, channels, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(magnitude), literal_forward(network, magnitude))


@pytest.mark.parametrize("size", [(512, 64), (33, 7), (1, 1), (17, 64), (512, 1)])
@pytest.mark.parametrize(("fold", "channels"), [(1, 1), (2, 2), (3, 1)])
def test_masks_have_the_inputs_size_whatever_it_is(size: tuple[int, int], fold: int, channels: int) -> None:
    network = StackedHourglass(stacks=2, channels=4, depth=4, sources=3, fold=fold, audio_channels=channels)
    assert network(torch.rand(2, channels, *size)).shape == (2, 2, 3, channels, *size)


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=3, channels=8, depth=2)
    network(torch.rand(2, 1, 32, 32)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("weight"):
            assert parameter.grad.abs().max() > 0, name


def test_a_later_stack_sees_the_masks_of_the_one_before() -> None:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=2, channels=8, depth=1)
    magnitude = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        before = network(magnitude)
        network.get_parameter("mask_links.0.weight").zero_()
        after = network(magnitude)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_checkpointing_changes_memory_but_no_gradient() -> None:
    magnitude = torch.rand(2, 1, 32, 16)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = StackedHourglass(stacks=2, channels=8, depth=2, checkpointing=checkpointing).train()
        network(magnitude).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_channels_last_changes_the_layout_but_no_mask() -> None:
    magnitude = torch.rand(2, 1, 32, 16)
    masks = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        network = StackedHourglass(stacks=2, channels=8, depth=2, fold=2, channels_last=channels_last)
        weight = network.get_parameter("stem.1.0.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        masks.append(network(magnitude))
    torch.testing.assert_close(masks[0], masks[1], rtol=1e-4, atol=1e-5)


def test_dropout_leaves_out_whole_feature_maps_of_lower_levels_while_training_only() -> None:
    magnitude = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    plain = StackedHourglass(stacks=1, channels=8, depth=2)
    network = StackedHourglass(stacks=1, channels=8, depth=2, dropout=0.5)
    network.load_state_dict(plain.state_dict())
    assert network.config == plain.config
    maps: list[torch.Tensor] = []
    for dropout in [module for module in network.modules() if isinstance(module, torch.nn.Dropout2d)]:
        dropout.register_forward_hook(lambda module, args, output: maps.append((output / args[0])[0]))
    torch.testing.assert_close(network.eval()(magnitude), plain(magnitude))
    maps.clear()
    for _ in range(20):
        network.train()(magnitude)
    assert len(maps) == 40
    kept = torch.stack([factors.nanmedian(-1).values.nanmedian(-1).values for factors in maps])  # 0 / 0 says nothing
    assert set(kept[kept.isfinite()].tolist()) == {0.0, 2.0}
    assert 0.3 < float((kept == 0).float().mean()) < 0.7


def test_dropout_leaves_the_skip_branch_alone() -> None:
    x = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    hourglass = Hourglass(4, depth=1, dropout=0.999)  # nothing comes up from below
    torch.testing.assert_close(hourglass.train()(x), hourglass.skip(x))


def test_weights_start_with_the_variance_of_one_over_fan_in() -> None:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=1, channels=256, depth=1)
    weight = network.get_parameter("hourglasses.0.skip.0.weight").detach()
    assert float(weight.std()) == pytest.approx(1 / math.sqrt(9 * 256), rel=0.01)
    assert not network.get_parameter("heads.0.bias").any()


@pytest.mark.parametrize(
    "sizes",
    [
        {"stacks": 0},
        {"stacks": "4"},
        {"stacks": True},
        {"depth": 0},
        {"channels": 6},
        {"fold": 0},
        {"sources": 0},
        {"audio_channels": 0},
        {"dropout": -0.1},
        {"dropout": 1},
    ],
)
def test_impossible_sizes_are_named(sizes: dict[str, Any]) -> None:
    (name,) = sizes
    with pytest.raises(SettingError, match=rf"model\.{name}="):
        StackedHourglass(**sizes)


@pytest.mark.parametrize("shape", [(512, 64), (1, 2, 512, 64), (1, 1, 0, 64), (0, 1, 8, 8)])
def test_input_of_another_shape_is_refused_with_the_shape_found(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"shape {re.escape(str(shape))}, expected \(B, 1, F, T\)"):
        StackedHourglass(stacks=1, channels=4, depth=1)(torch.zeros(shape))


def test_a_stereo_network_takes_no_mono_input() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 1, 8, 8\), expected \(B, 2, F, T\)"):
        StackedHourglass(stacks=1, channels=4, depth=1, audio_channels=2)(torch.zeros(1, 1, 8, 8))
