"""LightningDataModules of MIR-1K and of synthetic songs in its layout, small enough to be kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hourglass_sep import audio
from hourglass_sep.data.clips import Clip, Split
from hourglass_sep.data.datamodule import SeparationDataModule
from hourglass_sep.data.mir1k import Mir1k
from hourglass_sep.data.store import MemoryStore
from hourglass_sep.data.synthetic.synthesis import LOWEST_RATE_HZ, synthesize_song, write_synthetic_mir1k
from hourglass_sep.dsp.stems import SOURCES, Stems
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import DataError, SettingError

_SYNTHETIC_SEED = 2018
_SYNTHETIC_SECONDS = 8.0  # typical length of MIR-1K's clips


class Mir1kDataModule(SeparationDataModule):
    """MIR-1K, or another data set in MIR-1K's layout, whose training clips are kept in memory.

    Args:
        root: the folder that holds ``Wavfile``.
        spectrogram: the STFT of the patches.
        split: ``standard``, ``cross_singer`` or ``all``; see `hourglass_sep.data.mir1k.SPLITS`.
        train_singers: singers for training and validation; all others are for testing.
        validation_songs: songs that ``standard`` sets aside for validation.
        synthetic_clips: number of synthetic clips added to the training clips, each with a singer and song of its own
            (`synthesize_song`; they contain no recordings). They add voices, as MIR-1K's training part has only two
            singers.
        sources: names of the sources, ``accompaniment`` and ``vocals`` by default.
        settings: further arguments of `SeparationDataModule`.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        spectrogram: Spectrogram,
        *,
        split: str = "standard",
        train_singers: Sequence[str] = ("abjones", "amy"),
        validation_songs: Sequence[str] = ("abjones_5", "amy_9", "amy_16"),
        synthetic_clips: int = 0,
        sources: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        catalogue = Mir1k(root, split, train_singers, validation_songs, sources)
        super().__init__(catalogue, spectrogram, **settings)
        check_whole("data.synthetic_clips", synthetic_clips, least=0, most=1 << 16)
        if synthetic_clips and spectrogram.sample_rate_hz < LOWEST_RATE_HZ:
            raise SettingError(
                f"audio.sample_rate_hz={spectrogram.sample_rate_hz} is not allowed with data.synthetic_clips: give "
                f"{LOWEST_RATE_HZ} or more"
            )
        self.root = Path(root)
        self.named = catalogue.named
        self.split_name = split
        self.train_singers = list(train_singers)
        self.synthetic_clips = synthetic_clips

    @property
    def facts(self) -> dict[str, str]:
        """See `SeparationDataModule.facts`."""
        facts, n_synthetic = super().facts, self.synthetic_clips
        more = f", and {n_synthetic} synthetic clips (no recordings)" if n_synthetic else ""
        return facts | {"trained_on": facts["trained_on"] + more}

    def check_parts(self, clips: Split) -> None:
        """See `SeparationDataModule.check_parts`; there must be clips for validation, too, unless the split has none.

        Raises:
            DataError: there are none.
        """
        if not clips.train:
            raise DataError(f"no clip of {', '.join(self.train_singers)} in {self.root}: set data.train_singers")
        if not clips.validation and self.split_name != "all":
            raise DataError(
                f"no clip to validate on in {self.root}: set data.validation_songs, or data.split=all to do without"
            )

    def survey(self, clips: Sequence[Clip]) -> None:
        """Read the clips, which are short; those for training have been."""
        read = {clip.name for clip in self.clips().train} if self._patches is not None else set()
        for clip in clips:
            if clip.name not in read:
                clip.load()

    def store(self, clips: Sequence[Clip]) -> MemoryStore:
        """Read and resample the clips (91 MB for MIR-1K); synthesise the synthetic ones (0.1 s and 0.5 MB each)."""
        stft = self.spectrogram
        waveforms = []
        for clip in clips:
            stems = clip.load()
            waveforms.append(audio.resample(stems.stacked(self.sources), stems.sample_rate_hz, stft.sample_rate_hz))
        for number in range(self.synthetic_clips):
            song = synthesize_song((_SYNTHETIC_SEED, number), _SYNTHETIC_SECONDS, stft.sample_rate_hz)
            stems = Stems(dict(zip(SOURCES, song[:, None], strict=True)), stft.sample_rate_hz)
            waveforms.append(torch.stack([stems.stacked(parts).sum(0) for parts in self.named.values()]))
        return MemoryStore([waveform.expand(-1, stft.channels, -1) for waveform in waveforms])


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
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self._arguments = dict(songs), clips_per_song, (seconds[0], seconds[1]), data_seed

    def prepare_data(self) -> None:
        """Write the songs unless they exist."""
        write_synthetic_mir1k(self.root, *self._arguments)
