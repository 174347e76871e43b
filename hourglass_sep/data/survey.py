"""Checks of a data set that need all of its audio: damaged files, silent stems, stems that are not the mixture's.

Each clip is decoded once, and what was found is kept until one of its files changes.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from hourglass_sep.data.clips import Clip, Form
from hourglass_sep.data.passes import Job, chosen, complete, lock_path, name_of, stamp_of
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.files import write_all
from hourglass_sep.support.terminal import complain

MIXTURES = ("file", "sum")

SILENT_PEAK = 2.0**-15
"""Largest peak of a silent stem: one step of 16 bit, as dither leaves it."""

LOWEST_DB = 10.0
"""Ratio of mixture to difference in dB below which stems that do not add up to their mixture are refused."""

EXACT_DB = 40.0
"""The same ratio from which stems count as adding up to their mixture; lossy codecs leave 20 to 35 dB."""

_MOST_DB = 200.0  # where the difference is 0


class Facts(NamedTuple):
    """What a pass over the whole audio of a clip has found.

    Attributes:
        sample_rate_hz: sample rate in Hz, the highest of the clip's files.
        channels: number of channels C, the most of its files.
        n_samples: length in samples at that rate.
        mixed: whether files differ in rate or channels.
        peaks: source to largest absolute sample value.
        mixture_db: energy of the mixture's file over the energy of its difference from the sum of the stems, in dB,
            -200 to 200; None if there is no such file, or a source is unknown.
    """

    sample_rate_hz: int
    channels: int
    n_samples: int
    mixed: bool
    peaks: dict[str, float]
    mixture_db: float | None


class Listener:
    """Collect the facts of a clip from its blocks.

    Args:
        clip: the clip, with the chosen sources only.
        form: what its headers say.
        sources: names of all sources; if the clip has them all, they are compared with its mixture.
    """

    def __init__(self, clip: Clip, form: Form, sources: Sequence[str]) -> None:
        self._form = form
        self._peaks = dict.fromkeys(clip.stems, 0.0)
        self._compares = clip.mixture is not None and set(sources) <= clip.stems.keys()
        self._energy = self._difference = 0.0
        self._n_samples = 0

    def add(self, block: Mapping[str, Tensor]) -> None:
        """Add the next block of `Clip.blocks`."""
        for source, peak in self._peaks.items():
            self._peaks[source] = max(peak, float(block[source].abs().max()))
        self._n_samples += next(iter(block.values())).shape[-1]
        if self._compares:
            total = sum(block[source] for source in self._peaks)
            self._energy += float(block[MIXTURE].double().square().sum())
            self._difference += float((block[MIXTURE] - total).double().square().sum())

    def facts(self) -> Facts:
        """The facts of all blocks so far."""
        form = self._form
        ratio = _decibels(self._energy, self._difference) if self._compares else None
        return Facts(form.sample_rate_hz, form.channels, self._n_samples, form.mixed, self._peaks, ratio)


def _decibels(energy: float, difference: float) -> float:
    if not energy or not difference:
        return _MOST_DB if not difference else -_MOST_DB
    return min(max(10 * math.log10(energy / difference), -_MOST_DB), _MOST_DB)


def facts_path(cache_dir: Path, clip: Clip) -> Path:
    """File of a clip's facts; the clip has the chosen sources only."""
    return cache_dir / "facts" / f"{name_of(clip)}.json"


def written(facts: Facts, stamp: Mapping[str, Any]) -> bytes:
    """Content of a file of facts."""
    return json.dumps({"stamp": stamp, "facts": facts._asdict()}, indent=1).encode()


def _read(path: Path, stamp: Mapping[str, Any]) -> Facts | None:
    """The facts in a file; None if they are missing, damaged or those of other files."""
    try:
        content = json.loads(path.read_bytes())
        facts = Facts(**content["facts"]) if content["stamp"] == stamp else None
        return facts if facts is None or isinstance(facts.peaks, dict) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def survey(
    clips: Sequence[Clip], sources: Sequence[str], cache_dir: Path, mixture: str = "file", workers: int | None = None
) -> list[Facts]:
    """Check whole clips, and print a line for each kind of peculiarity.

    Call it after `open_store`, which collects the facts of its clips while it caches them.

    Args:
        clips: the clips of all parts of a data set.
        sources: names of the sources.
        cache_dir: folder in which facts are kept.
        mixture: ``file``, stems must add up to the mixture's file where there is one, or ``sum``, it is not used.
        workers: number of clips at a time, see `complete`.

    Returns:
        Facts by clip.

    Raises:
        DataError: a file cannot be read or holds NaN, lengths differ, all stems of a clip are silent, or they add up
            to another mixture.
        SettingError: unknown ``mixture``.
    """
    check_choice("data.mixture", mixture, MIXTURES)
    known = [chosen(clip, sources) for clip in clips]
    found = _collected(known, sources, cache_dir, workers)
    _judge_stems(dict(zip(known, found, strict=True)))
    if mixture == "file":
        _judge_mixtures(dict(zip(known, found, strict=True)))
    return found


def _collected(clips: Sequence[Clip], sources: Sequence[str], cache_dir: Path, workers: int | None) -> list[Facts]:
    """The facts of clips, which have the chosen sources only; those that are missing are collected."""
    stamps = {clip: stamp_of(clip) for clip in clips}
    found = {clip: _read(facts_path(cache_dir, clip), stamps[clip]) for clip in clips}

    def job(clip: Clip) -> Job:
        path = facts_path(cache_dir, clip)

        def done() -> bool:
            found[clip] = _read(path, stamps[clip])
            return found[clip] is not None

        def make() -> None:
            listener = Listener(clip, clip.check(), sources)
            for block in clip.blocks():
                listener.add(block)
            found[clip] = listener.facts()
            write_all(path.parent, {path.name: written(listener.facts(), stamps[clip])})

        return Job(clip.name, lock_path(cache_dir, clip), done, make)

    complete([job(clip) for clip, facts in found.items() if facts is None], "checking the data set", workers)
    return [facts for facts in (found[clip] for clip in clips) if facts is not None]


def _judge_stems(found: Mapping[Clip, Facts]) -> None:
    silent = []
    for clip, facts in found.items():
        quiet = [source for source, peak in facts.peaks.items() if peak <= SILENT_PEAK]
        if len(quiet) == len(facts.peaks):
            raise DataError(f"{clip.name} is silent in all its stems: export it again, or remove it")
        silent += [f"{source} of {clip.name}" for source in quiet if clip.stems[source]]
    if silent:
        complain(f"warning: {_count(len(silent), 'silent stem')}, the first is {silent[0]}: silence, not scored")
    mixed = [clip for clip, facts in found.items() if facts.mixed]
    if mixed:
        facts = found[mixed[0]]
        complain(
            f"warning: files of {_count(len(mixed), 'track')} differ in sample rate or channels, the first is "
            f"{mixed[0].name}: read at the highest, {facts.sample_rate_hz} Hz and {facts.channels} channel(s)"
        )


def _judge_mixtures(found: Mapping[Clip, Facts]) -> None:
    ratios = {clip: facts.mixture_db for clip, facts in found.items() if facts.mixture_db is not None}
    low = {clip: ratio for clip, ratio in ratios.items() if ratio < EXACT_DB}
    if not low:
        return
    worst = min(low, key=lambda clip: low[clip])
    if low[worst] < LOWEST_DB:
        assert worst.mixture is not None
        raise DataError(
            f"the stems of {worst.name} add up to {worst.mixture.path} at {low[worst]:.1f} dB only, {LOWEST_DB:g} dB "
            "is the least: set data.mixture=sum to train on their sum, or fix that file or a missing stem"
        )
    complain(
        f"warning: the stems of {_count(len(low), 'track')} add up to their mixture at {low[worst]:.1f} to "
        f"{max(low.values()):.1f} dB (median {statistics.median(low.values()):.1f}), the worst is {worst.name}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
