import pytest
import torch

from hourglass_sep import audio


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 8000), (8000, 44100), (16000, 16000), (44101, 8000)])
@pytest.mark.parametrize("block", [1, 700, 1 << 16])
def test_blocks_are_resampled_as_the_whole_waveform_is(from_hz: int, to_hz: int, block: int) -> None:
    waveform = torch.randn(2, 3001, generator=torch.Generator().manual_seed(0))
    resampler = audio.Resampler(from_hz, to_hz, 2)
    found = [resampler(piece) for piece in waveform.split(block, -1)]
    found.append(resampler(waveform[:, :0], last=True))
    assert torch.equal(torch.cat(found, -1), audio.resample(waveform, from_hz, to_hz))
