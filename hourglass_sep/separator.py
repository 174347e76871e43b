"""The separator: waveform in, one waveform per source out. Everything that separates goes through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass_sep.audio import resample
from hourglass_sep.checks import check_choice, check_whole
from hourglass_sep.constants import SOURCES
from hourglass_sep.errors import SettingError
from hourglass_sep.masking import MASK_RULES, share
from hourglass_sep.reconstruct import MixturePhase
from hourglass_sep.refine import NoRefinement
from hourglass_sep.scaling import SCALES, input_scale
from hourglass_sep.spectrogram import Spectrogram

HIGH_BANDS = ("average", "zero")

_CANCELLED = 0.01
"""Share of the channels' energy below which their mean has cancelled in a frame (-20 dB)."""


class Separator(nn.Module):
    """Mixture waveform to source waveforms, at any sample rate and with any number of channels.

    The network looks at a mono view of the song at the spectrogram's sample rate. Its masks multiply each channel's
    own spectrum at that rate; what lies above (the high band) is shared out by the masks' average over frequency.

    Args:
        network: (B, 1, F, T) magnitudes to (K, B, S, F, T) masks; the last stack's are used.
        spectrogram: the STFT.
        window_frames: T of the network's input; None for the whole spectrogram at once.
        context_frames: frames discarded on each side of every window (Park 2018: 16 of 64).
        scale: input scale, a name from `hourglass_sep.scaling.SCALES`.
        masks: ``raw`` or ``sum_to_one``, see `hourglass_sep.masking.share`.
        high_band: ``average``, or ``zero`` to leave it out of all stems.
        refine: masks (B, S, F, T), magnitude (B, 1, F, T) to refined masks.
        reconstruct: masks and the mixture's spectrum to waveforms.
        batch_windows: windows that go through the network together.

    Raises:
        ValueError: a name that does not exist or windows without a middle.
    """

    def __init__(
        self,
        network: nn.Module,
        spectrogram: Spectrogram,
        window_frames: int | None = 64,
        context_frames: int = 16,
        scale: str = "window",
        masks: str = "sum_to_one",
        high_band: str = "average",
        refine: NoRefinement | None = None,
        reconstruct: MixturePhase | None = None,
        batch_windows: int = 8,
    ) -> None:
        super().__init__()
        check_choice("inference.scale", scale, SCALES)
        check_choice("inference.masks", masks, MASK_RULES)
        check_choice("inference.high_band", high_band, HIGH_BANDS)
        check_whole("inference.context_frames", context_frames, least=0)
        check_whole("inference.batch_windows", batch_windows)
        if window_frames is not None:
            check_whole("inference.window_frames", window_frames)
        if window_frames is not None and window_frames <= 2 * context_frames:
            raise SettingError(
                f"inference.window_frames={window_frames} is not allowed: it must exceed twice "
                f"inference.context_frames={context_frames}"
            )
        for name, part, kind in (("refine", refine, NoRefinement), ("reconstruct", reconstruct, MixturePhase)):
            if not isinstance(part, kind | None):
                raise SettingError(f"{name}={part!r} is not allowed: give an object of hourglass_sep.{name}")
        self.network = network
        self.spectrogram = spectrogram
        self.window_frames = window_frames
        self.context_frames = context_frames
        self.scale = scale
        self.mask_rule = masks
        self.high_band = high_band
        self.refine = refine or NoRefinement()
        self.reconstruct = reconstruct or MixturePhase()
        self.batch_windows = batch_windows

    @property
    def settings(self) -> dict[str, Any]:
        """What travels with the weights: how they want to be used. Plain types."""
        return {
            "window_frames": self.window_frames,
            "context_frames": self.context_frames,
            "scale": self.scale,
            "masks": self.mask_rule,
            "high_band": self.high_band,
        }

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @classmethod
    def from_pretrained(cls, name: str = "default", **changes: Any) -> Separator:
        """The weights that ship with the package, ready to separate.

        Args:
            name: ``default``.
            changes: settings other than those the weights came with, ``refine`` and ``reconstruct``.

        Raises:
            CheckpointError: no weights of that name.
        """
        from hourglass_sep.weights import load_pretrained

        return load_pretrained(name, **changes)

    @classmethod
    def from_checkpoint(cls, path: str | Path, **changes: Any) -> Separator:
        """The network of a checkpoint (.ckpt of a training run, or .safetensors with its .json card).

        Args:
            path: the file.
            changes: as in `from_pretrained`.

        Raises:
            CheckpointError: the file is missing, or not one of this package's.
        """
        from hourglass_sep.weights import load_checkpoint

        return load_checkpoint(path, **changes)

    @classmethod
    def load(cls, name_or_path: str | Path, **changes: Any) -> Separator:
        """`from_checkpoint` for a path (it has a dot or a slash), `from_pretrained` for a name."""
        is_path = isinstance(name_or_path, Path) or "/" in name_or_path or "." in name_or_path
        return (cls.from_checkpoint if is_path else cls.from_pretrained)(str(name_or_path), **changes)

    @torch.inference_mode()
    def separate(self, waveform: Tensor, sample_rate_hz: int) -> dict[str, Tensor]:
        """Separate a song.

        Args:
            waveform: (N), (C, N) or (B, C, N), full scale at +-1.
            sample_rate_hz: its sample rate; the stems have the same.

        Returns:
            A waveform of the input's shape for each name in `SOURCES`.

        Raises:
            ValueError: another shape, no samples, values that are not finite, or a rate that is not positive.
        """
        if not 1 <= waveform.dim() <= 3 or 0 in waveform.shape:
            raise ValueError(f"waveform has shape {tuple(waveform.shape)}, expected (N), (C, N) or (B, C, N)")
        if not isinstance(sample_rate_hz, int) or sample_rate_hz < 1:
            raise ValueError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: give a whole number of Hz")
        if not torch.isfinite(waveform).all():
            raise ValueError("waveform holds NaN or infinite samples")
        batched = waveform.reshape(-1, *waveform.shape[-2:]) if waveform.dim() > 1 else waveform[None, None]
        training = self.network.training
        self.network.eval()
        try:
            sources = self(batched.float(), sample_rate_hz)  # (B, S, C, N)
        finally:
            self.network.train(training)
        return {name: sources[:, s].reshape(waveform.shape) for s, name in enumerate(SOURCES)}

    def forward(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Waveform (B, C, N) to sources (B, S, C, N) on the waveform's device."""
        low = resample(waveform, sample_rate_hz, self.spectrogram.sample_rate_hz)
        spectrum = self.spectrogram(low.to(self.device))
        masks = self.estimate_masks(self.mono_magnitude(spectrum))
        return self._render(waveform, low, spectrum, sample_rate_hz, masks, self.reconstruct)

    def mono_magnitude(self, spectrum: Tensor) -> Tensor:
        """What the network looks at: (B, C, F, T) complex to the magnitude (B, 1, F, T).

        The mean of the channels; in frames where it cancels (L = -R), the root mean square of their magnitudes.
        """
        mean = self.spectrogram.magnitude(spectrum.mean(1, keepdim=True))
        power = self.spectrogram.magnitude(spectrum).square().mean(1, keepdim=True)
        cancelled = mean.square().sum(-2, keepdim=True) < _CANCELLED * power.sum(-2, keepdim=True)
        return torch.where(cancelled, power.sqrt(), mean)

    def estimate_masks(self, magnitude: Tensor) -> Tensor:
        """Masks for a mixture: (B, 1, F, T) to (B, S, F, T); the last stack's, clamped, refined, shared."""
        masks = self.stack_masks(magnitude, slice(-1, None))[0].clamp_min(0)
        return share(self.refine(masks, magnitude), self.mask_rule)

    def stack_masks(self, magnitude: Tensor, stacks: slice = slice(None)) -> Tensor:
        """The network's raw masks of every stack, or of some: (B, 1, F, T) to (K, B, S, F, T), window by window."""
        n_batch, _, n_freq, n_frames = magnitude.shape
        context = 0 if self.window_frames is None else self.context_frames
        window = self.window_frames or n_frames
        hop = window - 2 * context
        n_windows = -(-n_frames // hop)
        scale = input_scale(magnitude)
        padded = F.pad(magnitude, (context, n_windows * hop - n_frames + context))
        windows = padded.unfold(-1, window, hop)  # (B, 1, F, n_windows, T)
        windows = windows.permute(0, 3, 1, 2, 4).reshape(-1, 1, n_freq, window)
        scales = scale.repeat_interleave(n_windows, 0) if self.scale == "clip" else input_scale(windows)
        masks = torch.cat(
            [
                self.network(batch / divisor)[stacks, ..., context : context + hop].float()
                for batch, divisor in zip(
                    windows.split(self.batch_windows), scales.split(self.batch_windows), strict=True
                )
            ],
            dim=1,
        )  # (K, B * n_windows, S, F, hop)
        n_stacks, _, n_sources = masks.shape[:3]
        masks = masks.reshape(n_stacks, n_batch, n_windows, n_sources, n_freq, hop)
        masks = masks.permute(0, 1, 3, 4, 2, 5).flatten(-2)  # (K, B, S, F, n_windows * hop)
        return masks[..., :n_frames]

    def render(
        self, waveform: Tensor, sample_rate_hz: int, masks: Tensor, reconstruct: MixturePhase | None = None
    ) -> Tensor:
        """Apply masks to a mixture, rebuild the sources, and give the high band its share.

        Args:
            waveform: the mixture (B, C, N).
            sample_rate_hz: its sample rate.
            masks: (B, S, F, T), estimated or oracle, as they are to be applied.
            reconstruct: another rule than the separator's.

        Returns:
            (B, S, C, N) on the waveform's device.
        """
        low = resample(waveform, sample_rate_hz, self.spectrogram.sample_rate_hz)
        spectrum = self.spectrogram(low.to(masks.device))
        return self._render(waveform, low, spectrum, sample_rate_hz, masks, reconstruct or self.reconstruct)

    def _render(
        self,
        waveform: Tensor,
        low: Tensor,
        spectrum: Tensor,
        sample_rate_hz: int,
        masks: Tensor,
        reconstruct: MixturePhase,
    ) -> Tensor:
        rate = self.spectrogram.sample_rate_hz
        stems = reconstruct(self.spectrogram.extend(masks), spectrum, self.spectrogram, low.shape[-1])
        if sample_rate_hz == rate:
            return stems.to(waveform.device)
        n_samples = waveform.shape[-1]
        stems = resample(stems, rate, sample_rate_hz, n_samples).to(waveform.device)
        if self.high_band == "zero":
            return stems
        high = waveform - resample(low, rate, sample_rate_hz, n_samples)
        gains = masks.mean(-2)  # (B, S, T)
        gains = share(gains[..., None, :], "sum_to_one")[..., 0, :].to(waveform.device)
        gains = _stretch(gains, self.spectrogram.hop_length * sample_rate_hz / rate, n_samples)
        return stems + gains[:, :, None] * high[:, None]


def _stretch(values: Tensor, samples_per_frame: float, n_samples: int) -> Tensor:
    """Frame values (..., T) at k * samples_per_frame to sample values (..., n_samples), by straight lines."""
    position = torch.arange(n_samples, device=values.device, dtype=torch.float64) / samples_per_frame
    left = position.long().clamp_max(values.shape[-1] - 1)
    right = (left + 1).clamp_max(values.shape[-1] - 1)
    weight = (position - left).to(values.dtype)
    return torch.lerp(values[..., left], values[..., right], weight)
