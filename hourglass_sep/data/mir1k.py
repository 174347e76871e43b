"""MIR-1K (Hsu and Jang, 2010): find, check and split its clips.

1000 clips of 3 to 12 s, 16 kHz stereo WAV, accompaniment left, voice right, named SINGER_SONG_CLIP.wav.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hourglass_sep import audio
from hourglass_sep.data.clips import Clip, Form, Part, Split
from hourglass_sep.dsp.stems import SOURCES, Stems, read_sources
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import AudioError, DataError, SettingError
from hourglass_sep.support.paths import at_home

SAMPLE_RATE_HZ = 16000

LICENCE = "MIR-1K: free for research (Hsu and Jang 2010)"

_NAME = re.compile(r"(?P<singer>[A-Za-z]+)_(?P<song>\d+)_(?P<clip>\d+)")
_REMEDY = "restore it from MIR-1K"


@dataclass(frozen=True)
class Mir1kClip(Clip):
    """One file of the data set, whose channels are the stems; its group is the singer."""

    @property
    def path(self) -> Path:
        """The WAV file."""
        return self.files[0]

    @property
    def song(self) -> str:
        """Singer and song number, for example ``amy_9``."""
        return self.name.rsplit("_", 1)[0]

    def check(self) -> Form:
        """Read the header.

        Raises:
            DataError: the file cannot be read, or is not stereo at 16 kHz.
        """
        try:
            info = audio.info(self.path)
        except AudioError as error:
            raise DataError(f"{str(error).rsplit(': ', 1)[0]}: {_REMEDY}") from error
        if info.channels != len(SOURCES):
            raise DataError(f"{self.path} has {info.channels} channel(s), MIR-1K has 2: {_REMEDY}")
        if info.sample_rate_hz != SAMPLE_RATE_HZ:
            raise DataError(f"{self.path} is at {info.sample_rate_hz} Hz, MIR-1K at {SAMPLE_RATE_HZ}: {_REMEDY}")
        return Form(SAMPLE_RATE_HZ, 1, info.n_samples)

    def load(self, start_seconds: float = 0.0, duration_seconds: float | None = None) -> Stems:
        """Read the stems (1, N).

        Raises:
            DataError: see `check`, or a channel is silent.
        """
        try:
            stems = super().load(start_seconds, duration_seconds)
        except DataError as error:
            text = str(error).removeprefix(f"{self.name}: ")
            raise DataError(text if text.endswith(_REMEDY) else f"{text.rsplit(': ', 1)[0]}: {_REMEDY}") from error
        for source, waveform in stems.items():
            if not start_seconds and duration_seconds is None and not waveform.any():
                raise DataError(f"{self.path} is silent in its {source} channel: {_REMEDY}")
        return stems


class Mir1k:
    """MIR-1K, or another data set in its layout, as a `hourglass_sep.data.clips.Catalogue`.

    Args:
        root: the folder that holds ``Wavfile``.
        split: a name from `SPLITS`.
        train_singers: see `split_clips`.
        validation_songs: see `split_clips`.
        sources: names of the sources, see `hourglass_sep.dsp.stems.read_sources`.

    Raises:
        SettingError: a source that MIR-1K does not have.
    """

    licence = LICENCE

    def __init__(
        self,
        root: str | Path,
        split: str = "standard",
        train_singers: Sequence[str] = ("abjones", "amy"),
        validation_songs: Sequence[str] = ("abjones_5", "amy_9", "amy_16"),
        sources: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.named = read_sources([*(sources or SOURCES)])
        self.sources = tuple(self.named)
        self._split = split, list(train_singers), list(validation_songs)
        for stem in (stem for stems in self.named.values() for stem in stems):
            if stem not in SOURCES:
                raise SettingError(f"sources has {stem}, which MIR-1K does not: choose from {', '.join(SOURCES)}")

    def prepare(self) -> None:
        """Do nothing: the files are there, or `split` says that they are not."""

    def split(self) -> Split:
        """The clips by part.

        Raises:
            DataError: there are no clips under ``root``.
        """
        return split_clips(find_clips(self.root, self.named), *self._split)


def find_clips(root: str | Path, named: dict[str, tuple[str, ...]] | None = None) -> list[Mir1kClip]:
    """Find all clips under a MIR-1K folder, which is the one that holds ``Wavfile`` or ``Wavfile`` itself.

    Args:
        root: the folder.
        named: source to the channels that it is the sum of, by their names in `SOURCES`; those two by default.

    Returns:
        The clips, sorted by name.

    Raises:
        DataError: there are no clips.
    """
    root = at_home(root)
    folder = root / "Wavfile" if (root / "Wavfile").is_dir() else root
    paths = sorted(folder.glob("*.wav")) if folder.is_dir() else []
    named = named or {source: (source,) for source in SOURCES}
    clips = [
        Mir1kClip(
            path.stem,
            path.stem.split("_")[0],
            {
                source: tuple(Part(path, channel=SOURCES.index(channel)) for channel in channels)
                for source, channels in named.items()
            },
        )
        for path in paths
        if _NAME.fullmatch(path.stem)
    ]
    if not clips:
        raise DataError(
            f"no MIR-1K clips (SINGER_SONG_CLIP.wav) in {root / 'Wavfile'}: set data.root or HOURGLASS_DATA_DIR to a "
            "copy of MIR-1K (free on request from its authors: sites.google.com/site/unvoicedsoundseparation/mir-1k), "
            "or use data=synthetic, which needs none"
        )
    return sorted(clips, key=lambda clip: clip.name)


def split_clips(
    clips: Sequence[Mir1kClip], split: str, train_singers: Collection[str], validation_songs: Collection[str]
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
    known = [clip for clip in clips if clip.group in train_singers]
    test = [clip for clip in clips if clip.group not in train_singers]
    held_out = SPLITS[split](list(train_singers), set(validation_songs))
    validation = [clip for clip in known if held_out(clip)]
    train = [clip for clip in known if not held_out(clip)]
    return Split([*train], [*validation], [*test])


SPLITS: dict[str, Callable[[list[str], set[str]], Callable[[Mir1kClip], bool]]] = {
    "standard": lambda singers, songs: lambda clip: clip.song in songs,
    "cross_singer": lambda singers, songs: lambda clip: clip.group == singers[0],
    "all": lambda singers, songs: lambda clip: False,
}
"""Rules by name that select the validation clips among those of the training singers.

``standard`` selects some songs; ``cross_singer`` a whole singer, to measure generalisation to new singers; ``all`` no
clips, for the final run of a recipe.
"""
