"""Overlapping segments: songs of any length are processed in constant memory and joined without audible seams.

Segments begin where inference windows of the whole song begin, and frames that depend on a cut are discarded, so that
results do not depend on the segments. Remaining differences, for example of a refinement that depends on the whole
segment, are cross-faded. The positions of the segments depend on the settings only, not on the sizes of incoming
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from hourglass_sep.dsp.stft import Spectrogram

SEGMENT_SECONDS = 45.0
"""Length of the segments in which longer songs are separated."""

CHANNEL_SECONDS = 8 * SEGMENT_SECONDS
"""Longest segment times its channels: memory grows with both, so that segments of more than 8 channels are shorter."""

_RESAMPLER_SAMPLES = 384
"""Reach of the resamplers' filters, down and up, at the lower of their rates: below 1e-6 beyond 100 samples each, and
some room."""

_BLOCK_SAMPLES = 1 << 16
"""Longer blocks are split, since the buffered samples are copied with every block."""

_LARGEST_SPACING = 441
"""Most frames between two on whole samples: 125 at any integer rate for 256 samples at 8 kHz, 5 at 44.1 kHz; for 1024
samples at 44.1 kHz 147 at 48 kHz and 441, 10 seconds, at other multiples of 1 kHz."""


def spoilt_frames(stft: Spectrogram, sample_rate_hz: int) -> int:
    """Frames next to a cut that depend on samples beyond it: half a window of the STFT, and the resamplers' filters.

    Args:
        stft: the network's STFT.
        sample_rate_hz: sample rate of the song.
    """
    reach = _RESAMPLER_SAMPLES * stft.sample_rate_hz / min(sample_rate_hz, stft.sample_rate_hz)
    return math.ceil(stft.n_fft / (2 * stft.hop_length)) + math.ceil(reach / stft.hop_length)


@dataclass(frozen=True)
class Layout:
    """Positions of segments in STFT frames; segment i yields the frames [i * segment, (i + 1) * segment).

    Attributes:
        samples_per_frame: hop of the STFT in samples of the song.
        segment: length of a segment in frames, a multiple of the inference windows' hop.
        lead: least number of frames read before a segment and discarded.
        lag: frames read after a segment: the part that the next one repeats, and discarded context.
        spoilt: frames after the lead that depend on the cut.
        fade: frames of the cross-fade from a segment to the next.
    """

    samples_per_frame: Fraction
    segment: int
    lead: int
    lag: int
    spoilt: int
    fade: int

    @classmethod
    def of_windows(
        cls,
        samples_per_frame: Fraction,
        hop: int,
        context: int,
        target: int,
        window_fade: int = 0,
        cut_frames: int = 4,
    ) -> Layout:
        """The layout for inference windows that are ``hop`` frames apart.

        Args:
            samples_per_frame: hop of the STFT in samples of the song.
            hop: hop of the windows in frames.
            context: frames of a window on each side of its hop.
            target: wanted length of a segment in frames, rounded to a multiple of the hop.
            window_fade: frames of the cross-fade on each side of a window's hop.
            cut_frames: frames next to a cut that depend on it, see `spoilt_frames`.
        """
        segment = max(round(target / hop), 1) * hop
        lead = -(-(context + cut_frames) // hop) * hop
        spoilt = window_fade + cut_frames
        fade = max(hop - 2 * spoilt, cut_frames)
        repeated = -(-(fade + 2 * spoilt) // hop) * hop
        return cls(samples_per_frame, segment, lead, repeated + context + cut_frames, spoilt, fade)

    def first_frame(self, i: int) -> int:
        """The first frame that segment i reads, moved to a frame on a whole sample if one is near."""
        frame = max(i * self.segment - self.lead, 0)
        spacing = self.samples_per_frame.denominator  # of frames that lie on samples
        return frame - frame % spacing if spacing <= _LARGEST_SPACING else frame

    def start(self, i: int) -> int:
        """The first sample that segment i reads."""
        return self._sample(self.first_frame(i))

    def seam(self, i: int) -> int:
        """The first sample that segment i yields."""
        return self._sample(i * self.segment + self.spoilt) if i else 0

    def end(self, i: int) -> int:
        """The sample after the last one that segment i reads; a song that ends before it has no further segment."""
        return self._sample((i + 1) * self.segment + self.lag)

    @property
    def fade_samples(self) -> int:
        """Length of a cross-fade in samples."""
        return self._sample(self.fade)

    def _sample(self, frame: int) -> int:
        return round(frame * self.samples_per_frame)


def process_in_segments(
    process: Callable[[Tensor, int], Tensor], blocks: Iterable[Tensor], layout: Layout
) -> Iterator[tuple[Tensor, Tensor]]:
    """Process a signal that arrives in blocks.

    Args:
        process: function of a segment (..., n) and the number of its first frame; returns a tensor (..., n) with any
            axes before n.
        blocks: consecutive parts (..., n) of the signal, n from 0 on.
        layout: positions of the segments.

    Yields:
        Consecutive parts of the signal and of the processed signal, one pair a segment.
    """
    source = (part for block in blocks for part in block.split(_BLOCK_SAMPLES, -1))
    waiting: list[Tensor] = []
    held, start, i = 0, 0, 0  # samples in `waiting`, and the position of its first one
    tail: Tensor | None = None
    while True:
        while start + held <= layout.end(i) and (block := next(source, None)) is not None:
            waiting.append(block)
            held += block.shape[-1]
        if not held:
            return
        signal = torch.cat(waiting, -1)
        last = start + held <= layout.end(i)
        processed = process(signal[..., : layout.end(i) - start], layout.first_frame(i))
        seam = layout.seam(i) - start
        following = held if last else layout.seam(i + 1) - start
        part = processed[..., seam:following]
        if tail is not None:
            _begin_as(part, tail)
        yield signal[..., seam:following], part
        if last:
            return
        tail = processed[..., following : following + layout.fade_samples].clone()
        i += 1
        waiting = [signal[..., layout.start(i) - start :].clone()]
        held, start = waiting[0].shape[-1], layout.start(i)
        del signal, processed, part  # keeps one segment in memory, not two


def _begin_as(signal: Tensor, other: Tensor) -> None:
    """Cross-fade from another signal (..., n) into the beginning of this one, (..., N), n at most N."""
    length = other.shape[-1]
    ramp = (torch.arange(length, device=signal.device) + 0.5) / length
    signal[..., :length] = torch.lerp(other, signal[..., :length], ramp.to(signal.dtype))
