import numpy as np
import pytest
import torch

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.plotting.separation import picture
from tests.helpers.sounds import noise


@pytest.mark.parametrize(("n_sources", "stacks", "channels"), [(1, 1, 1), (2, 2, 1), (4, 4, 2), (12, 1, 2)])
def test_each_source_has_a_column_and_each_stack_a_row(n_sources: int, stacks: int, channels: int) -> None:
    names = [f"source {n}" for n in range(n_sources)]
    torch.manual_seed(0)
    network = StackedHourglass(stacks=stacks, channels=4, depth=1, sources=n_sources)
    separator = Separator(network, Spectrogram(), sources=names).eval()
    references = noise(n_sources, channels, 22050, level=0.1)
    figure = picture(separator, references.sum(0), 44100, references, start_seconds=3.0)
    titles = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    shown = names[:8]
    expected = {"mixture", *(f"{name}, {kind}" for name in shown for kind in ("estimate", "reference"))}
    assert set(titles) == expected | {f"mask of {name}, stack {k + 1}" for name in shown for k in range(stacks)}
    width, height = figure.get_size_inches()
    assert width < 16
    assert height < 16
    masks = separator.stack_masks(torch.rand(1, 1, 512, 16)).shape[0]
    assert masks == stacks
    image = titles["source 0, reference"].images[0]
    assert image.get_extent() == [3.0, 3.5, 0.0, 4.0]
    assert np.asarray(image.get_array()).ndim == 2
