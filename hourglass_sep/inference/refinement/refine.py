"""Refinement of estimated masks by NMF and clustering, at inference only.

The clusters are those of Zhang, Li and Zhu (ICASSP 2015), as a course report applies them to a network's masks: every
cell of the mixture's magnitude V ~ W H gets the label of the component that adds most to it, cells of equal label that
hang together are a cluster, and the mask is averaged over each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hourglass_sep.inference.refinement import nmf
from hourglass_sep.signal.scale import FLOOR
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError

RULES = ("max", "mean")

Combine = str | float
"""How a mask and its clusters' means are combined: ``max``, ``mean``, or the mean's weight in a mix of both, 0 to 1."""

_SEEDS = 2**63
_MOST = {"rank": 1 << 12, "max_iter": 1 << 14, "seed": None}
_MOST |= dict.fromkeys(("window_frames", "overlap_frames", "sample_frames"), 1 << 20)
"""Settings come with files of scores, too."""

log = logging.getLogger(__name__)


def label_map(W: Tensor, H: Tensor) -> Tensor:  # noqa: N803 - the paper's names
    """The component that adds most to each cell, F[c, m] = argmax_r W[c, r] H[r, m]; the lowest of equals.

    Args:
        W: templates (F, R), non-negative.
        H: activations (R, T), non-negative.

    Returns:
        Labels 0 to R - 1, int64 (F, T). Products are float32, and never more than a few for each cell in memory.

    Raises:
        ValueError: shapes that do not fit.
    """
    if W.dim() != 2 or H.dim() != 2 or W.shape[1] != H.shape[0] or not len(H):
        raise ValueError(f"W has shape {tuple(W.shape)} and H {tuple(H.shape)}, expected (F, R) and (R, T)")
    w, h = W.float().T.contiguous(), H.float()
    highest = w[0, :, None] * h[0]
    product, larger, labels = torch.empty_like(highest), torch.empty_like(highest), torch.zeros_like(highest)
    for r in range(1, len(w)):
        torch.mul(w[r, :, None], h[r], out=product)
        torch.gt(product, highest, out=larger)  # as a number: three times as fast as with booleans
        torch.maximum(labels, larger.mul_(r), out=labels)
        torch.maximum(highest, product, out=highest)
    return labels.long()


def clusters(labels: Tensor) -> Tensor:
    """Number the 4-connected regions of equal label: (F, T) integers to int64 (F, T) from 1 on, on the CPU."""
    import cc3d

    labels = labels.long().cpu()
    numbers = cc3d.connected_components((labels - labels.min() + 1).numpy(), connectivity=4)  # 0 would be background
    return torch.from_numpy(numbers.astype("int64"))


def refine_mask(mask: Tensor, labels: Tensor, combine: Combine = "max") -> Tensor:
    """Average a mask over the clusters of a label map, and combine it with the averages.

    Args:
        mask: (..., F, T).
        labels: (F, T), see `label_map`; the same for all masks.
        combine: ``max``, the larger of mask and mean (the course report's rule); ``mean``; or a number w from 0 to 1
            for (1 - w) mask + w mean.

    Returns:
        The refined mask, of the mask's shape, type and device; averages are computed in float64 on the CPU.

    Raises:
        ValueError: another shape, or a rule that does not exist.
    """
    _check_combine(combine)
    whole = not (labels.is_floating_point() or labels.is_complex())
    if labels.dim() != 2 or not whole or mask.shape[-2:] != labels.shape or not mask.numel():
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} and labels {tuple(labels.shape)} of {labels.dtype}: "
            "expected (..., F, T) and (F, T) of whole numbers"
        )
    numbers = clusters(labels).flatten()
    sizes = torch.bincount(numbers)
    flat = mask.reshape(-1, numbers.numel()).double().cpu()
    means = torch.stack([(torch.bincount(numbers, one) / sizes)[numbers] for one in flat])
    means = means.reshape(mask.shape).to(mask)
    if combine == "max":
        return torch.maximum(mask, means)
    return means if combine == "mean" else torch.lerp(mask, means, float(combine))


class NoRefinement:
    """The masks as the network estimates them."""

    def __call__(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Refine masks.

        Args:
            masks: (B, S, F, T), non-negative, not yet divided by their sum.
            magnitude: the mixture's (B, 1, F, T).

        Returns:
            Masks of the same shape.
        """
        return masks

    def label_maps(self, magnitude: Tensor) -> Iterator[tuple[slice, Tensor | None]]:
        """The frames of every window of a magnitude (F, T), and its label map; None where there is none."""
        return iter(())


class NmfRefinement(NoRefinement):
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
        if not _is_number(beta) or not 0 <= beta <= 2:
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
        _check_combine(combine)
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
        """As in `NoRefinement`, for the chosen sources.

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
        """See `NoRefinement`."""
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_combine(combine: object) -> None:
    if combine in RULES or (_is_number(combine) and 0 <= float(combine) <= 1):  # type: ignore[arg-type]
        return
    rules = ", ".join(RULES)
    raise SettingError(f"refine.combine={combine!r} is not allowed: choose from {rules}, or give a weight from 0 to 1")


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
