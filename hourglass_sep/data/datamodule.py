"""LightningDataModules: random patches for training, whole clips for validation and testing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hourglass_sep import audio
from hourglass_sep.data.augment import Augmentation
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, Clip, Split, find_clips, split_clips
from hourglass_sep.data.patches import GlobalSampler, PatchSpectrograms, RandomPatches
from hourglass_sep.data.synthetic.synthesis import LOWEST_RATE_HZ, synthesize_song, write_synthetic_mir1k
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import DataError, SettingError, UserError

_SYNTHETIC_SEED = 2018
_SYNTHETIC_SECONDS = 8.0  # typical length of MIR-1K's clips


class ClipBatch(NamedTuple):
    """A whole clip, for scoring.

    Attributes:
        name: the clip's name, the key of its scores.
        sources: waveforms (S, N) at `SAMPLE_RATE_HZ`; the mixture is their sum.
    """

    name: str
    sources: Tensor


class Clips(Dataset):
    """Data set of whole clips, each read on access."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> ClipBatch:
        return ClipBatch(self.clips[index].name, self.clips[index].load())


class Mir1kDataModule(pl.LightningDataModule):
    """MIR-1K, or another data set in MIR-1K's layout.

    Args:
        root: the folder that holds ``Wavfile``.
        spectrogram: the STFT of the patches.
        segment_frames: frames T of a training patch.
        scale: input scale, ``window`` or ``clip``; must equal the separator's.
        target: target of the loss, ``magnitude`` or ``phase_sensitive``; see `PatchSpectrograms`.
        augment: training augmentation.
        split: ``standard``, ``cross_singer`` or ``all``; see `hourglass_sep.data.mir1k.SPLITS`.
        train_singers: singers for training and validation; all others are for testing.
        validation_songs: songs that ``standard`` sets aside for validation.
        batch_size: patches per training batch, over all devices together.
        steps_per_epoch: training batches per epoch; validation follows each epoch.
        synthetic_clips: number of synthetic clips added to the training clips, each with a singer and song of its own
            (`synthesize_song`; they contain no recordings). They add voices, as MIR-1K's training part has only two
            singers.
        num_workers: processes that cut patches, per device, limited by the number of cores; with 0 the training
            process cuts them.
        seed: seed of the patches; None draws one for each run.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        spectrogram: Spectrogram,
        segment_frames: int = 64,
        scale: str = "window",
        target: str = "magnitude",
        augment: Augmentation | None = None,
        split: str = "standard",
        train_singers: Sequence[str] = ("abjones", "amy"),
        validation_songs: Sequence[str] = ("abjones_5", "amy_9", "amy_16"),
        batch_size: int = 4,
        steps_per_epoch: int = 500,
        synthetic_clips: int = 0,
        num_workers: int = 0,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        check_whole("data.synthetic_clips", synthetic_clips, least=0, most=1 << 16)
        check_whole("data.batch_size", batch_size, most=1 << 16)
        check_whole("data.steps_per_epoch", steps_per_epoch)
        check_whole("data.segment_frames", segment_frames, most=1 << 16)
        check_whole("data.num_workers", num_workers, least=0)
        if seed is not None:
            check_whole("data.seed", seed, least=0)
        if synthetic_clips and spectrogram.sample_rate_hz < LOWEST_RATE_HZ:
            raise SettingError(
                f"audio.sample_rate_hz={spectrogram.sample_rate_hz} is not allowed with data.synthetic_clips: give "
                f"{LOWEST_RATE_HZ} or more"
            )
        self.root = Path(root)
        self.spectrogram = spectrogram
        self.segment_frames = segment_frames
        self.scale = scale
        self.spectrograms = PatchSpectrograms(spectrogram, target)
        self.augment = augment
        self.split_name = split
        self.train_singers = list(train_singers)
        self.validation_songs = list(validation_songs)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.synthetic_clips = synthetic_clips
        self.num_workers = num_workers
        self.seed = secrets.randbits(32) if seed is None else seed
        self._patches: RandomPatches | None = None

    def check(self, devices: int = 1, test: bool = False) -> None:
        """Check batch size and clips early, before any process is started.

        Args:
            devices: number of devices.
            test: whether the test clips will be scored, and are therefore checked.

        Raises:
            UserError: the batch size is not divisible by the number of devices.
            DataError: there are no clips for training or validation, or a clip that will be used is invalid.
        """
        if self.batch_size % devices:
            raise UserError(
                f"data.batch_size={self.batch_size} is the batch of all devices together and does not divide by "
                f"{devices} of them: give a multiple of {devices}"
            )
        clips = self.clips()
        if not clips.train:
            raise DataError(f"no clip of {', '.join(self.train_singers)} in {self.root}: set data.train_singers")
        if not clips.validation and self.split_name != "all":
            raise DataError(
                f"no clip to validate on in {self.root}: set data.validation_songs, or data.split=all to do without"
            )
        self.patches()
        for clip in clips.validation + (clips.test if test else []):
            clip.load()

    def clips(self) -> Split:
        """The clips for training, validation and testing.

        Raises:
            DataError: there are no clips under ``root``.
        """
        found = find_clips(self.root)
        return split_clips(found, self.split_name, self.train_singers, self.validation_songs)

    def patches(self) -> RandomPatches:
        """The training patches.

        The first call reads and resamples all training clips (91 MB for MIR-1K) and synthesises the synthetic ones
        (0.1 s and 0.5 MB each).
        """
        if self._patches is None:
            rate = self.spectrogram.sample_rate_hz
            waveforms = [audio.resample(clip.load(), SAMPLE_RATE_HZ, rate) for clip in self.clips().train]
            waveforms += [
                synthesize_song((_SYNTHETIC_SEED, number), _SYNTHETIC_SECONDS, rate)
                for number in range(self.synthetic_clips)
            ]
            self._patches = RandomPatches(
                waveforms,
                self.spectrogram,
                self.segment_frames,
                self.scale,
                self.augment,
                self.seed,
            )
        return self._patches

    def train_dataloader(self) -> DataLoader:
        """Patches in batches of ``batch_size`` divided by the number of devices.

        Raises:
            UserError: the batch size is not divisible by the number of devices.
            DataError: see `check`.
        """
        rank, world_size = self._place()
        self.check(world_size)
        sampler = GlobalSampler(self.steps_per_epoch, self.batch_size, rank, world_size, self._steps_done)
        return DataLoader(
            self.patches(),
            batch_size=sampler.local_batch,
            sampler=sampler,
            num_workers=min(self.num_workers, suggested_max_num_workers(world_size)),
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Compute the spectrograms of patches on the network's device; whole clips remain unchanged."""
        return batch if isinstance(batch, ClipBatch) else self.spectrograms(batch)

    def val_dataloader(self) -> DataLoader | list:
        """This rank's share of the validation clips, one at a time.

        A rank without a share gets the first clip, as Lightning requires a batch; duplicate scores are counted once.
        """
        clips = self.clips().validation
        if not clips:
            return []
        rank, world_size = self._place()
        return DataLoader(Clips(clips[rank::world_size] or clips[:1]), batch_size=None)

    def _steps_done(self) -> int:
        """Number of training batches done; with accumulated gradients there are several per optimiser step."""
        return self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class SyntheticDataModule(Mir1kDataModule):
    """Synthetic songs in MIR-1K's layout, written to ``root`` before their first use.

    Args:
        root: the folder to write.
        songs: number of songs by singer's name.
        clips_per_song: number of clips of each song.
        seconds: shortest and longest length of a clip in s.
        data_seed: seed of the songs.
        settings: further arguments of `Mir1kDataModule`.
    """

    def __init__(
        self,
        root: str | Path,
        songs: dict[str, int],
        clips_per_song: int,
        seconds: tuple[float, float],
        data_seed: int,
        **settings: object,
    ) -> None:
        super().__init__(root, **settings)  # type: ignore[arg-type]
        self._arguments = dict(songs), clips_per_song, (seconds[0], seconds[1]), data_seed

    def check(self, devices: int = 1, test: bool = False) -> None:
        """Write the songs if necessary, then check as `Mir1kDataModule` does."""
        self.prepare_data()
        super().check(devices, test)

    def prepare_data(self) -> None:
        """Write the songs unless they exist; Lightning calls this in one process per machine."""
        write_synthetic_mir1k(self.root, *self._arguments)
