"""Random training patches of clips held in memory: cut on the CPU, spectrograms computed on the network's device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hourglass_sep.audio import resample
from hourglass_sep.data.augment import Augmentation, NoAugmentation, check_augmentation
from hourglass_sep.dsp.scale import SCALES, input_scale
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import SettingError

TARGETS = ("magnitude", "phase_sensitive")


class PatchSpectrograms:
    """Convert batches of patch waveforms to the spectrograms for network and loss, on the batch's device.

    On a GPU this takes negligible time, and the loader transfers about a third of the numbers: two sources of 17152
    samples instead of three spectrograms of 512 x 64 (the paper's settings).

    Args:
        spectrogram: the STFT.
        target: ``magnitude``, each source's own magnitude (Park 2018), or ``phase_sensitive``, the part of it in
            phase with the mixture, clipped to 0 ... the mixture's magnitude (Erdogan et al., ICASSP 2015).

    Raises:
        ValueError: unknown target.
    """

    def __init__(self, spectrogram: Spectrogram, target: str = "magnitude") -> None:
        check_choice("data.target", target, TARGETS)
        self.spectrogram = spectrogram
        self.target = target

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the spectrograms of a batch.

        Args:
            batch: patches of `RandomPatches`: ``sources`` (B, S, N) and, with the scale rule ``clip``, ``scale``
                (B, 1, 1); without it each patch is scaled by its own maximum.

        Returns:
            ``mixture`` (B, 1, F, T) and ``targets`` (B, S, F, T), magnitudes divided by the mixture's input scale.
        """
        spectra = self.spectrogram(batch["sources"], centred=False)
        mixture = spectra.sum(1, keepdim=True)
        magnitude = self.spectrogram.magnitude(mixture)
        targets = self.spectrogram.magnitude(spectra)
        if self.target == "phase_sensitive":
            n_freq = self.spectrogram.n_freq
            in_phase = (spectra * mixture.conj()).real[..., :n_freq, :] / magnitude.clamp_min(1e-8)
            targets = torch.minimum(in_phase.clamp_min(0), magnitude)
        scale = batch["scale"][:, None] if "scale" in batch else input_scale(magnitude)
        return {"mixture": magnitude / scale, "targets": targets / scale}


class RandomPatches(Dataset):
    """Unlimited training patches; patch i depends only on (seed, i).

    The data are therefore independent of the number of devices and workers, and a resumed run continues with the
    patches that the uninterrupted run would have used.

    Args:
        clips: waveforms (S, N) at the spectrogram's sample rate.
        spectrogram: the STFT.
        segment_frames: frames T of a patch; shorter clips are padded with silence at their end.
        scale: the input scale, a name from `hourglass_sep.dsp.scale.SCALES`.
        augment: the augmentation of the sources before they are mixed; none by default.
        seed: seed of the patches.

    Raises:
        ValueError: no clips, or an unknown scale.
    """

    def __init__(
        self,
        clips: Sequence[Tensor],
        spectrogram: Spectrogram,
        segment_frames: int,
        scale: str,
        augment: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if not clips:
            raise SettingError("there are no clips to train on: check data.root and data.train_singers")
        check_choice("data.scale", scale, SCALES)
        if augment is not None:
            check_augmentation(augment)
        self.spectrogram = spectrogram
        self.segment_frames = segment_frames
        self.scale = scale
        self.augment = augment or NoAugmentation()
        self.seed = seed
        # Half a window of silence before and after, as in the centred STFT of the whole clip.
        half = spectrogram.n_fft // 2
        self.clips = [torch.nn.functional.pad(clip, (half, half)) for clip in clips]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Draw patch ``index``.

        Returns:
            ``sources`` (S, N), the waveforms that its frames cover, and with ``scale=clip`` the ``scale`` (1, 1); see
            `PatchSpectrograms`.
        """
        rng = np.random.default_rng((self.seed, index))
        # Sources from different clips have independent speeds and starts; sources from one clip stay aligned.
        first = int(rng.integers(len(self.clips)))
        second = self.augment.partner(rng, first, len(self.clips))
        if not 0 <= second < len(self.clips):
            raise SettingError(f"augment.partner returned {second}: return a clip's number, 0 to {len(self.clips) - 1}")
        gains = torch.as_tensor(self.augment.gains(rng, len(SOURCES)), dtype=torch.float32)
        if gains.shape != (len(SOURCES),):
            raise SettingError(f"augment.gains returned shape {tuple(gains.shape)}: return ({len(SOURCES)},)")
        speeds = {clip: self.augment.speed(rng) for clip in dict.fromkeys((first, second))}
        if not all(0 < speed < math.inf for speed in speeds.values()):
            raise SettingError(f"augment.speed returned {min(speeds.values())}: return a number above 0")
        starts = {clip: self._draw_start(rng, clip, speed) for clip, speed in speeds.items()}
        drawn = list(enumerate((first, second)))
        if self.scale == "clip":
            played = [self._play(self.clips[clip][source], speeds[clip]) for source, clip in drawn]
            return self._crop_of_clip(played, [starts[first], starts[second]], gains)
        segments = [self._segment(clip, source, starts[clip], speeds[clip]) for source, clip in drawn]
        return {"sources": torch.stack(segments) * gains[:, None]}

    def _draw_start(self, rng: np.random.Generator, clip: int, speed: float) -> int:
        """Draw the first frame of a patch, such that the patch lies inside the clip if the clip is long enough."""
        n_samples = int(self.clips[clip].shape[-1] / speed)
        n_frames = 1 + (n_samples - self.spectrogram.n_fft) // self.spectrogram.hop_length
        return int(rng.integers(max(n_frames - self.segment_frames, 0) + 1))

    def _segment(self, clip: int, source: int, start_frame: int, speed: float) -> Tensor:
        """Cut ``segment_frames`` frames of a source, (N,), from ``start_frame`` of the clip played at ``speed``."""
        hop, n_fft = self.spectrogram.hop_length, self.spectrogram.n_fft
        n_samples = (self.segment_frames - 1) * hop + n_fft
        start = int(start_frame * hop * speed)
        segment = self.clips[clip][source, start : start + math.ceil(n_samples * speed)]
        segment = self._play(segment, speed)[:n_samples]
        return torch.nn.functional.pad(segment, (0, n_samples - segment.shape[-1]))

    def _play(self, waveform: Tensor, speed: float) -> Tensor:
        """Resample a waveform (..., N) to play ``speed`` times as fast, with the pitch changed accordingly."""
        rate = self.spectrogram.sample_rate_hz
        return resample(waveform, round(rate * speed), rate)

    def _crop_of_clip(self, sources: list[Tensor], starts: list[int], gains: Tensor) -> dict[str, Tensor]:
        """Cut a patch whose scale is the maximum over the mixture of the whole sources, mixed as in the patch.

        Args:
            sources: S whole waveforms (N,), whose lengths may differ.
            starts: the first frame of the patch in each source.
            gains: factors (S,).
        """
        hop, n_fft = self.spectrogram.hop_length, self.spectrogram.n_fft
        start = max(starts)
        # Align the sources so that their patches coincide; the scale is the maximum over the whole mixture.
        laid = [
            torch.nn.functional.pad(source, ((start - own) * hop, 0))
            for source, own in zip(sources, starts, strict=True)
        ]
        n_samples = max((start + self.segment_frames) * hop + n_fft, *(len(source) for source in laid))
        padded = torch.stack([torch.nn.functional.pad(source, (0, n_samples - len(source))) for source in laid])
        padded *= gains[:, None]
        mixture = self.spectrogram(padded, centred=False).sum(0)
        return {
            "sources": padded[:, start * hop : (start + self.segment_frames - 1) * hop + n_fft].clone(),
            "scale": input_scale(self.spectrogram.magnitude(mixture)),
        }


class GlobalSampler(Sampler[int]):
    """This rank's share of the global sample numbers, step by step.

    Step s of the run has the numbers s * global_batch to (s + 1) * global_batch - 1 for any number of devices.

    Args:
        steps_per_epoch: steps of one pass over the sampler.
        global_batch: patches per step over all devices.
        rank: number of this device, from 0.
        world_size: number of devices; must divide global_batch.
        steps_done: returns the number of steps that the run has finished when a pass begins. (Lightning's epoch
            number cannot be used: after a resume it is one ahead.)
    """

    def __init__(
        self,
        steps_per_epoch: int,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        steps_done: Callable[[], int] = lambda: 0,
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.global_batch = global_batch
        self.rank = rank
        self.local_batch = global_batch // world_size
        self.steps_done = steps_done

    def __len__(self) -> int:
        """Number of samples of this rank per pass."""
        return self.steps_per_epoch * self.local_batch

    def __iter__(self) -> Iterator[int]:
        """Sample numbers, ``local_batch`` of them for each step."""
        first_step = self.steps_done()
        for step in range(first_step, first_step + self.steps_per_epoch):
            start = step * self.global_batch + self.rank * self.local_batch
            yield from range(start, start + self.local_batch)
