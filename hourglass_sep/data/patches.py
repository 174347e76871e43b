"""Random training patches of clips: cut on the CPU, spectrograms computed on the network's device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from hourglass_sep.audio import resample
from hourglass_sep.data.augment import Augmentation, NoAugmentation, check_augmentation
from hourglass_sep.data.clips import pad_or_cut
from hourglass_sep.data.effects import PerSource, apply_effects
from hourglass_sep.data.store import MemoryStore, Store
from hourglass_sep.dsp.scale import SCALES, input_scale
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import SettingError

_SLOTS = 1 << 16

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
            batch: patches of `RandomPatches`: ``sources`` (B, S, C, N) and, with the scale rule ``clip``, ``scale``
                (B, 1, 1, 1); without it each patch is scaled by its own maximum.

        Returns:
            ``mixture`` (B, C, F, T) and ``targets`` (B, S, C, F, T), magnitudes divided by the mixture's input scale.
        """
        spectra = self.spectrogram(self.spectrogram.encode(batch["sources"]), centred=False)
        mixture = spectra.sum(1)
        magnitude = self.spectrogram.magnitude(mixture)
        targets = self.spectrogram.magnitude(spectra)
        if self.target == "phase_sensitive":
            n_freq = self.spectrogram.n_freq
            in_phase = (spectra * mixture[:, None].conj()).real[..., :n_freq, :] / magnitude[:, None].clamp_min(1e-8)
            targets = torch.minimum(in_phase.clamp_min(0), magnitude[:, None])
        scale = batch["scale"] if "scale" in batch else input_scale(magnitude)
        return {"mixture": magnitude / scale, "targets": targets / scale[:, None]}


class RandomPatches(Dataset):
    """Unlimited training patches; patch i depends only on (seed, i).

    The data are therefore independent of the number of devices and workers, and a resumed run continues with the
    patches that the uninterrupted run would have used.

    Args:
        store: the clips at the spectrogram's sample rate, or a list of their waveforms (S, C, N) or (S, N).
        spectrogram: the STFT.
        segment_frames: frames T of a patch; shorter clips are padded with silence at their end.
        scale: the input scale, a name from `hourglass_sep.dsp.scale.SCALES`.
        augment: the augmentation of the sources before they are mixed; none by default.
        seed: seed of the patches.
        sources: names of the S sources, for effects.
        effects: effects on single sources by name, see `hourglass_sep.data.effects`; none by default.
        weights: how often each clip is drawn, relative to the others; equally often by default.

    Raises:
        ValueError: no clips, or an unknown scale.
    """

    def __init__(
        self,
        store: Store | Sequence[Tensor],
        spectrogram: Spectrogram,
        segment_frames: int,
        scale: str,
        augment: Augmentation | None = None,
        seed: int = 0,
        sources: Sequence[str] = SOURCES,
        effects: Mapping[str, PerSource] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.store = MemoryStore(store) if isinstance(store, Sequence) else store
        if not len(self.store):
            raise SettingError("there are no clips to train on: check data.root and the split")
        check_choice("data.scale", scale, SCALES)
        if augment is not None:
            check_augmentation(augment)
        self.spectrogram = spectrogram
        self.segment_frames = segment_frames
        self.scale = scale
        self.augment = augment or NoAugmentation()
        self.seed = seed
        self.sources = tuple(sources)
        self.effects = effects or {}
        self._slots = np.arange(len(self.store)) if weights is None else _slots(weights)
        has = [[self.store.has(clip, source) for clip in range(len(self.store))] for source in range(len(sources))]
        self._known = [self._slots[np.array(known)[self._slots]] for known in has]
        for name, clips in zip(self.sources, self._known, strict=True):
            if not len(clips):
                raise SettingError(f"no clip to train on has the source {name}: add a data set that has it")
        # Half a window of silence before and after, as in the centred STFT of the whole clip.
        self._half = spectrogram.n_fft // 2
        self._scales: dict[int, Tensor] = {}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Draw patch ``index``.

        Returns:
            ``sources`` (S, C, N), the waveforms that its frames cover, and with ``scale=clip`` the ``scale`` (1, 1, 1);
            see `PatchSpectrograms`.
        """
        rng = np.random.default_rng((self.seed, index))
        # Sources from different clips have independent speeds and starts; sources from one clip stay aligned.
        clips = self._draw_clips(rng)
        gains = torch.as_tensor(self.augment.gains(rng, len(clips)), dtype=torch.float32)
        if gains.shape != (len(clips),):
            raise SettingError(f"augment.gains returned shape {tuple(gains.shape)}: return ({len(clips)},)")
        speeds = {clip: self.augment.speed(rng) for clip in dict.fromkeys(clips)}
        if not all(0 < speed < math.inf for speed in speeds.values()):
            raise SettingError(f"augment.speed returned {min(speeds.values())}: return a number above 0")
        starts = {clip: self._draw_start(rng, clip, speed) for clip, speed in speeds.items()}
        unchanged = len(speeds) == 1 and speeds[clips[0]] == 1 and bool((gains == 1).all())
        if self.scale == "clip" and not unchanged:
            played = [self._play(self._whole(clip, source), speeds[clip]) for source, clip in enumerate(clips)]
            patch = self._crop_of_clip(played, [starts[clip] for clip in clips], gains)
        else:
            segments = [self._segment(clip, s, starts[clip], speeds[clip]) for s, clip in enumerate(clips)]
            patch = {"sources": torch.stack(segments) * gains[:, None, None]}
            patch |= {"scale": self._clip_scale(clips[0])} if self.scale == "clip" else {}
        if self.effects:
            rate = self.spectrogram.sample_rate_hz
            patch["sources"] = apply_effects(self.effects, patch["sources"], self.sources, rate, self.seed, index)
        return patch

    def _draw_clips(self, rng: np.random.Generator) -> list[int]:
        """Draw the clip of each source; sources that a clip lacks come from clips that have them."""
        n_slots = len(self._slots)
        first = int(rng.integers(n_slots))
        slots = [first]
        for _ in self.sources[1:]:
            slots.append(self.augment.partner(rng, first, n_slots))
            if not 0 <= slots[-1] < n_slots:
                raise SettingError(f"augment.partner returned {slots[-1]}: return a clip's number, 0 to {n_slots - 1}")
        clips = [int(self._slots[slot]) for slot in slots]
        for source, clip in enumerate(clips):
            if not self.store.has(clip, source):
                clips[source] = int(rng.choice(self._known[source]))
        return clips

    def _draw_start(self, rng: np.random.Generator, clip: int, speed: float) -> int:
        """Draw the first frame of a patch, such that the patch lies inside the clip if the clip is long enough."""
        n_samples = int((self.store.n_samples(clip) + 2 * self._half) / speed)
        n_frames = 1 + (n_samples - self.spectrogram.n_fft) // self.spectrogram.hop_length
        return int(rng.integers(max(n_frames - self.segment_frames, 0) + 1))

    def _cut(self, clip: int, source: int, start: int, stop: int) -> Tensor:
        """Samples ``start`` to ``stop`` of a source (C, n), counted from half a window before its beginning."""
        n_samples = self.store.n_samples(clip)
        stop = min(stop, n_samples + 2 * self._half)
        first, last = (min(max(sample - self._half, 0), n_samples) for sample in (start, stop))
        before = min(max(self._half - start, 0), stop - start)
        samples = self.store.read(clip, source, first, last)
        return F.pad(samples, (before, stop - start - before - (last - first)))

    def _whole(self, clip: int, source: int) -> Tensor:
        return self._cut(clip, source, 0, self.store.n_samples(clip) + 2 * self._half)

    def _segment(self, clip: int, source: int, start_frame: int, speed: float) -> Tensor:
        """Cut ``segment_frames`` frames of a source, (C, N), from ``start_frame`` of the clip played at ``speed``."""
        hop, n_fft = self.spectrogram.hop_length, self.spectrogram.n_fft
        n_samples = (self.segment_frames - 1) * hop + n_fft
        start = int(start_frame * hop * speed)
        segment = self._cut(clip, source, start, start + math.ceil(n_samples * speed))
        return pad_or_cut(self._play(segment, speed)[..., :n_samples], n_samples)

    def _play(self, waveform: Tensor, speed: float) -> Tensor:
        """Resample a waveform (..., N) to play ``speed`` times as fast, with the pitch changed accordingly."""
        rate = self.spectrogram.sample_rate_hz
        return resample(waveform, round(rate * speed), rate)

    def _clip_scale(self, clip: int) -> Tensor:
        """The input scale (1, 1, 1) of a whole clip whose sources are mixed as they are."""
        if clip not in self._scales:
            whole = torch.stack([self._whole(clip, source) for source in range(len(self.sources))])
            mixture = self.spectrogram(self.spectrogram.encode(whole), centred=False).sum(0)
            self._scales[clip] = input_scale(self.spectrogram.magnitude(mixture))
        return self._scales[clip]

    def _crop_of_clip(self, sources: list[Tensor], starts: list[int], gains: Tensor) -> dict[str, Tensor]:
        """Cut a patch whose scale is the maximum over the mixture of the whole sources, mixed as in the patch.

        Args:
            sources: S whole waveforms (C, N), whose lengths may differ.
            starts: the first frame of the patch in each source.
            gains: factors (S,).
        """
        hop, n_fft = self.spectrogram.hop_length, self.spectrogram.n_fft
        start = max(starts)
        # Align the sources so that their patches coincide; the scale is the maximum over the whole mixture.
        laid = [F.pad(source, ((start - own) * hop, 0)) for source, own in zip(sources, starts, strict=True)]
        n_samples = max((start + self.segment_frames) * hop + n_fft, *(source.shape[-1] for source in laid))
        padded = torch.stack([pad_or_cut(source, n_samples) for source in laid])
        padded *= gains[:, None, None]
        mixture = self.spectrogram(self.spectrogram.encode(padded), centred=False).sum(0)
        return {
            "sources": padded[..., start * hop : (start + self.segment_frames - 1) * hop + n_fft].clone(),
            "scale": input_scale(self.spectrogram.magnitude(mixture)),
        }


def _slots(weights: Sequence[float]) -> np.ndarray:
    """Clip numbers, each as often as its weight asks for: equal draws from them are draws by weight."""
    shares = np.asarray(weights, np.float64)
    if shares.ndim != 1 or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise SettingError("weights of clips are not allowed to be negative or all 0: check data.weights")
    ends = np.round(np.cumsum(shares) / shares.sum() * max(_SLOTS, 64 * len(shares))).astype(int)
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0))


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
