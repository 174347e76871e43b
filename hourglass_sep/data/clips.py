"""Clips: songs or excerpts as files of stems, their division into parts, and the interface of data sets.

A data set is a `Catalogue`: it says which sources it has and which clips are for training, validation and testing.
Rates, channels and lengths belong to each clip and are read from its files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep import audio
from hourglass_sep.data.reader import Reader
from hourglass_sep.dsp.stems import MIXTURE, Stems
from hourglass_sep.support.errors import AudioError, DataError

MOST_LACKING_SECONDS = 0.25
"""Largest allowed difference in length between the stems of a clip in s: for encoders' padding."""

_BLOCK_SAMPLES = 1 << 16


class Part(NamedTuple):
    """A file, or a part of it, that belongs to a stem.

    Attributes:
        path: the sound file.
        stream: number of its audio stream, from 1; None for the default one.
        channel: number of a channel, from 0; None for all channels.
    """

    path: Path
    stream: int | None = None
    channel: int | None = None


class Form(NamedTuple):
    """Rate, channels and length of a clip, as its files' headers say.

    Attributes:
        sample_rate_hz: sample rate in Hz, the highest of its files.
        channels: number of channels C, the most of its files; mono files are repeated.
        n_samples: length in samples at that rate, of the shortest file; None if no header has an exact length.
        mixed: whether files differ in rate or channels.
    """

    sample_rate_hz: int
    channels: int
    n_samples: int | None
    mixed: bool = False


@dataclass(frozen=True)
class Clip:
    """A song or excerpt with its stems.

    Attributes:
        name: unique name in its data set; the key of every result.
        group: singer or artist: clips of one group are never on both sides of a split, and are drawn together by the
            bootstrap.
        stems: source to the parts that add up to it. A source without parts is silent, as the vocals of an
            instrumental; a source that is not listed is unknown, and is drawn from other clips in training.
        mixture: the file of the mixture, if there is one; otherwise the mixture is the sum of the stems.
    """

    name: str
    group: str
    stems: Mapping[str, Sequence[Part]] = field(hash=False)
    mixture: Part | None = None

    @property
    def files(self) -> list[Path]:
        """All files, each once."""
        return list(dict.fromkeys(part.path for part in self.parts))

    @property
    def parts(self) -> list[Part]:
        """All parts of the stems, and the mixture's."""
        parts = [part for parts in self.stems.values() for part in parts]
        return parts if self.mixture is None else [*parts, self.mixture]

    def check(self) -> Form:
        """Read the headers of all files.

        Raises:
            DataError: a file cannot be read, channels are neither equal nor one, or exact lengths differ by more than
                `MOST_LACKING_SECONDS`.
        """
        infos: dict[Part, audio.Info] = {}
        for part in dict.fromkeys(Part(part.path, part.stream) for part in self.parts):
            try:
                infos[part] = audio.info(part.path, part.stream)
            except AudioError as error:
                raise DataError(f"{self.name}: {error}") from error
        if not infos:
            raise DataError(f"{self.name} has no files of stems: remove it")
        channels = {
            part: 1 if part.channel is not None else infos[Part(part.path, part.stream)].channels for part in self.parts
        }
        most = max(channels, key=lambda part: channels[part])
        for part, count in channels.items():
            if count not in (1, channels[most]):
                raise DataError(
                    f"{self.name}: {part.path} has {count} channels, but {most.path} has {channels[most]}: convert one"
                )
        exact = {part: info for part, info in infos.items() if info.n_samples is not None}
        rates = [info.sample_rate_hz for info in infos.values()]
        rate, mixed = max(rates), len(set(rates)) > 1 or len(set(channels.values())) > 1
        if exact:
            seconds = {part: (info.n_samples or 0) / info.sample_rate_hz for part, info in exact.items()}
            shortest, longest = (choose(seconds, key=lambda part: seconds[part]) for choose in (min, max))
            if seconds[longest] - seconds[shortest] > MOST_LACKING_SECONDS:
                raise self._lengths(longest, infos[longest].n_samples, shortest, infos[shortest].n_samples)
            return Form(rate, channels[most], round(seconds[shortest] * rate), mixed)
        return Form(rate, channels[most], None, mixed)

    def _lengths(self, longer: Part, more: int | None, shorter: Part, fewer: int | None) -> DataError:
        names = [f"{part.path}" + (f" (stream {part.stream})" if part.stream else "") for part in (longer, shorter)]
        return DataError(
            f"{self.name}: {names[0]} has {more} samples, but {names[1]} has {fewer}: up to {MOST_LACKING_SECONDS:g} s "
            "are cut, trim or pad one of them"
        )

    def blocks(self, start_seconds: float = 0.0, duration_seconds: float | None = None) -> Iterator[dict[str, Tensor]]:
        """Read the stems, and `MIXTURE` if it has a file, block by block and all files at once, in constant memory.

        Args:
            start_seconds: start of the part to read.
            duration_seconds: its length; to the end if None.

        Yields:
            Waveforms (C, n), n > 0, by name: at the highest rate and with the most channels of the files, cut to the
            shortest file.

        Raises:
            DataError: a file cannot be read, or see `check`; lengths that no header gives are compared at the end.
        """
        yield from self._blocks(self.check(), start_seconds, duration_seconds)

    def _blocks(self, form: Form, start_seconds: float, duration_seconds: float | None) -> Iterator[dict[str, Tensor]]:
        try:
            with ExitStack() as files:
                readers: dict[Part, Reader] = {}
                for part in dict.fromkeys(Part(part.path, part.stream) for part in self.parts):
                    decoder = files.enter_context(audio.open_audio(part.path, part.stream))
                    blocks = decoder.blocks(start_seconds, duration_seconds)
                    readers[part] = Reader(blocks, decoder.info, form.sample_rate_hz)
                more = True
                while more:
                    read = {part: reader.take(_BLOCK_SAMPLES) for part, reader in readers.items()}
                    n_samples = min(waveform.shape[-1] for waveform in read.values())
                    more = n_samples == _BLOCK_SAMPLES
                    if not more:
                        self._compare({part: reader.drain() for part, reader in readers.items()}, form.sample_rate_hz)
                    if n_samples:
                        yield self._mixed({part: found[:, :n_samples] for part, found in read.items()}, form.channels)
        except AudioError as error:
            raise DataError(f"{self.name}: {error}") from error

    def _compare(self, lengths: Mapping[Part, int], sample_rate_hz: int) -> None:
        shortest, longest = (choose(lengths, key=lambda part: lengths[part]) for choose in (min, max))
        if lengths[longest] - lengths[shortest] > MOST_LACKING_SECONDS * sample_rate_hz:
            raise self._lengths(longest, lengths[longest], shortest, lengths[shortest])

    def _mixed(self, read: Mapping[Part, Tensor], channels: int) -> dict[str, Tensor]:
        """Add up the parts of every source, (C, n), of what was read of the files."""

        def take(part: Part) -> Tensor:
            waveform = read[Part(part.path, part.stream)]
            waveform = waveform if part.channel is None else waveform[part.channel : part.channel + 1]
            return waveform.expand(channels, -1)

        n_samples = next(iter(read.values())).shape[-1]
        waveforms = {
            source: torch.stack([take(part) for part in parts]).sum(0) if parts else torch.zeros(channels, n_samples)
            for source, parts in self.stems.items()
        }
        return waveforms if self.mixture is None else waveforms | {MIXTURE: take(self.mixture)}

    def load(self, start_seconds: float = 0.0, duration_seconds: float | None = None) -> Stems:
        """Read the stems, and `MIXTURE` if it has a file.

        Args:
            start_seconds: start of the part to read.
            duration_seconds: its length; to the end if None.

        Returns:
            Waveforms (C, N) by name: at the highest rate and with the most channels of the files, cut to the shortest.

        Raises:
            DataError: see `blocks`.
        """
        form = self.check()
        blocks = list(self._blocks(form, start_seconds, duration_seconds))
        return Stems(
            {name: torch.cat([block[name] for block in blocks], -1) for name in blocks[0]}, form.sample_rate_hz
        )


class ClipBatch(NamedTuple):
    """A whole clip, for scoring.

    Attributes:
        name: the clip's name, the key of its scores.
        sources: waveforms (S, C, N) at the clip's rate.
        sample_rate_hz: the clip's sample rate in Hz.
        mixture: the mixture (C, N); the sum of the sources unless the data set has a file of it.
        group: the clip's singer or artist.
    """

    name: str
    sources: Tensor
    sample_rate_hz: int
    mixture: Tensor
    group: str


@dataclass(frozen=True)
class Split:
    """The clips for training, for validation (choice of checkpoints and settings) and for testing."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]

    def __post_init__(self) -> None:
        """Refuse overlaps.

        Raises:
            DataError: a clip is in two parts, or a group is on both sides of the test split.
        """
        known = self.train + self.validation
        for name, one, other in (
            ("clip", {clip.name for clip in self.train}, {clip.name for clip in self.validation}),
            ("clip", {clip.name for clip in known}, {clip.name for clip in self.test}),
            ("group", {clip.group for clip in known}, {clip.group for clip in self.test}),
            ("file", _files(self.train), _files(self.validation)),
            ("file", _files(known), _files(self.test)),
        ):
            both = sorted(one & other)
            if both:
                raise DataError(f"the {name} {both[0]} is on both sides of a split: move all of it to one side")


def _files(clips: Sequence[Clip]) -> set[str]:
    return {str(path) for clip in clips for path in clip.files}


class Catalogue(Protocol):
    """A data set: all that a new one has to write."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the S axis."""

    @property
    def licence(self) -> str:
        """What may be done with weights trained on this set, one line; '' if it is not known. Stored on their cards."""

    def prepare(self) -> None:
        """Make files that are missing, in one process per machine; most data sets do nothing."""

    def split(self) -> Split:
        """The clips by part.

        Raises:
            DataError: there are no clips, or they cannot be split as asked.
        """


def loaded(
    clip: Clip, sources: Sequence[str], mixture: str = "file", duration_seconds: float | None = None
) -> ClipBatch:
    """Read a clip for scoring.

    Args:
        clip: the clip; all of ``sources`` must be among its stems.
        sources: names of the sources, the order of the S axis.
        mixture: ``file``, the clip's own mixture if it has a file, or ``sum``, always the sum of the sources.
        duration_seconds: length to read from the beginning; all of it if None.

    Raises:
        DataError: see `Clip.load`.
    """
    stems = clip.load(0.0, duration_seconds)
    try:
        waveforms = stems.stacked(sources)
    except ValueError as error:
        raise DataError(f"{clip.name}: {error}") from error
    given = mixture == "file" and MIXTURE in stems
    return ClipBatch(
        clip.name, waveforms, stems.sample_rate_hz, stems[MIXTURE] if given else waveforms.sum(0), clip.group
    )


def pad_or_cut(waveform: Tensor, n_samples: int) -> Tensor:
    """A waveform (..., N) cut, or padded with silence at its end, to (..., n_samples)."""
    return F.pad(waveform, (0, n_samples - waveform.shape[-1]))
