"""The stacked hourglass network of Park et al. (ISMIR 2018), after Newell et al. (ECCV 2016).

    magnitude (B, C, F, T) -> stem -> [hourglass -> head -> masks] x K -> masks (K, B, S, C, F, T)

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
    """One hourglass: halve the resolution ``depth`` times, restore it, and add a skip branch at every size.

    Args:
        channels: feature maps at every level.
        depth: number of levels; the lowest has F / 2^depth x T / 2^depth cells.
        dropout: probability that training drops a feature map coming from the level below.
    """

    def __init__(self, channels: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.skip = conv(channels, channels, 3)
        self.down = conv(channels, channels, 3)
        self.inner = Hourglass(channels, depth - 1, dropout) if depth > 1 else conv(channels, channels, 3)
        self.up = conv(channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, F, T) to (B, channels, F, T); pooling rounds odd sizes up, upsampling restores them."""
        low = F.max_pool2d(x, 2, ceil_mode=True)  # (B, channels, F/2, T/2)
        low = self.dropout(self.up(self.inner(self.down(low))))
        return self.skip(x) + F.interpolate(low, size=x.shape[-2:], mode="nearest")


class StackedHourglass(nn.Module):
    """K stacked hourglasses; each estimates one mask a source and passes its estimate to the next.

    4 stacks of 256 channels are the network of Park et al. (34.18 M parameters).

    Args:
        stacks: number of hourglasses K.
        channels: feature maps of the hourglasses; the stem has a quarter, then half of them.
        depth: levels of each hourglass.
        sources: number of sources S, masks per stack and channel.
        audio_channels: channels C of the magnitude and of the masks.
        fold: side n of the n x n cells that are folded into channels before the stem and unfolded in the masks: n^2
            times fewer cells, about n^2 times less computation. 1 is the network of Park et al.
        dropout: probability that training drops a feature map coming from a lower level (Jansson et al., ISMIR 2017, in
            their decoder; Park 2018: 0).
        checkpointing: recompute each hourglass in the backward pass instead of storing its activations.
        channels_last: channels-last memory format of weights and activations.

    Raises:
        ValueError: a size below 1 or not a whole number, channels that are no multiple of 4, or a dropout outside [0,
            1).
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
        audio_channels: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"stacks": stacks, "channels": channels, "depth": depth, "sources": sources, "fold": fold}
        sizes["audio_channels"] = audio_channels
        for name, value in sizes.items():
            check_whole(f"model.{name}", value)
        if not (isinstance(dropout, int | float) and 0 <= dropout < 1):
            raise SettingError(f"model.dropout={dropout!r} is not allowed: give a number from 0 up to 1, without 1")
        if channels % 4:
            raise SettingError(f"model.channels={channels} is not allowed: give a multiple of 4")
        self.config = sizes
        """Arguments that rebuild the network, in plain types; stored in checkpoints."""
        self.fold = fold
        self.audio_channels = audio_channels
        self.checkpointing = checkpointing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

        cells = fold * fold
        quarter, half, masks = channels // 4, channels // 2, sources * audio_channels * cells
        self.stem = nn.Sequential(
            conv(audio_channels * cells, quarter, 7),
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
        # The last stack has no successor, hence no links: every parameter gets a gradient.
        self.feature_links = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.mask_links = nn.ModuleList(nn.Conv2d(masks, channels, 1) for _ in range(stacks - 1))
        self.apply(_initialise)
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            magnitude: the mixture's magnitude (B, C, F, T), scaled to a maximum of about 1; any F and T.

        Returns:
            Masks (K, B, S, C, F, T) of every stack, unbounded; inference clamps them at 0 and uses the last stack's.

        Raises:
            ValueError: another shape.
        """
        n_channels = self.audio_channels
        if magnitude.dim() != 4 or magnitude.shape[1] != n_channels or 0 in magnitude.shape:
            raise ValueError(f"magnitude has shape {tuple(magnitude.shape)}, expected (B, {n_channels}, F, T)")
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
            masks = self.heads[k](features)  # (B, S * C * fold^2, F/fold, T/fold)
            unfolded = F.pixel_shuffle(masks, self.fold)[..., :n_freq, :n_frames]
            stack_masks.append(unfolded.unflatten(1, (-1, n_channels)))  # (B, S, C, F, T)
            if k + 1 < len(self.hourglasses):
                x = x + self.feature_links[k](features) + self.mask_links[k](masks)
        return torch.stack(stack_masks)


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 1 / fan-in), biases 0, as in the code of Park et al."""
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # avoids the import of a compiler
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
        assert module.bias is not None
        nn.init.zeros_(module.bias)
