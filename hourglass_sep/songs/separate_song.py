"""Separation of one song, from file to files, in constant memory. Outputs appear only when all are complete."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.inference.bands import refuse_not_finite
from hourglass_sep.inference.progress import Progress, Ticker
from hourglass_sep.inference.separator import Separator
from hourglass_sep.songs.plan import Job, Output, Song, plan
from hourglass_sep.support.errors import AudioError, NotFiniteError
from hourglass_sep.support.files import replacing, writing

_PICTURE_SECONDS = 30.0
_SPOOL_SAMPLES = 1 << 18


@dataclass
class Outcome:
    """Measurements of the separation of a song.

    Attributes:
        duration_seconds: duration of the separated audio in seconds.
        work_seconds: time that the separation took in seconds, reading and writing included.
        clipped_samples: number of samples, of all stems, that were clipped to the range of their format.
        peak: largest absolute sample of the stems, 1 for full scale.
        gain: factor that all stems were multiplied by.
        silent: whether all samples of the song were 0.
        notes: warnings about the decoding of the song.
    """

    duration_seconds: float = 0.0
    work_seconds: float = 0.0
    clipped_samples: int = 0
    peak: float = 0.0
    gain: float = 1.0
    silent: bool = True
    notes: Sequence[str] = ()

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio."""
        return self.work_seconds / max(self.duration_seconds, 1e-9)


def separate_file(separator: Separator, path: str | Path, out: str | Path, **settings: Any) -> list[Path]:
    """Write ``out/NAME/SOURCE.wav`` for every source, at the song's rate, channels, length and bit depth.

    Args:
        separator: the separator.
        path: file of the song.
        out: folder of the stems of all songs.
        settings: more settings, fields of `hourglass_sep.songs.plan.Output`.

    Returns:
        Paths of the stems.

    Raises:
        UserError: the song cannot be read, or the stems cannot be written; no file is left behind.
    """
    output = Output(Path(out), sources=separator.sources, **settings)
    (job,) = plan([Song(Path(path), Path(path).stem)], output)
    if job.error:
        raise AudioError(job.error)
    if not job.skipped:
        separate_job(separator, job, output)
    return list(job.stems.values())


def separate_job(
    separator: Separator, job: Job, output: Output, progress: Callable[[Progress], object] | None = None
) -> Outcome:
    """Separate a song as planned.

    Args:
        separator: the separator.
        job: job made by `hourglass_sep.songs.plan.plan`, without an error.
        output: the settings that the job was planned with, for the sources of this separator.
        progress: callback, called after every few windows of the network.

    Raises:
        AudioError: the song cannot be read to its end, or has changed since it was planned.
        NotFiniteError: the stems have NaN or infinite samples.
        FileError: a file cannot be written.
    """
    assert job.info is not None
    began = time.perf_counter()
    rate, channels = job.info.sample_rate_hz, job.info.channels
    n_expected = _expected_samples(job.info, output)
    outcome = Outcome()
    with ExitStack() as stack:
        decoder = stack.enter_context(audio.open_audio(job.song.path, output.stream))
        if decoder.info != job.info:
            raise AudioError(f"{job.song.path} is another file than a moment ago: run the command again")
        paths = list(job.stems.values())
        parts = stack.enter_context(replacing(job.outputs, output.overwrite))
        form = rate, channels, job.subtype, output.format, n_expected, decoder.tags
        writers = [
            stack.enter_context(audio.Writer(path, part, *form)) for path, part in zip(paths, parts, strict=False)
        ]
        spools = [stack.enter_context(_Spool(path)) for path in paths] if output.clip_mode == "rescale" else None
        sinks: list[Callable[[Tensor], int]] = [*(spools or writers)]
        ticker = Ticker(progress, n_expected / rate if n_expected else None)
        blocks = decoder.blocks(output.start_seconds, output.duration_seconds)
        for mixture, sources in separator.pairs(blocks, rate, ticker):
            _refuse_not_finite(sources, job, separator)
            outcome.duration_seconds += mixture.shape[-1] / rate
            outcome.silent = outcome.silent and not mixture.any()
            named = dict(zip(separator.sources, sources, strict=True))
            _append(_chosen(mixture, named, output), job, sinks, outcome)
            del mixture, sources, named  # frees this segment's memory before the next one is separated
        if spools:
            outcome.gain = 1 / max(outcome.peak, 1.0)
            for spool, write in zip(spools, writers, strict=True):
                outcome.clipped_samples += sum(write(outcome.gain * block) for block in spool.read(channels))
        for part in parts[len(paths) :]:
            _draw(separator, job, output, outcome.duration_seconds, part)
        outcome.notes = decoder.notes
    outcome.work_seconds = time.perf_counter() - began
    return outcome


def _refuse_not_finite(sources: Tensor, job: Job, separator: Separator) -> None:
    try:
        refuse_not_finite(sources, separator.origin)
    except NotFiniteError as error:
        raise NotFiniteError(f"{job.song.path} is not separated: {error}") from None


def _expected_samples(info: audio.Info, output: Output) -> int | None:
    """Number of samples per channel to separate; None if neither the song's length nor a duration is known."""
    rate = info.sample_rate_hz
    rest = None if info.n_samples is None else max(info.n_samples - audio.samples_of(output.start_seconds, rate), 0)
    wanted = None if output.duration_seconds is None else audio.samples_of(output.duration_seconds, rate)
    return min((n for n in (rest, wanted) if n is not None), default=None)


def _append(stems: Mapping[str, Tensor], job: Job, sinks: Sequence[Callable[[Tensor], int]], outcome: Outcome) -> None:
    """Write a block (C, N) of every stem, and update the peak and the count of clipped samples."""
    for name, sink in zip(job.stems, sinks, strict=True):
        outcome.peak = max(outcome.peak, float(stems[name].abs().max()))
        outcome.clipped_samples += sink(stems[name])


def _chosen(mixture: Tensor, sources: Mapping[str, Tensor], output: Output) -> dict[str, Tensor]:
    """The stems to write, name to waveform (C, N)."""
    one = output.two_stems
    if one is None:
        stems = {name: sources[name] for name in output.names}
    else:
        stems = {one: sources[one]}
        others = [stem for name, stem in sources.items() if name != one]
        if output.other_method == "add" and others:
            stems[f"no_{one}"] = torch.stack(others).sum(0)
        elif output.other_method != "none":
            stems[f"no_{one}"] = mixture - sources[one]
    if output.clip_mode == "clamp":
        stems = {name: stem.clamp(-1, 1) for name, stem in stems.items()}
    return stems


class _Spool:
    """A stem in an unnamed temporary file, in float32, until the peak of the song, and so the gain, is known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes]

    def __enter__(self) -> _Spool:
        with writing(self._path):
            self._file = tempfile.TemporaryFile(dir=self._path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, waveform: Tensor) -> int:
        with writing(self._path):
            self._file.write(waveform.T.contiguous().numpy().tobytes())
        return 0

    def read(self, channels: int) -> Iterator[Tensor]:
        with writing(self._path):
            self._file.seek(0)
        while data := self._file.read(_SPOOL_SAMPLES * channels * 4):
            yield torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, channels).T.copy())


def _draw(separator: Separator, job: Job, output: Output, duration_seconds: float, path: Path) -> None:
    """Draw mixture, masks and stems of the middle of the separated audio, at most `_PICTURE_SECONDS`."""
    from hourglass_sep.plotting.separation import picture

    start = output.start_seconds + max(duration_seconds - _PICTURE_SECONDS, 0) / 2
    with audio.open_audio(job.song.path, output.stream) as decoder:
        length = min(duration_seconds, _PICTURE_SECONDS)
        waveform = torch.cat(list(decoder.blocks(start, length)), -1)
    figure = picture(separator, waveform, decoder.info.sample_rate_hz, start_seconds=start)
    with writing(path):
        figure.savefig(path, format="png", dpi=100)
