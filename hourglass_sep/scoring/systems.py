"""What a separator is compared with: oracle masks above, a method without training below.

All are callables of the same kind, `System`, so that every row of a table comes from the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep.audio import resample
from hourglass_sep.inference.reconstruct import MixturePhase
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.metrics import median
from hourglass_sep.signal.masks import share
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.signal.stft import Spectrogram
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import SettingError

_CHUNK_FRAMES = 64
"""Frames whose similar ones are in memory at once."""


class System(Protocol):
    """Anything that can be scored."""

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """Estimate the sources.

        Args:
            mixture: (C, N).
            references: (S, C, N), for oracles only.
            sample_rate_hz: the rate of both.
            separator: the model under test; oracles go through its STFT and its rule for the high band.

        Returns:
            (S, C, N).
        """


class Model:
    """The separator itself."""

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`."""
        return separator(mixture[None], sample_rate_hz)[0]


class Stack:
    """The separator, but with the masks of an earlier stack of its network: what each stack adds.

    Args:
        number: which stack, counted from 1.
    """

    def __init__(self, number: int) -> None:
        check_whole("baselines.stack.number", number)
        self.number = number

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`.

        Raises:
            SettingError: the network has fewer stacks.
        """
        stft = separator.spectrogram
        magnitude = stft.mono_magnitude(stft(resample(mixture[None], sample_rate_hz, stft.sample_rate_hz)))
        of_all = separator.stack_masks(magnitude)  # (K, 1, S, F, T)
        if self.number > len(of_all):
            raise SettingError(
                f"stack {self.number} is asked for, the network has {len(of_all)}: leave it out with "
                f"~baselines.stack_{self.number}"
            )
        masks = share(separator.refine(of_all[self.number - 1], magnitude), separator.mask_rule)
        return separator.render(mixture[None], sample_rate_hz, masks)[0]


class OracleMask:
    """Masks made from the references: the best that a mask of that kind can do.

    Args:
        mask: spectra (..., S, F, T) to masks, one of `hourglass_sep.signal.masks`'s.
    """

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        self.mask = mask

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`. The masks are those of the channels' mean, as the network's are; the phase is the mixture's."""
        stft = separator.spectrogram
        spectra = stft(resample(references.mean(1), sample_rate_hz, stft.sample_rate_hz))
        masks = self.mask(spectra[..., : stft.n_freq, :])
        return separator.render(mixture[None], sample_rate_hz, masks[None], MixturePhase())[0]


class RepetSim:
    """REPET-SIM: what repeats is accompaniment, the rest is voice; nothing is learned.

    Every frame is compared with all others; the median of the frames most like it is what repeats there. Source:
    Rafii and Pardo, "Music/voice separation using the similarity matrix", ISMIR 2012. Their windows are of 40 ms and
    similar frames a second apart; in clips of 8 s, of MIR-1K's training singers, these defaults did better.

    Args:
        window_seconds: of the STFT, rounded to a power of two of samples, with a hop of a quarter.
        max_similar: frames that the median is over, at most.
        min_distance_seconds: between two of them; less would find the neighbours of every frame.
        high_pass_hz: up to here all is accompaniment.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        window_seconds: float = 0.064,
        max_similar: int = 100,
        min_distance_seconds: float = 0.1,
        high_pass_hz: float = 100.0,
    ) -> None:
        check_whole("baselines.repet_sim.max_similar", max_similar)
        if window_seconds <= 0 or min_distance_seconds < 0 or high_pass_hz < 0:
            raise SettingError("baselines.repet_sim: seconds and Hz below 0 are not allowed, nor windows of 0 s")
        self.window_seconds = window_seconds
        self.max_similar = max_similar
        self.min_distance_seconds = min_distance_seconds
        self.high_pass_hz = high_pass_hz

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`."""
        n_fft = 2 ** max(round(math.log2(self.window_seconds * sample_rate_hz)), 2)
        stft = Spectrogram(sample_rate_hz, n_fft, n_fft // 4, n_fft // 2 + 1)
        spectrum = stft(mixture)
        magnitude = spectrum.abs().mean(0)  # (F, T)
        distance = round(self.min_distance_seconds * sample_rate_hz / stft.hop_length)
        mask = repeating_part(magnitude, self.max_similar, distance) / magnitude.clamp_min(1e-12)
        mask[: int(self.high_pass_hz * n_fft / sample_rate_hz) + 1] = 1.0
        shares = {"accompaniment": mask, "vocals": 1 - mask}
        masks = torch.stack([shares[source] for source in SOURCES])
        return stft.inverse(masks[:, None] * spectrum, mixture.shape[-1])


def repeating_part(magnitude: Tensor, max_similar: int, min_distance_frames: int) -> Tensor:
    """The part of every frame that similar frames share: (F, T) to (F, T), nowhere above the magnitude."""
    unit = F.normalize(magnitude, dim=0)
    similarity = unit.T @ unit  # (T, T), cosines
    peaks = F.max_pool1d(similarity, 2 * min_distance_frames + 1, 1, min_distance_frames)
    similarity = similarity.masked_fill(similarity < peaks, -1.0)
    best, frames = similarity.topk(min(max_similar, similarity.shape[-1]))  # (T, similar)
    repeating = [
        median(magnitude[:, of].masked_fill(cosine < 0, math.nan))  # (F, chunk, similar) to (F, chunk)
        for of, cosine in zip(frames.split(_CHUNK_FRAMES), best.split(_CHUNK_FRAMES), strict=True)
    ]
    return torch.minimum(torch.cat(repeating, -1), magnitude)
