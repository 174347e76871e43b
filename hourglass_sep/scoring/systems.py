"""Systems to score: the separator, single stacks of it, oracle masks as upper bound, and a method without training.

All have one interface, `System`, so that all rows of a table are computed by the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep.audio import resample
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.reconstruct import MixturePhase
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.metrics import median
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import SettingError

_CHUNK_FRAMES = 64
"""Number of frames whose similar frames are gathered at once; limits the memory."""

_MOST_SIMILARITIES = 2**24
"""Number of pairs of frames that are compared at once; limits the memory for songs."""

_VOCALS = "vocals"


class System(Protocol):
    """Interface of the systems that can be scored.

    A system that does not fit all sources has a method ``check(sources)``, see `RepetSim.check`, which is called before
    any clip is scored.
    """

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """Estimate the sources.

        Args:
            mixture: waveform (C, N).
            references: waveforms (S, C, N) of the sources; only oracles may use them.
            sample_rate_hz: sample rate of both in Hz.
            separator: the separator under test; oracles use its STFT and its rule for the high band.

        Returns:
            Estimates (S, C, N).
        """


class Model:
    """The separator under test."""

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`."""
        return separator(mixture[None], sample_rate_hz)[0]


class Stack:
    """The separator with the masks of an earlier stack of its network, to measure the contribution of each stack.

    Args:
        number: number of the stack, from 1.
    """

    def __init__(self, number: int) -> None:
        check_whole("baselines.stack.number", number)
        self.number = number

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`.

        Raises:
            SettingError: the network has fewer stacks.
        """
        magnitude = separator.magnitude(mixture[None], sample_rate_hz)
        of_all = separator.stack_masks(magnitude)  # (K, 1, S, 1|C, F, T)
        if self.number > len(of_all):
            raise SettingError(
                f"stack {self.number} is asked for, the network has {len(of_all)}: leave it out with "
                f"~baselines.stack_{self.number}"
            )
        masks = separator.finished(of_all[self.number - 1], magnitude)
        return separator.render(mixture[None], sample_rate_hz, masks)[0]


class OracleMask:
    """Masks computed from the references: an upper bound for masks of that kind.

    Args:
        mask: function from complex spectra (..., S, C, F, T) to masks of that shape, from `hourglass_sep.dsp.masks`.
    """

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        self.mask = mask

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`. Masks are those of the channels that the network sees; the phase is the mixture's."""
        stft = separator.spectrogram
        seen = stft.encode(references) if stft.channels == references.shape[1] else references.mean(1, keepdim=True)
        spectra = stft(resample(seen, sample_rate_hz, stft.sample_rate_hz))[..., : stft.n_freq, :]
        return separator.render(mixture[None], sample_rate_hz, self.mask(spectra)[None], MixturePhase())[0]


class RepetSim:
    """REPET-SIM: separation without training; repeating parts are accompaniment, the rest is voice.

    It fits two sources, of which one is called vocals.

    Every frame is compared with all others; the median over the most similar frames is its repeating part. Source:
    Rafii and Pardo, "Music/voice separation using the similarity matrix", ISMIR 2012. They use windows of 40 ms and
    similar frames at least 1 s apart; on clips of 8 s of MIR-1K's training singers, these defaults scored better.

    Args:
        window_seconds: window length of the STFT in s, rounded to a power of two in samples; the hop is a quarter.
        max_similar: largest number of similar frames, over which the median is computed.
        min_distance_seconds: minimum distance between similar frames in s; with a small one, they are mainly neighbours
            of the frame.
        high_pass_hz: frequency in Hz up to which everything is accompaniment.

    Raises:
        ValueError: a number is out of range.
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

    def check(self, sources: Sequence[str]) -> None:
        """Check that the method fits these sources.

        Raises:
            SettingError: the sources are not vocals and one other.
        """
        if len(sources) != 2 or _VOCALS not in sources:
            raise SettingError(
                f"baselines.repet_sim separates {_VOCALS} from the rest, the weights separate {', '.join(sources)}: "
                "leave it out with ~baselines.repet_sim"
            )

    def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
        """See `System`."""
        self.check(separator.sources)
        n_fft = 2 ** max(round(math.log2(self.window_seconds * sample_rate_hz)), 2)
        stft = Spectrogram(sample_rate_hz, n_fft, n_fft // 4, n_fft // 2 + 1)
        spectrum = stft(mixture)
        magnitude = spectrum.abs().mean(0)  # (F, T)
        distance = round(self.min_distance_seconds * sample_rate_hz / stft.hop_length)
        mask = repeating_part(magnitude, self.max_similar, distance) / magnitude.clamp_min(1e-12)
        mask[: int(self.high_pass_hz * n_fft / sample_rate_hz) + 1] = 1.0
        masks = torch.stack([1 - mask if source == _VOCALS else mask for source in separator.sources])
        return stft.inverse(masks[:, None] * spectrum, mixture.shape[-1])


def repeating_part(magnitude: Tensor, max_similar: int, min_distance_frames: int) -> Tensor:
    """Estimate the part of every frame that similar frames share.

    Args:
        magnitude: (F, T).
        max_similar: largest number of similar frames.
        min_distance_frames: minimum distance between similar frames.

    Returns:
        Magnitudes (F, T) of the repeating part, at most ``magnitude``.
    """
    unit = F.normalize(magnitude, dim=0)
    n_frames = magnitude.shape[-1]
    repeating = []
    for some in unit.T.split(max(_MOST_SIMILARITIES // n_frames, 1)):
        similarity = some @ unit  # (some, T), cosine similarity
        peaks = F.max_pool1d(similarity, 2 * min_distance_frames + 1, 1, min_distance_frames)
        similarity = similarity.masked_fill(similarity < peaks, -1.0)
        best, frames = similarity.topk(min(max_similar, n_frames))  # (some, similar)
        repeating += [
            median(magnitude[:, of].masked_fill(cosine < 0, math.nan))  # (F, chunk, similar) to (F, chunk)
            for of, cosine in zip(frames.split(_CHUNK_FRAMES), best.split(_CHUNK_FRAMES), strict=True)
        ]
    return torch.minimum(torch.cat(repeating, -1), magnitude)
