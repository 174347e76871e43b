"""A song of any length in constant memory: cut into segments that overlap, process each, join what comes out.

A segment begins where inference windows begin in the whole song as well, and what the cut spoils of it is discarded, so
that it makes no difference where the cuts are; what is left of one (a refinement that looks at a whole segment, for
one) is cross-faded. Segments lie at places that depend on nothing but the settings, however the song arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

_SPOILT_FRAMES = 4
"""Frames next to a cut whose spectrum or signal misses a part of itself: half a window of the STFT, and some for the
resampler."""

_BLOCK_SAMPLES = 1 << 16
"""Longer blocks are cut: what is joined to a segment would be copied with every one of them."""

_LARGEST_SPACING = 125
"""256 samples at 8 kHz are whole samples of any rate every 125 frames or more often, of 44.1 kHz every 5."""


@dataclass(frozen=True)
class Layout:
    """Where segments lie, in STFT frames; segment i is what belongs to [i * segment, (i + 1) * segment).

    Attributes:
        samples_per_frame: of the song.
        segment: frames of a segment, a multiple of the inference windows' hop.
        lead: frames read before, at least; they are discarded.
        lag: frames read after; the part that a next segment repeats, and context that is discarded.
        spoilt: frames behind the lead in which the cut still shows.
        fade: frames in which a segment passes over to the next.
    """

    samples_per_frame: Fraction
    segment: int
    lead: int
    lag: int
    spoilt: int
    fade: int

    @classmethod
    def of_windows(
        cls, samples_per_frame: Fraction, hop: int, context: int, target: int, window_fade: int = 0
    ) -> Layout:
        """The layout for windows that lie ``hop`` frames apart.

        Args:
            samples_per_frame: of the song.
            hop: of the windows.
            context: frames on each side of a window beyond its hop.
            target: about how many frames a segment should have.
            window_fade: frames on each side of a window's hop that its masks are cross-faded in.
        """
        segment = max(round(target / hop), 1) * hop
        lead = -(-(context + _SPOILT_FRAMES) // hop) * hop
        spoilt = window_fade + _SPOILT_FRAMES
        fade = max(hop - 2 * spoilt, _SPOILT_FRAMES)
        repeated = -(-(fade + 2 * spoilt) // hop) * hop
        return cls(samples_per_frame, segment, lead, repeated + context + _SPOILT_FRAMES, spoilt, fade)

    def first_frame(self, i: int) -> int:
        """The first frame that segment i needs, on a sample if there is one near."""
        frame = max(i * self.segment - self.lead, 0)
        spacing = self.samples_per_frame.denominator  # of frames that lie on samples
        return frame - frame % spacing if spacing <= _LARGEST_SPACING else frame

    def start(self, i: int) -> int:
        """The first sample that segment i needs."""
        return self._sample(self.first_frame(i))

    def seam(self, i: int) -> int:
        """The first sample that segment i gives, with the last of the one before."""
        return self._sample(i * self.segment + self.spoilt) if i else 0

    def end(self, i: int) -> int:
        """The sample after the last one that segment i needs; a song that ends before has no next segment."""
        return self._sample((i + 1) * self.segment + self.lag)

    @property
    def fade_samples(self) -> int:
        """How long a cross-fade is."""
        return self._sample(self.fade)

    def _sample(self, frame: int) -> int:
        return round(frame * self.samples_per_frame)


def process_in_segments(
    process: Callable[[Tensor, int], Tensor], blocks: Iterable[Tensor], layout: Layout
) -> Iterator[tuple[Tensor, Tensor]]:
    """Process a signal that arrives in blocks.

    Args:
        process: a segment (..., n) and the number of its first frame to a tensor (..., n), any other axes before.
        blocks: the signal, (..., n) each, n from 0 on.
        layout: the segments.

    Yields:
        Consecutive parts of the signal and of its processed self, segment by segment.
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
        del signal, processed, part  # memory is what this is about


def _begin_as(signal: Tensor, other: Tensor) -> None:
    """Cross-fade from another signal (..., n) into the beginning of this one, (..., N), n at most N."""
    length = other.shape[-1]
    ramp = (torch.arange(length, device=signal.device) + 0.5) / length
    signal[..., :length] = torch.lerp(other, signal[..., :length], ramp.to(signal.dtype))
