"""Convolution with impulse responses by FFT."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_ODD = tuple(3**threes * 5**fives for threes in range(12) for fives in range(8))
_SHORTEST_BLOCK = 4096  # samples; shorter blocks cost more than they save


def fast_length(least: int) -> int:
    """Smallest FFT length from ``least`` on that is 16 times a number without prime factors above 5.

    MKL's transforms of odd lengths take twice as long as those of multiples of 16.
    """
    least = -(-least // 16)
    return 16 * min(odd << (-(-least // odd) - 1).bit_length() for odd in _ODD)


def convolve(waveform: Tensor, response: Tensor) -> Tensor:
    """Convolve each channel with an impulse response, cut to the length of the waveform.

    By overlap-add. `torchaudio.functional.fftconvolve` takes two to five times as long: it pads to a length whose
    largest prime factor may be anything (experiments/effects).

    Args:
        waveform: (C, N), float32.
        response: (C, L), or (1, L) for all channels; L at most N.

    Returns:
        (C, N).
    """
    n_samples, length = waveform.shape[-1], response.shape[-1]
    n_blocks = max(1, n_samples // max(length, _SHORTEST_BLOCK))
    block = -(-n_samples // n_blocks)
    n_fft = fast_length(block + length - 1)
    blocks = F.pad(waveform, (0, n_blocks * block - n_samples)).unflatten(-1, (n_blocks, block))
    spectra = torch.fft.rfft(blocks, n_fft) * torch.fft.rfft(response, n_fft)[:, None]
    filtered = torch.fft.irfft(spectra, n_fft)
    filtered[:, 1:, : length - 1] += filtered[:, :-1, block : block + length - 1]
    return filtered[..., :block].flatten(1)[:, :n_samples]
