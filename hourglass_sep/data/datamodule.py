"""The LightningDataModule of any data set: random patches for training, whole clips for validation and testing."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from hourglass_sep.data.augment import Augmentation
from hourglass_sep.data.clips import Catalogue, Clip, ClipBatch, Split, loaded
from hourglass_sep.data.effects import PerSource, check_effects
from hourglass_sep.data.mixed import Mixed
from hourglass_sep.data.patches import GlobalSampler, PatchSpectrograms, RandomPatches
from hourglass_sep.data.store import Store, open_store
from hourglass_sep.data.survey import survey
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import DataError, SettingError, UserError
from hourglass_sep.support.terminal import complain

MIXTURES = ("file", "sum")
"""The mixture of clips for validation and testing: its file, if there is one, or the sum of the sources."""


class Clips(Dataset):
    """Data set of whole clips, each read on access.

    Args:
        clips: the clips.
        sources: names of the sources, the order of the S axis.
        mixture: a name from `MIXTURES`.
        seconds: length to read of each clip, from its beginning; all of it if None.
    """

    def __init__(
        self, clips: Sequence[Clip], sources: Sequence[str], mixture: str = "file", seconds: float | None = None
    ) -> None:
        self.clips = clips
        self.settings = tuple(sources), mixture, seconds

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> ClipBatch:
        return loaded(self.clips[index], *self.settings)


class SeparationDataModule(pl.LightningDataModule):
    """Any data set: patches of its training clips, which are kept on disk at the network's rate, and whole clips.

    Args:
        catalogue: the data set.
        spectrogram: the STFT of the patches, which also says their rate and channels.
        segment_frames: frames T of a training patch.
        scale: input scale, ``window`` or ``clip``; must equal the separator's.
        target: target of the loss, ``magnitude`` or ``phase_sensitive``; see `PatchSpectrograms`.
        augment: training augmentation.
        effects: effects on single sources by name, see `hourglass_sep.data.effects`.
        mixture: mixture of validation and test clips, a name from `MIXTURES`. Training mixes the sources itself.
        cache_dir: folder of the training clips at the network's rate, see `hourglass_sep.data.cache.open_store`.
        validation_seconds: length of the validation clips, from their beginning; all of them if None.
        batch_size: patches per training batch, over all devices together.
        steps_per_epoch: training batches per epoch; validation follows each epoch.
        num_workers: processes that cut patches, per device, limited by the number of cores; with 0 the training
            process cuts them.
        seed: seed of the patches; None draws one for each run.

    Raises:
        ValueError: a number is out of range, or an unknown name.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        spectrogram: Spectrogram,
        segment_frames: int = 64,
        scale: str = "window",
        target: str = "magnitude",
        augment: Augmentation | None = None,
        effects: Mapping[str, PerSource] | None = None,
        mixture: str = "file",
        cache_dir: str | Path = "data/cache",
        validation_seconds: float | None = None,
        batch_size: int = 4,
        steps_per_epoch: int = 500,
        num_workers: int = 0,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        check_whole("data.batch_size", batch_size, most=1 << 16)
        check_whole("data.steps_per_epoch", steps_per_epoch)
        check_whole("data.segment_frames", segment_frames, most=1 << 16)
        check_whole("data.num_workers", num_workers, least=0)
        check_choice("data.mixture", mixture, MIXTURES)
        if seed is not None:
            check_whole("data.seed", seed, least=0)
        if validation_seconds is not None and not (
            isinstance(validation_seconds, int | float) and validation_seconds > 0
        ):
            raise SettingError(
                f"data.validation_seconds={validation_seconds!r} is not allowed: give a number above 0, or null"
            )
        self.catalogue = catalogue
        self.spectrogram = spectrogram
        self.segment_frames = segment_frames
        self.scale = scale
        self.spectrograms = PatchSpectrograms(spectrogram, target)
        self.augment = augment
        self.effects = dict(effects or {})
        self.mixture = mixture
        self.cache_dir = Path(cache_dir)
        self.validation_seconds = validation_seconds
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        self.seed = secrets.randbits(32) if seed is None else seed
        self._patches: RandomPatches | None = None
        self._is_checked = False

    @classmethod
    def of(cls, kind: type[Any], **settings: Any) -> SeparationDataModule:
        """The data module of a catalogue, from the settings of both; for configs.

        Args:
            kind: class of the catalogue.
            settings: its arguments, by name; all others are the data module's. Without ``sources``, or with None, they
                are the catalogue's own.
        """
        if settings.get("sources") is None:
            settings.pop("sources", None)
        names = inspect.signature(kind).parameters.keys()
        own = {name: settings.pop(name) for name in [*settings] if name in names}
        return cls(kind(**own), **settings)

    @property
    def facts(self) -> dict[str, str]:
        """Facts about the data for the weights' card."""
        kind, n_clips = type(self.catalogue).__name__, len(self.clips().train)
        return {"trained_on": f"{kind}, {n_clips} clips", "data_licence": self.catalogue.licence}

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the S axis."""
        return tuple(self.catalogue.sources)

    def prepare_data(self) -> None:
        """Make missing files of the data set; Lightning calls this in one process per machine."""
        self.catalogue.prepare()

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
        self.prepare_data()
        if self.effects:
            check_effects(self.effects, self.sources, self.spectrogram.channels)
        if not self._is_checked:
            clips = self.clips()
            scored = clips.validation + (clips.test if test else [])
            self.check_parts(clips)
            for clip in scored:
                lacking = [source for source in self.sources if source not in clip.stems]
                if lacking:
                    raise DataError(
                        f"{clip.name} has no stem {', '.join(lacking)} to be scored by: train on it instead"
                    )
            self.patches()
            self.survey(clips.train + scored)
            self._is_checked = True

    def check_parts(self, clips: Split) -> None:
        """Check that there are clips to train on.

        Raises:
            DataError: there are none.
            SettingError: there is only one source.
        """
        if len(self.sources) < 2:
            raise SettingError(
                f"sources=[{self.sources[0]}] is one source, which would be its own mixture: add the rest, "
                "[vocals,rest=drums+bass+other]"
            )
        if not clips.train:
            raise DataError("there are no clips to train on: check data.root and how it is split")

    def survey(self, clips: Sequence[Clip]) -> None:
        """Check the content of clips, in the first process of a run; see `hourglass_sep.data.survey.survey`.

        Raises:
            DataError: a clip is invalid.
        """
        if getattr(rank_zero_only, "rank", 0):
            return
        unused = getattr(self.catalogue, "unused", [])
        if unused:
            complain(f"warning: {', '.join(unused)} of the data set are in no source: left out of training mixtures")
        survey(clips, self.sources, self.cache_dir, self.mixture)

    def clips(self) -> Split:
        """The clips for training, validation and testing.

        Raises:
            DataError: there are none, or they cannot be split as asked.
        """
        return self.catalogue.split()

    def scored_clips(self, part: str) -> Clips:
        """The whole clips of a part, ``train``, ``validation`` or ``test``, for scoring."""
        return Clips(getattr(self.clips(), part), self.sources, self.mixture)

    def store(self, clips: Sequence[Clip]) -> Store:
        """The training clips at the network's rate and channels; the first call of all writes them to the disk."""
        stft = self.spectrogram
        return open_store(clips, self.sources, stft.sample_rate_hz, stft.channels, self.cache_dir)

    def patches(self) -> RandomPatches:
        """The training patches; the first call opens the store."""
        if self._patches is None:
            clips = self.clips().train
            shares = self.catalogue.clip_weights() if isinstance(self.catalogue, Mixed) else None
            weights = None if shares is None else [shares[clip.name] for clip in clips]
            self._patches = RandomPatches(
                self.store(clips),
                self.spectrogram,
                self.segment_frames,
                self.scale,
                self.augment,
                self.seed,
                self.sources,
                self.effects,
                weights,
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
        mine = clips[rank::world_size] or clips[:1]
        return DataLoader(Clips(mine, self.sources, self.mixture, self.validation_seconds), batch_size=None)

    def _steps_done(self) -> int:
        """Number of training batches done; with accumulated gradients there are several per optimiser step."""
        return self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def mixed(sets: Mapping[str, SeparationDataModule], weights: Mapping[str, float] | None = None, **settings: Any) -> Any:
    """The data module of several data sets; for configs.

    Args:
        sets: data modules by the names of their sets, whose catalogues are used.
        weights: how often each set is drawn from, see `Mixed`.
        settings: further arguments of `Mixed` and `SeparationDataModule`.
    """
    catalogues = {name: module.catalogue for name, module in sets.items()}
    return SeparationDataModule.of(Mixed, sets=catalogues, weights=weights, **settings)
