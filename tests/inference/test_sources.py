"""Separators of any number of sources: their names, their order, and networks that do not fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.reconstruct import Misi, Reconstruction, Wiener
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import SettingError
from tests.helpers.sounds import noise

FOUR = ("vocals", "drums", "bass", "other")
STFT = Spectrogram(n_fft=256, hop_length=64, n_freq=128)


class Constant(nn.Module):
    """One stack, one number for each source."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.values[None, None, :, None, None].expand(1, len(magnitude), -1, *magnitude.shape[-2:])


def separator(sources: tuple[str, ...], **settings: Any) -> Separator:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=2, channels=8, depth=2, sources=len(sources))
    for weight in network.parameters():
        weight.data *= 1.5
    for head in network.heads:
        nn.init.constant_(head.bias, 1.0)  # type: ignore[arg-type]
    return Separator(network, STFT, sources=sources, **settings).eval()


def test_stems_have_the_sources_names_in_the_order_of_the_masks() -> None:
    song = noise(2, 9000)
    stems = Separator(Constant(1.0, 2.0, 3.0, 4.0), STFT, sources=FOUR).separate(song, 8000)
    assert tuple(stems) == FOUR
    for share, name in zip((0.1, 0.2, 0.3, 0.4), FOUR, strict=True):
        torch.testing.assert_close(stems[name], share * song, atol=1e-6, rtol=0)
    turned = Separator(Constant(1.0, 2.0, 3.0, 4.0), STFT, sources=[*FOUR[::-1]])
    assert tuple(turned.separate(song, 8000)) == FOUR[::-1]
    torch.testing.assert_close(turned.separate(song, 8000)["vocals"], 0.4 * song, atol=1e-6, rtol=0)
    (part,) = turned.stream([song], 8000)
    assert tuple(part) == FOUR[::-1]


@pytest.mark.parametrize("sources", [FOUR, ("vocals",), ("a", "b", "c")])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_stems_of_any_number_add_up_to_the_song(sources: tuple[str, ...], rate: int) -> None:
    song = 0.1 * noise(2, 9000)
    rules: tuple[Reconstruction | None, ...] = (None, Wiener(), Misi(2))
    for rule in rules if rate == 16000 else rules[:1]:
        stems = separator(sources, reconstruct=rule).separate(song, rate)
        assert stems.stacked(sources).shape == (len(sources), 2, 9000)
        torch.testing.assert_close(stems.stacked(sources).sum(0), song, atol=2e-6, rtol=0)
        for name in sources[1:]:
            assert not torch.allclose(stems[name], stems[sources[0]], atol=1e-3)


def test_one_source_of_raw_masks_is_a_filter_and_of_shared_masks_the_song() -> None:
    song = noise(9000)
    raw = Separator(Constant(0.25), STFT, sources=["speech"], masks="raw").separate(song, 8000)
    torch.testing.assert_close(raw["speech"], 0.25 * song, atol=1e-6, rtol=0)
    shared = Separator(Constant(0.25), STFT, sources=["speech"]).separate(song, 8000)
    torch.testing.assert_close(shared["speech"], song, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_names_and_order_are_stored_with_the_weights(suffix: str, tmp_path: Path) -> None:
    mine, song = separator(FOUR), 0.1 * noise(9000)
    path = tmp_path / f"a{suffix}"
    if suffix == ".ckpt":
        state = {f"separator.{name}": value for name, value in mine.state_dict().items()}
        torch.save({"hourglass_sep": mine.description, "state_dict": state}, path)
    else:
        mine.save_weights(path, {})
    again = Separator.from_checkpoint(path)
    assert again.sources == FOUR
    assert again.description == mine.description
    expected = mine.separate(song, 8000).stacked(FOUR)
    torch.testing.assert_close(again.separate(song, 8000).stacked(FOUR), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ("vocals", "sources='vocals' is not allowed: give a list of names"),
        (None, "sources=None is not allowed"),
        ([], r"sources=\[\] is not allowed"),
        ([1, 2], "sources has '1', which is no source"),
        (["vocals", "vocals"], "sources has vocals twice"),
        (["vocals", "mixture"], "sources has 'mixture', which is no source"),
        (["vocals", "../x"], "which is no source"),
        (3, "sources=3 is not allowed"),
    ],
)
def test_sources_that_cannot_be_are_refused_in_one_line(sources: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        Separator(Constant(1.0, 1.0), STFT, sources=sources)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.0, 1.0)])
def test_a_network_of_another_number_of_sources_is_named(values: tuple[float, ...]) -> None:
    """Otherwise its masks would become stems under other names."""
    mine = Separator(Constant(*values), STFT, sources=FOUR[:2])
    with pytest.raises(SettingError, match=r"^the network Constant returned shape .*for 2 sources") as caught:
        mine.separate(noise(900), 8000)
    assert "\n" not in str(caught.value)
    ours = Separator(StackedHourglass(stacks=1, channels=4, depth=1, sources=len(values)), STFT, sources=FOUR[:2])
    with pytest.raises(SettingError, match=r"^the network StackedHourglass returned shape"):
        ours.separate(noise(900), 8000)


def test_a_description_holds_copies_of_the_networks_arguments() -> None:
    mine = separator(FOUR)
    mine.description["network"]["arguments"]["stacks"] = 9
    mine.description["sources"].append("more")
    mine.description["audio"]["n_fft"] = 9
    assert mine.description["network"]["arguments"]["stacks"] == 2
    assert mine.description["sources"] == [*FOUR]
    assert mine.description["audio"]["n_fft"] == mine.spectrogram.n_fft
