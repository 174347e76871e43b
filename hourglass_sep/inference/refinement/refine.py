"""Refinement of estimated masks by NMF and clustering, at inference only.

Clusters as in Zhang, Li and Zhu (ICASSP 2015), applied to a network's masks: each cell of the mixture's magnitude V ~ W
H is labelled by its strongest component, 4-connected cells of equal label form a cluster, and the mask is averaged over
each cluster.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hourglass_sep.dsp.scale import FLOOR
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.callables import check_result
from hourglass_sep.inference.refinement import nmf
from hourglass_sep.inference.refinement.clusters import Combine, check_combine, is_number, label_map, refine_mask
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError

_SEEDS = 2**63
_MOST = {"rank": 1 << 12, "max_iter": 1 << 14, "seed": None}
_MOST |= dict.fromkeys(("window_frames", "overlap_frames", "sample_frames"), 1 << 20)
"""Upper bounds: settings are also read from score files."""

log = logging.getLogger(__name__)


class Refinement(Protocol):
    """Refinement of the network's masks before they are applied: any callable of this form.

    Channels of stereo networks are refined one by one, as items of the batch. A method ``for_sources(names)``, if there
    is one, is called with the separator's sources and returns the refinement to use; pictures show the label map of
    refinements with a method ``label_maps``, see `NmfRefinement.label_maps`.
    """

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Refine masks.

        Args:
            masks: (B, S, F, T), non-negative, not yet divided by their sum.
            magnitude: the mixture's magnitude (B, 1, F, T).

        Returns:
            Masks of the same shape.
        """


class NoRefinement:
    """Null object: masks are returned unchanged."""

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """See `Refinement`."""
        return masks


def by_channel(refine: Refinement, masks: Tensor, magnitude: Tensor) -> Tensor:
    """Masks (B, S, 1|C, F, T) refined given the magnitude (B, C, F, T), channel by channel.

    Raises:
        SettingError: the refinement returned something else than masks.
    """
    n_channels = masks.shape[2]
    seen = magnitude if n_channels == magnitude.shape[1] else magnitude.mean(1, keepdim=True)
    flat = masks.transpose(1, 2).flatten(0, 1)  # (B * C, S, F, T)
    refined = refine(flat, seen.flatten(0, 1)[:, None])
    check_result("refine", refined, flat.shape, flat)
    return refined.unflatten(0, (-1, n_channels)).transpose(1, 2)


class NmfRefinement:
    """Refinement by NMF and clustering.

    Magnitudes of up to ``window_frames`` frames are factorised as a whole. For longer ones, templates W are learned
    once from sampled frames, then activations H for overlapping, cross-faded windows: labels have one meaning in all
    windows, and time and memory grow linearly.

    Args:
        rank: R, the number of components; lowered to the number of frames or bins where there are fewer.
        max_iter: iterations of the factorisation, see `hourglass_sep.inference.refinement.nmf`.
        beta: beta divergence: 2 squared error (the course report), 1 Kullback-Leibler, 0 Itakura-Saito.
        sources: names of the sources whose masks are refined, some of the separator's.
        combine: combination of mask and cluster means, see `refine_mask`.
        window_frames: length of a window in frames.
        overlap_frames: least overlap of two windows in frames.
        sample_frames: number of frames from which the templates of long songs are learned.
        seed: random seed of the sampled frames.

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
        if not sources or "" in sources:
            raise SettingError("refine.sources is not allowed to be empty: give names of sources, [vocals]")
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
        self._order: Sequence[str] = SOURCES

    def for_sources(self, names: Sequence[str]) -> NmfRefinement:
        """This refinement for masks of these sources, in the order of their S axis.

        Raises:
            SettingError: a source to be refined is not among them.
        """
        for source in self.sources:
            check_choice("refine.sources", source, names)
        bound = copy.copy(self)
        bound._order = tuple(names)
        return bound

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """See `Refinement`; the masks of the chosen sources are refined.

        Raises:
            ValueError: shapes that do not match, or a magnitude that is negative or not finite.
        """
        _check_inputs(masks, magnitude, len(self._order))
        chosen = [self._order.index(source) for source in self.sources]
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
        """Yield the frames and the label map of each window of a magnitude (F, T); None for a window left unrefined."""
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
        """W and H; None, with a log message, for silence or a factorisation that diverged."""
        if magnitude.max() < FLOOR:
            self._say("silence was left unrefined")
            return None
        w, h = nmf.factorise(magnitude, rank, self.max_iter, self.beta)
        return (w, h) if self._went_well(w, h) else None

    def _labels_of(self, window: Tensor, w: Tensor) -> Tensor | None:
        """Label map of a window for given templates; None as for `_factorise`."""
        if window.max() < FLOOR:
            self._say("silence was left unrefined")
            return None
        h = nmf.activations(window, w, self.max_iter, self.beta)
        return label_map(w, h) if self._went_well(w, h) else None

    def _went_well(self, w: Tensor, h: Tensor) -> bool:
        """Whether factors are finite and not zero; logs a warning if not."""
        well = bool(w.isfinite().all() and h.isfinite().all() and h.any())
        if not well:
            self._say("the factorisation diverged, masks were left unrefined: set refine.beta nearer to 2")
        return well

    def _sample(self, n_frames: int) -> Tensor:
        """Numbers of sampled frames: one random frame from each of ``sample_frames`` equal parts of the song."""
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
    """Windows of equal length that cover all frames; the last one ends with the last frame."""
    if n_frames <= window:
        return [slice(0, n_frames)]
    count = math.ceil((n_frames - overlap) / (window - overlap))
    starts = [round(i * (n_frames - window) / (count - 1)) for i in range(count)]
    return [slice(start, start + window) for start in starts]


def _fade(frames: slice, n_frames: int, overlap: int) -> Tensor:
    """Cross-fade weights of a window: ramps at its ends, except at the ends of the song."""
    position = torch.arange(frames.stop - frames.start) + 1.0
    up = position if frames.start else torch.full_like(position, math.inf)
    down = position.flip(0) if frames.stop < n_frames else torch.full_like(position, math.inf)
    return torch.minimum(up, down).div(overlap + 1).clamp_max(1)


def _check_inputs(masks: Tensor, magnitude: Tensor, n_sources: int) -> None:
    fits = masks.dim() == magnitude.dim() == 4 and magnitude.shape[1] == 1 and masks.shape[1] == n_sources
    if not fits or masks.shape[0] != magnitude.shape[0] or masks.shape[2:] != magnitude.shape[2:]:
        raise ValueError(
            f"masks have shape {tuple(masks.shape)}, the magnitude {tuple(magnitude.shape)}: "
            f"expected (B, {n_sources}, F, T) and (B, 1, F, T)"
        )
    if magnitude.isnan().any():
        raise ValueError(f"the magnitude holds {int(magnitude.isnan().sum())} NaN")
    if magnitude.numel() and (magnitude.min() < 0 or magnitude.max() == math.inf):
        ends = f"{magnitude.min():g} to {magnitude.max():g}"
        raise ValueError(f"the magnitude ranges from {ends}: expected numbers from 0 on, finite ones")
