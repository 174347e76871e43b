"""Refinement of estimated masks by NMF and clustering, at inference only.

The clusters are those of Zhang, Li and Zhu (ICASSP 2015), as a course report applies them to a network's masks: every
cell of the mixture's magnitude V ~ W H gets the label of the component that adds most to it, cells of equal label that
hang together are a cluster, and the mask is averaged over each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hourglass_sep.inference.refinement import nmf
from hourglass_sep.inference.refinement.clusters import Combine, check_combine, is_number, label_map, refine_mask
from hourglass_sep.signal.scale import FLOOR
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError

_SEEDS = 2**63
_MOST = {"rank": 1 << 12, "max_iter": 1 << 14, "seed": None}
_MOST |= dict.fromkeys(("window_frames", "overlap_frames", "sample_frames"), 1 << 20)
"""Settings come with files of scores, too."""

log = logging.getLogger(__name__)


class Refinement(Protocol):
    """What a separator does to the network's masks before they are applied: any callable of this form.

    One that also has ``label_maps(magnitude)``, as `NmfRefinement` has, is drawn with its label map.
    """

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Refine masks.

        Args:
            masks: (B, S, F, T), non-negative, not yet divided by their sum.
            magnitude: the mixture's (B, 1, F, T).

        Returns:
            Masks of the same shape.
        """


class NoRefinement:
    """The masks as the network estimates them."""

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """See `Refinement`."""
        return masks


class NmfRefinement:
    """Refinement by NMF and clustering.

    Up to ``window_frames`` the magnitude is factorised as a whole. Longer ones learn their templates W once, on frames
    drawn from all of it, and then activations H for overlapping windows, so that labels mean the same in all of them
    and that time and memory grow no faster than the song; windows are cross-faded.

    Args:
        rank: R, the number of components; lowered to the number of frames or bins where there are fewer.
        max_iter: iterations of `hourglass_sep.inference.refinement.nmf`.
        beta: the divergence that they lower: 2 squared error (the course report), 1 Kullback-Leibler, 0 Itakura-Saito.
        sources: whose masks are refined.
        combine: see `refine_mask`.
        window_frames: frames of a window.
        overlap_frames: frames that a window shares with the next, at least.
        sample_frames: frames that the templates of long songs are learned from.
        seed: of the drawing of those; nothing else is left to chance.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        rank: int = 160,
        max_iter: int = 5,
        beta: float = 2.0,
        sources: Sequence[str] = ("vocals",),
        combine: Combine = "max",
        window_frames: int = 1024,
        overlap_frames: int = 128,
        sample_frames: int = 2048,
        seed: int = 0,
    ) -> None:
        sizes = {"rank": rank, "window_frames": window_frames, "sample_frames": sample_frames}
        for name, value in sizes.items():
            check_whole(f"refine.{name}", value, most=_MOST[name])
        for name, value in {"max_iter": max_iter, "overlap_frames": overlap_frames, "seed": seed}.items():
            check_whole(f"refine.{name}", value, least=0, most=_MOST[name])
        if not is_number(beta) or not 0 <= beta <= 2:
            raise SettingError(f"refine.beta={beta!r} is not allowed: give a number from 0 to 2")
        sources = (sources,) if isinstance(sources, str) else tuple(sources or ())
        if not sources:
            raise SettingError(f"refine.sources is not allowed to be empty: choose from {', '.join(SOURCES)}")
        for source in sources:
            check_choice("refine.sources", source, SOURCES)
        if seed >= _SEEDS:
            raise SettingError(f"refine.seed={seed} is not allowed: less than {_SEEDS}")
        if overlap_frames > window_frames // 2:
            raise SettingError(
                f"refine.overlap_frames={overlap_frames} is not allowed: at most half of "
                f"refine.window_frames={window_frames}"
            )
        check_combine(combine)
        self.rank = rank
        self.max_iter = max_iter
        self.beta = float(beta)
        self.sources = sources
        self.combine = combine
        self.window_frames = window_frames
        self.overlap_frames = overlap_frames
        self.sample_frames = sample_frames
        self.seed = seed
        self._said: set[str] = set()

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """See `Refinement`; the masks of the chosen sources are refined.

        Raises:
            ValueError: shapes that do not fit, or a magnitude that is negative or not finite.
        """
        _check_inputs(masks, magnitude)
        chosen = [SOURCES.index(source) for source in self.sources]
        refined = masks.clone()
        for item, one in enumerate(magnitude[:, 0]):
            refined[item, chosen] = self._refined(masks[item, chosen], one)
        return refined

    def _refined(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Masks (S, F, T) of one magnitude (F, T)."""
        total = torch.zeros_like(masks)
        weight = masks.new_zeros(masks.shape[-1])
        for frames, labels in self.label_maps(magnitude):
            window = masks[..., frames]
            if labels is not None:
                window = refine_mask(window, labels, self.combine)
            fade = _fade(frames, len(weight), self.overlap_frames).to(weight)
            total[..., frames] += fade * window
            weight[frames] += fade
        return total / weight

    def label_maps(self, magnitude: Tensor) -> Iterator[tuple[slice, Tensor | None]]:
        """The frames of every window of a magnitude (F, T), and its label map; None for one that is left unrefined."""
        n_freq, n_frames = magnitude.shape
        whole = n_frames <= self.window_frames
        learned = magnitude if whole else magnitude[:, self._sample(n_frames)]
        rank = min(self.rank, n_freq, self.window_frames, learned.shape[1])
        if rank < self.rank:
            self._say(f"refine.rank={self.rank} is more than there are frames or bins: lowered to {rank}")
        factors = self._factorise(learned, rank)
        for frames in _windows(n_frames, self.window_frames, self.overlap_frames):
            labels = None
            if factors is not None:
                labels = label_map(*factors) if whole else self._labels_of(magnitude[:, frames], factors[0])
            yield frames, labels

    def _factorise(self, magnitude: Tensor, rank: int) -> tuple[Tensor, Tensor] | None:
        """W and H; None, and a line in the log, where there is nothing to factorise or nothing came of it."""
        if magnitude.max() < FLOOR:
            self._say("silence was left unrefined")
            return None
        w, h = nmf.factorise(magnitude, rank, self.max_iter, self.beta)
        return (w, h) if self._went_well(w, h) else None

    def _labels_of(self, window: Tensor, w: Tensor) -> Tensor | None:
        """The label map of a window by templates that are known; None as for `_factorise`."""
        if window.max() < FLOOR:
            self._say("silence was left unrefined")
            return None
        h = nmf.activations(window, w, self.max_iter, self.beta)
        return label_map(w, h) if self._went_well(w, h) else None

    def _went_well(self, w: Tensor, h: Tensor) -> bool:
        """Whether factors mean anything; a line in the log if not."""
        well = bool(w.isfinite().all() and h.isfinite().all() and h.any())
        if not well:
            self._say("the factorisation diverged, masks were left unrefined: set refine.beta nearer to 2")
        return well

    def _sample(self, n_frames: int) -> Tensor:
        """Frames from all over a song, one out of each of ``sample_frames`` equal stretches."""
        n_drawn = min(self.sample_frames, n_frames)
        chance = torch.rand(n_drawn, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        return ((torch.arange(n_drawn) + chance) * (n_frames / n_drawn)).long().clamp_max(n_frames - 1)

    def _say(self, message: str) -> None:
        """Log a warning, once of each kind."""
        kind = message.partition(":")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("mask refinement: %s", message)


def _windows(n_frames: int, window: int, overlap: int) -> list[slice]:
    """Windows of one length that cover all frames, the last ending with the last frame."""
    if n_frames <= window:
        return [slice(0, n_frames)]
    count = math.ceil((n_frames - overlap) / (window - overlap))
    starts = [round(i * (n_frames - window) / (count - 1)) for i in range(count)]
    return [slice(start, start + window) for start in starts]


def _fade(frames: slice, n_frames: int, overlap: int) -> Tensor:
    """A window's weights: ramps at its ends, except at those of the song."""
    position = torch.arange(frames.stop - frames.start) + 1.0
    up = position if frames.start else torch.full_like(position, math.inf)
    down = position.flip(0) if frames.stop < n_frames else torch.full_like(position, math.inf)
    return torch.minimum(up, down).div(overlap + 1).clamp_max(1)


def _check_inputs(masks: Tensor, magnitude: Tensor) -> None:
    fits = masks.dim() == magnitude.dim() == 4 and magnitude.shape[1] == 1 and masks.shape[1] == len(SOURCES)
    if not fits or masks.shape[0] != magnitude.shape[0] or masks.shape[2:] != magnitude.shape[2:]:
        raise ValueError(
            f"masks have shape {tuple(masks.shape)}, the magnitude {tuple(magnitude.shape)}: "
            f"expected (B, {len(SOURCES)}, F, T) and (B, 1, F, T)"
        )
    if magnitude.isnan().any():
        raise ValueError(f"the magnitude holds {int(magnitude.isnan().sum())} NaN")
    if magnitude.numel() and (magnitude.min() < 0 or magnitude.max() == math.inf):
        ends = f"{magnitude.min():g} to {magnitude.max():g}"
        raise ValueError(f"the magnitude ranges from {ends}: expected numbers from 0 on, finite ones")
