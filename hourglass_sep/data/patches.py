"""Random patches out of clips that lie in memory: cut on the CPU, spectrograms made on the network's device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hourglass_sep.audio import resample
from hourglass_sep.data.augment import Augmentation, NoAugmentation
from hourglass_sep.signal.scale import SCALES, input_scale
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.signal.stft import Spectrogram
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import SettingError

TARGETS = ("magnitude", "phase_sensitive")


class PatchSpectrograms:
    """Waveforms of patches to what network and losses want, a batch at a time and on the batch's own device.

    A GPU does it in no time, and a waveform is a seventh of the numbers that the loader would have to hand over.

    Args:
        spectrogram: the STFT.
        target: ``magnitude``, each source's own magnitude (Park 2018), or ``phase_sensitive``, the part of it in
            phase with the mixture, from 0 to the mixture's magnitude (Erdogan et al., ICASSP 2015).

    Raises:
        ValueError: a target that does not exist.
    """

    def __init__(self, spectrogram: Spectrogram, target: str = "magnitude") -> None:
        check_choice("data.target", target, TARGETS)
        self.spectrogram = spectrogram
        self.target = target

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the spectrograms of a batch.

        Args:
            batch: of `RandomPatches`: ``sources`` (B, S, N) and, unless every patch has its own, ``scale`` (B, 1, 1).

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
    """An endless supply of training patches; patch i is drawn from (seed, i) and nothing else.

    That makes the data independent of the number of devices and workers, and lets a resumed run go on with the
    patches it would have seen.

    Args:
        clips: waveforms (S, N) at the spectrogram's sample rate.
        spectrogram: the STFT.
        segment_frames: T of a patch; clips that are shorter end in silence.
        scale: the input scale, a name from `hourglass_sep.signal.scale.SCALES`.
        augment: what happens to a pair of sources before they are added up.
        seed: see above.

    Raises:
        ValueError: no clips, or a name that does not exist.
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
        self.spectrogram = spectrogram
        self.segment_frames = segment_frames
        self.scale = scale
        self.augment = augment or NoAugmentation()
        self.seed = seed
        # Half a window of silence before and after, as the centred STFT of the whole clip would see it.
        half = spectrogram.n_fft // 2
        self.clips = [torch.nn.functional.pad(clip, (half, half)) for clip in clips]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Draw patch ``index``.

        Returns:
            ``sources`` (S, N), the waveforms under its frames, and with ``scale=clip`` the ``scale`` (1, 1); see
            `PatchSpectrograms`.
        """
        rng = np.random.default_rng((self.seed, index))
        # Remixed or not, each source comes from its own clip at its own place, unless both come from the same one.
        first = int(rng.integers(len(self.clips)))
        second = self.augment.partner(rng, first, len(self.clips))
        gains = torch.from_numpy(self.augment.gains(rng, len(SOURCES)))
        speeds = {clip: self.augment.speed(rng) for clip in dict.fromkeys((first, second))}
        starts = {clip: self._draw_start(rng, clip, speed) for clip, speed in speeds.items()}
        drawn = list(enumerate((first, second)))
        if self.scale == "clip":
            played = [self._play(self.clips[clip][source], speeds[clip]) for source, clip in drawn]
            return self._crop_of_clip(played, [starts[first], starts[second]], gains)
        segments = [self._segment(clip, source, starts[clip], speeds[clip]) for source, clip in drawn]
        return {"sources": torch.stack(segments) * gains[:, None]}

    def _draw_start(self, rng: np.random.Generator, clip: int, speed: float) -> int:
        """A frame for a patch to start at, such that it lies inside the clip if the clip is long enough."""
        n_samples = int(self.clips[clip].shape[-1] / speed)
        n_frames = 1 + (n_samples - self.spectrogram.n_fft) // self.spectrogram.hop_length
        return int(rng.integers(max(n_frames - self.segment_frames, 0) + 1))

    def _segment(self, clip: int, source: int, start_frame: int, speed: float) -> Tensor:
        """A source (N) under ``segment_frames`` frames from ``start_frame`` of the clip played at a speed on."""
        hop, n_fft = self.spectrogram.hop_length, self.spectrogram.n_fft
        n_samples = (self.segment_frames - 1) * hop + n_fft
        start = int(start_frame * hop * speed)
        segment = self.clips[clip][source, start : start + math.ceil(n_samples * speed)]
        segment = self._play(segment, speed)[:n_samples]
        return torch.nn.functional.pad(segment, (0, n_samples - segment.shape[-1]))

    def _play(self, waveform: Tensor, speed: float) -> Tensor:
        """A waveform (..., N) played at another speed."""
        rate = self.spectrogram.sample_rate_hz
        return resample(waveform, round(rate * speed), rate)

    def _crop_of_clip(self, sources: list[Tensor], starts: list[int], gains: Tensor) -> dict[str, Tensor]:
        """A patch whose scale is the maximum over the whole sources (N) that it was cut from, mixed as it was."""
        hop, n_fft = self.spectrogram.hop_length, self.spectrogram.n_fft
        start = max(starts)
        # Lay the sources so that their patches coincide, then take the maximum over all that there is.
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

    Step s of the run takes the numbers s * global_batch ... + global_batch - 1, whatever the number of devices.

    Args:
        steps_per_epoch: steps of one pass over the sampler.
        global_batch: patches per step over all devices.
        rank: this device's number.
        world_size: how many devices there are; divides global_batch.
        steps_done: says where the run stands when a pass begins. (Not Lightning's epoch number: after a resume
            that is one ahead.)
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
        """Samples of this rank per pass."""
        return self.steps_per_epoch * self.local_batch

    def __iter__(self) -> Iterator[int]:
        """Sample numbers, ``local_batch`` of them for each step."""
        first_step = self.steps_done()
        for step in range(first_step, first_step + self.steps_per_epoch):
            start = step * self.global_batch + self.rank * self.local_batch
            yield from range(start, start + self.local_batch)
