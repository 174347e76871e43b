"""MIR-1K (Hsu and Jang, 2010): finding, checking and splitting its clips.

1000 clips of 3 to 12 s, 16 kHz stereo WAV, left accompaniment, right voice, named SINGER_SONG_CLIP.wav.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.signal.stems import SOURCES
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import AudioError, DataError
from hourglass_sep.support.paths import at_home

SAMPLE_RATE_HZ = 16000

_NAME = re.compile(r"(?P<singer>[A-Za-z]+)_(?P<song>\d+)_(?P<clip>\d+)")


@dataclass(frozen=True, order=True)
class Clip:
    """One file of the data set.

    Attributes:
        name: ``amy_9_01``; the key of every result.
        path: the WAV file.
    """

    name: str
    path: Path

    @property
    def singer(self) -> str:
        """``amy``."""
        return self.name.split("_")[0]

    @property
    def song(self) -> str:
        """``amy_9``."""
        return self.name.rsplit("_", 1)[0]

    def load(self) -> Tensor:
        """The sources (S, N) at 16 kHz, in the order of `SOURCES`.

        Raises:
            DataError: the file is not a sound stereo 16 kHz clip with something on both channels.
        """
        remedy = "restore it from MIR-1K"
        try:
            waveform, sample_rate_hz = audio.read(self.path)
        except AudioError as error:
            raise DataError(f"{str(error).rsplit(': ', 1)[0]}: {remedy}") from error
        if waveform.shape[0] != len(SOURCES):
            raise DataError(f"{self.path} has {waveform.shape[0]} channel(s), MIR-1K has 2: {remedy}")
        if sample_rate_hz != SAMPLE_RATE_HZ:
            raise DataError(f"{self.path} is at {sample_rate_hz} Hz, MIR-1K at {SAMPLE_RATE_HZ}: {remedy}")
        for source, channel in zip(SOURCES, waveform, strict=True):
            if not channel.any():
                raise DataError(f"{self.path} is silent in its {source} channel: {remedy}")
        return waveform


def find_clips(root: str | Path) -> list[Clip]:
    """All clips under a MIR-1K folder (the one that holds ``Wavfile``), or ``Wavfile`` itself, sorted by name.

    Raises:
        DataError: there are none.
    """
    root = at_home(root)
    folder = root / "Wavfile" if (root / "Wavfile").is_dir() else root
    paths = sorted(folder.glob("*.wav")) if folder.is_dir() else []
    clips = [Clip(path.stem, path) for path in paths if _NAME.fullmatch(path.stem)]
    if not clips:
        raise DataError(
            f"no MIR-1K clips (SINGER_SONG_CLIP.wav) in {root / 'Wavfile'}: set data.root or HOURGLASS_DATA_DIR to a "
            "copy of MIR-1K (free on request from its authors: sites.google.com/site/unvoicedsoundseparation/mir-1k), "
            "or use data=synthetic, which needs none"
        )
    return sorted(clips)


@dataclass(frozen=True)
class Split:
    """Which clips train, choose and judge; see `SPLITS`."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]

    def __post_init__(self) -> None:
        assert not _singers(self.train + self.validation) & _singers(self.test), "a singer is on both sides"
        assert not set(self.train) & set(self.validation), "a clip is on both sides"


def split_clips(
    clips: Sequence[Clip], split: str, train_singers: Collection[str], validation_songs: Collection[str]
) -> Split:
    """Split by singer (Hsu and Jang 2010: abjones and amy train, the other 17 test), the test part always the same.

    Args:
        clips: all clips there are.
        split: a name from `SPLITS`.
        train_singers: the singers of the training part; the others are the test part. ``cross_singer``
            validates on the first and trains on the rest.
        validation_songs: the songs that ``standard`` sets aside to choose checkpoints and settings.

    Raises:
        ValueError: an unknown split.
    """
    check_choice("data.split", split, list(SPLITS))
    known = [clip for clip in clips if clip.singer in train_singers]
    test = [clip for clip in clips if clip.singer not in train_singers]
    held_out = SPLITS[split](list(train_singers), set(validation_songs))
    validation = [clip for clip in known if held_out(clip)]
    train = [clip for clip in known if not held_out(clip)]
    return Split(train, validation, test)


SPLITS: dict[str, Callable[[list[str], set[str]], Callable[[Clip], bool]]] = {
    "standard": lambda singers, songs: lambda clip: clip.song in songs,
    "cross_singer": lambda singers, songs: lambda clip: clip.singer == singers[0],
    "all": lambda singers, songs: lambda clip: False,
}
"""Name to rule: which clips of the training singers are set aside for validation.

``standard`` some songs; ``cross_singer`` a whole singer, for decisions about new singers; ``all`` none, for the last
run of a recipe that is settled.
"""


def _singers(clips: Sequence[Clip]) -> set[str]:
    return {clip.singer for clip in clips}
