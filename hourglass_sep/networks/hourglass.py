"""The stacked hourglass network of Park et al. (ISMIR 2018), after Newell et al. (ECCV 2016).

    magnitude (B, 1, F, T) -> stem -> [hourglass -> head -> masks] x K -> masks (K, B, S, F, T)

Read from the bottom up: `StackedHourglass` is the whole network, `Hourglass` one stack, `conv` one layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import SettingError


def conv(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """Convolution that keeps F and T, then ReLU; no batch norm anywhere (Park 2018, section 3.1)."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.ReLU(inplace=True))


class Hourglass(nn.Module):
    """One hourglass: halve the resolution ``depth`` times, come back, and add a skip branch at every size.

    Args:
        channels: feature maps at every level.
        depth: levels; the bottom sees F / 2^depth x T / 2^depth.
        dropout: the share of feature maps, of those that come up from the level below, that training leaves out.
    """

    def __init__(self, channels: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.skip = conv(channels, channels, 3)
        self.down = conv(channels, channels, 3)
        self.inner = Hourglass(channels, depth - 1, dropout) if depth > 1 else conv(channels, channels, 3)
        self.up = conv(channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, F, T) to the same shape; odd F and T are pooled up and cropped by the upsampling."""
        low = F.max_pool2d(x, 2, ceil_mode=True)  # (B, channels, F/2, T/2)
        low = self.dropout(self.up(self.inner(self.down(low))))
        return self.skip(x) + F.interpolate(low, size=x.shape[-2:], mode="nearest")


class StackedHourglass(nn.Module):
    """K hourglasses in a row; each one estimates a mask per source and hands its estimate to the next.

    4 stacks of 256 channels are the paper's network (34.18 M parameters).

    Args:
        stacks: K, how many hourglasses.
        channels: feature maps of the hourglasses; the stem grows to it by quarters and halves.
        depth: levels of each hourglass.
        sources: S, masks per stack.
        fold: 1 is the paper's network. n > 1 folds n x n cells of the spectrogram into channels before the
            stem and unfolds the masks: n^2 times fewer cells, so about n^2 times less work.
        dropout: share of the feature maps that come up from each lower level that training leaves out, so that new
            voices are not told by a few of them (Jansson et al., ISMIR 2017, in their decoder; Park 2018: 0).
        checkpointing: recompute each hourglass in the backward pass instead of storing its activations.
        channels_last: keep weights and activations in the channels-last memory format.

    Raises:
        ValueError: a size that is not a whole number from 1 on, or a depth that is.
    """

    def __init__(
        self,
        stacks: int = 4,
        channels: int = 256,
        depth: int = 4,
        sources: int = 2,
        fold: int = 1,
        dropout: float = 0.0,
        checkpointing: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"stacks": stacks, "channels": channels, "depth": depth, "sources": sources, "fold": fold}
        for name, value in sizes.items():
            check_whole(f"model.{name}", value)
        if not (isinstance(dropout, int | float) and 0 <= dropout < 1):
            raise SettingError(f"model.dropout={dropout!r} is not allowed: give a number from 0 up to 1, without 1")
        if channels % 4:
            raise SettingError(f"model.channels={channels} is not allowed: give a multiple of 4")
        self.config = sizes
        """What rebuilds this network: plain numbers, kept in checkpoints."""
        self.fold = fold
        self.checkpointing = checkpointing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

        cells = fold * fold
        quarter, half, masks = channels // 4, channels // 2, sources * cells
        self.stem = nn.Sequential(
            conv(cells, quarter, 7),
            conv(quarter, half, 3),
            conv(half, half, 3),
            conv(half, half, 3),
            conv(half, channels, 3),
        )
        self.hourglasses = nn.ModuleList(Hourglass(channels, depth, dropout) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 1)) for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, masks, 1) for _ in range(stacks))
        # The last stack has no next one, hence no links: every parameter gets a gradient.
        self.feature_links = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.mask_links = nn.ModuleList(nn.Conv2d(masks, channels, 1) for _ in range(stacks - 1))
        self.apply(_initialise)
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            magnitude: (B, 1, F, T), the mixture's, scaled to a maximum of about 1; any F and T.

        Returns:
            (K, B, S, F, T): the masks of every stack, the last one the best; unbounded, to be clamped at 0.

        Raises:
            ValueError: the input has another shape.
        """
        if magnitude.dim() != 4 or magnitude.shape[1] != 1 or 0 in magnitude.shape:
            raise ValueError(f"magnitude has shape {tuple(magnitude.shape)}, expected (B, 1, F, T)")
        n_freq, n_frames = magnitude.shape[-2:]
        pad_freq, pad_frames = -n_freq % self.fold, -n_frames % self.fold
        x = F.pad(magnitude, (0, pad_frames, 0, pad_freq))
        x = F.pixel_unshuffle(x, self.fold).contiguous(memory_format=self.memory_format)
        x = self.stem(x)  # (B, channels, F/fold, T/fold)
        stack_masks = []
        for k, hourglass in enumerate(self.hourglasses):
            if self.checkpointing and self.training:
                features = self.features[k](checkpoint(hourglass, x, use_reentrant=False))
            else:
                features = self.features[k](hourglass(x))
            masks = self.heads[k](features)  # (B, S * fold^2, F/fold, T/fold)
            stack_masks.append(F.pixel_shuffle(masks, self.fold)[..., :n_freq, :n_frames])
            if k + 1 < len(self.hourglasses):
                x = x + self.feature_links[k](features) + self.mask_links[k](masks)
        return torch.stack(stack_masks)


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 1 / fan-in), biases 0, as the paper's code has it."""
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # which imports a compiler for it
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
        assert module.bias is not None
        nn.init.zeros_(module.bias)
