"""MIR-1K (Hsu and Jang, 2010): find, check and split its clips.

1000 clips of 3 to 12 s, 16 kHz stereo WAV, accompaniment left, voice right, named SINGER_SONG_CLIP.wav.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import AudioError, DataError
from hourglass_sep.support.paths import at_home

SAMPLE_RATE_HZ = 16000

_NAME = re.compile(r"(?P<singer>[A-Za-z]+)_(?P<song>\d+)_(?P<clip>\d+)")


@dataclass(frozen=True, order=True)
class Clip:
    """One file of the data set.

    Attributes:
        name: SINGER_SONG_CLIP, for example ``amy_9_01``; the key of every result.
        path: the WAV file.
    """

    name: str
    path: Path

    @property
    def singer(self) -> str:
        """The singer's name, for example ``amy``."""
        return self.name.split("_")[0]

    @property
    def song(self) -> str:
        """Singer and song number, for example ``amy_9``."""
        return self.name.rsplit("_", 1)[0]

    def load(self) -> Tensor:
        """Read the sources (S, N) at 16 kHz, in the order of `SOURCES`.

        Raises:
            DataError: the file cannot be read, is not stereo at 16 kHz, or has a silent channel.
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
    """Find all clips under a MIR-1K folder, which is the one that holds ``Wavfile`` or ``Wavfile`` itself.

    Returns:
        The clips, sorted by name.

    Raises:
        DataError: there are no clips.
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
    """The clips for training, for validation (choice of checkpoints and settings) and for testing; see `SPLITS`."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]

    def __post_init__(self) -> None:
        assert not _singers(self.train + self.validation) & _singers(self.test), "a singer is on both sides"
        assert not set(self.train) & set(self.validation), "a clip is on both sides"


def split_clips(
    clips: Sequence[Clip], split: str, train_singers: Collection[str], validation_songs: Collection[str]
) -> Split:
    """Split clips by singer; the test part does not depend on ``split``.

    Hsu and Jang 2010 train on abjones and amy and test on the other 17 singers.

    Args:
        clips: all clips.
        split: a name from `SPLITS`.
        train_singers: the singers for training and validation; the others are the test part. ``cross_singer``
            validates on the first and trains on the rest.
        validation_songs: the songs that ``standard`` sets aside to choose checkpoints and settings.

    Raises:
        ValueError: unknown split.
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
"""Rules by name that select the validation clips among those of the training singers.

``standard`` selects some songs; ``cross_singer`` a whole singer, to measure generalisation to new singers; ``all`` no
clips, for the final run of a recipe.
"""


def _singers(clips: Sequence[Clip]) -> set[str]:
    return {clip.singer for clip in clips}
