"""Masks for spectrograms of any length: overlapping windows through the network, cross-faded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from hourglass_sep.dsp.scale import SCALES, input_scale
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.segments import CHANNEL_SECONDS, Layout, spoilt_frames
from hourglass_sep.networks.base import masks_of
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError

_WHOLE_WINDOW = (64, 8)
"""Window length and context in frames that segments are laid out for when windows span whole segments."""


@dataclass(frozen=True)
class Windows:
    """Overlapping windows of a spectrogram, and the join of their masks (Park 2018, section 3.4).

    Attributes:
        window_frames: T of the network's input; None for the whole spectrogram.
        context_frames: frames on each side of a window that overlap with its neighbours (Park 2018: 16 of 64).
        fade_frames: frames of the context over which masks are cross-faded with the neighbour's; the rest is discarded
            (Park 2018: 0, also the value of checkpoints without it).
        scale: input scale, a name from `hourglass_sep.dsp.scale.SCALES`.

    Raises:
        ValueError: an unknown scale, or windows that consist of context only.
    """

    window_frames: int | None = 64
    context_frames: int = 8
    fade_frames: int = 0
    scale: str = "window"

    def __post_init__(self) -> None:
        window, context, fade = self.window_frames, self.context_frames, self.fade_frames
        check_choice("inference.scale", self.scale, SCALES)
        check_whole("inference.context_frames", context, least=0)
        check_whole("inference.fade_frames", fade, least=0)
        if window is None:
            return
        check_whole("inference.window_frames", window)
        if window <= 2 * context:
            raise SettingError(
                f"inference.window_frames={window} is not allowed: it must exceed twice "
                f"inference.context_frames={context}"
            )
        if fade > min(context, (window - 2 * context) // 2):
            raise SettingError(
                f"inference.fade_frames={fade} is not allowed: at most inference.context_frames={context}, and half of "
                "what lies between a window's two contexts"
            )

    def layout(self, stft: Spectrogram, sample_rate_hz: int, channels: int, segment_seconds: float) -> Layout:
        """The layout of a song's segments for these windows.

        Args:
            stft: the network's STFT.
            sample_rate_hz: sample rate of the song.
            channels: channels of the song, of all batch items together.
            segment_seconds: wanted length of the segments; shorter where there are many channels.
        """
        seconds = min(segment_seconds, CHANNEL_SECONDS / max(channels, 1))
        segment_frames = round(seconds * stft.sample_rate_hz / stft.hop_length)
        samples_per_frame = Fraction(stft.hop_length * sample_rate_hz, stft.sample_rate_hz)
        window, context = _WHOLE_WINDOW
        fade = 0
        if self.window_frames is not None:
            window, context, fade = self.window_frames, self.context_frames, self.fade_frames
        spoilt = spoilt_frames(stft, sample_rate_hz)
        return Layout.of_windows(samples_per_frame, window - 2 * context, context, segment_frames, fade, spoilt)

    @torch.no_grad()
    def masks(
        self,
        network: nn.Module,
        magnitude: Tensor,
        n_sources: int,
        batch_windows: int,
        tick: Callable[[float], object] = lambda fraction: None,
        stacks: slice = slice(None),
        first_frame: int = 0,
    ) -> Tensor:
        """A network's masks for a magnitude of any length.

        Args:
            network: see `hourglass_sep.networks.base.MaskNetwork`.
            magnitude: the mixture's, (B, C, F, T).
            n_sources: number of sources S.
            batch_windows: number of windows in a batch of the network.
            tick: callback that receives the fraction done.
            stacks: slice of the K stacks whose masks are returned.
            first_frame: number of the magnitude's first frame in the song; windows begin at multiples of their hop.

        Returns:
            Masks (K, B, S, 1|C, F, T), clamped at 0, float32, on the magnitude's device.
        """
        device = next(network.parameters()).device
        n_batch, n_channels, n_freq, n_frames = magnitude.shape
        whole = self.window_frames is None
        window = self.window_frames or n_frames
        context, fade = (0, 0) if whole else (self.context_frames, self.fade_frames)
        hop = window - 2 * context
        before = 0 if whole else first_frame % hop
        n_windows = -(-(before + n_frames) // hop)
        padded = _mirrored(magnitude, before + context, n_windows * hop - before - n_frames + context)
        windows = padded.unfold(-1, window, hop)  # (B, C, F, n_windows, T)
        windows = windows.permute(0, 3, 1, 2, 4).reshape(-1, n_channels, n_freq, window)
        clip_scale = input_scale(magnitude).repeat_interleave(n_windows, 0)
        scales = clip_scale if self.scale == "clip" else input_scale(windows)

        ramp = _ramp(hop, fade).to(magnitude)
        weight = magnitude.new_zeros(n_windows * hop + 2 * fade)
        for number in range(n_windows):
            weight[number * hop :][: len(ramp)] += ramp
        total = None
        for first in range(0, len(windows), batch_windows):
            batch = slice(first, first + batch_windows)
            seen = (windows[batch] / scales[batch]).to(device)
            masks = masks_of(network, seen, n_sources)[stacks]  # (K, windows, S, 1|C, F, T)
            masks = (
                masks[..., context - fade : window - context + fade].clamp_min(0).float().to(magnitude.device) * ramp
            )
            if total is None:
                total = masks.new_zeros(len(masks), n_batch, *masks.shape[2:5], len(weight))
            for j, one in enumerate(masks.unbind(1), first):
                total[:, j // n_windows, ..., j % n_windows * hop :][..., : len(ramp)] += one
            tick(min(batch.stop / len(windows), 1.0))
        assert total is not None
        kept = slice(fade + before, fade + before + n_frames)
        return total[..., kept] / weight[kept]


def _mirrored(magnitude: Tensor, before: int, after: int) -> Tensor:
    """A magnitude (..., T) extended by reflection, by ``before`` and ``after`` frames.

    Training patches contain no music that breaks off within a window.
    """
    n_frames = magnitude.shape[-1]
    period = max(2 * (n_frames - 1), 1)
    position = torch.arange(-before, n_frames + after, device=magnitude.device) % period
    return magnitude[..., torch.minimum(position, period - position)]


def _ramp(hop: int, fade: int) -> Tensor:
    """Cross-fade weights of a window's masks, (hop + 2 * fade): ramps of 2 * fade frames from 0 to 1 and back."""
    up = (torch.arange(hop + 2 * fade) + 0.5) / max(2 * fade, 0.5)
    return torch.minimum(up, up.flip(0)).clamp_max(1)
