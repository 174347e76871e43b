"""Stores: the waveforms of training clips at the network's rate, in memory or in files that are mapped to memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from hourglass_sep.data.cache import CachedClip, Recorder
from hourglass_sep.data.clips import Clip
from hourglass_sep.data.passes import Job, chosen, complete, lock_path, name_of, stamp_of
from hourglass_sep.data.survey import Listener, facts_path, written
from hourglass_sep.support.checks import check_whole
from hourglass_sep.support.errors import DataError, SettingError
from hourglass_sep.support.files import replacing, writing
from hourglass_sep.support.terminal import complain


class Store(Protocol):
    """Waveforms of training clips at the network's rate and with its channels; clips and sources are numbers."""

    def __len__(self) -> int:
        """Number of clips."""

    def n_samples(self, clip: int) -> int:
        """Length of a clip in samples."""

    def has(self, clip: int, source: int) -> bool:
        """Whether the source is known; one that is not is drawn from other clips."""

    def read(self, clip: int, source: int, start: int, stop: int) -> Tensor:
        """A part of a known source, (C, stop - start), float32; ``0 <= start <= stop <= n_samples(clip)``."""


class MemoryStore:
    """A store of waveforms in memory, of which all sources are known.

    Args:
        clips: waveforms (S, C, N), or (S, N) of one channel.

    Raises:
        SettingError: waveforms of other shapes.
    """

    def __init__(self, clips: Sequence[Tensor]) -> None:
        self._clips = [clip[:, None] if clip.ndim == 2 else clip for clip in clips]
        for clip in self._clips:
            if clip.ndim != 3 or clip.shape[:2] != self._clips[0].shape[:2]:
                raise SettingError(f"a clip has the shape {tuple(clip.shape)}: give (S, C, N), with S and C as others")

    def __len__(self) -> int:
        return len(self._clips)

    def n_samples(self, clip: int) -> int:
        """See `Store`."""
        return self._clips[clip].shape[-1]

    def has(self, clip: int, source: int) -> bool:
        """See `Store`."""
        return True

    def read(self, clip: int, source: int, start: int, stop: int) -> Tensor:
        """See `Store`; the result is a view."""
        return self._clips[clip][source, :, start:stop]


class CachedStore:
    """A store of files of the cache; it can be pickled, and forked or spawned processes may read at once.

    Args:
        clips: the files.
        sources: names of the sources, in the order of the S axis.
    """

    def __init__(self, clips: Sequence[CachedClip], sources: Sequence[str]) -> None:
        self._clips = list(clips)
        self._sources = list(sources)

    def __len__(self) -> int:
        return len(self._clips)

    def n_samples(self, clip: int) -> int:
        """See `Store`."""
        return self._clips[clip].n_samples

    def has(self, clip: int, source: int) -> bool:
        """See `Store`."""
        return self._sources[source] in self._clips[clip].stems

    def read(self, clip: int, source: int, start: int, stop: int) -> Tensor:
        """See `Store`.

        Raises:
            DataError: the clip's file was removed or replaced.
        """
        return self._clips[clip].read(self._sources[source], start, stop)


def open_store(
    clips: Sequence[Clip],
    sources: Sequence[str],
    sample_rate_hz: int,
    channels: int,
    cache_dir: Path,
    workers: int | None = None,
) -> CachedStore:
    """Open the cache of clips, after making what is missing or was made from files that have changed.

    Each clip has a file below ``cache_dir``, with a name made of the clip's and its files' names, in a folder of the
    rate and channels: another choice of sources, rate or channels makes other files and keeps these. Processes with
    one cache share the work.

    Args:
        clips: the clips.
        sources: names of the sources, in the order of the S axis; a clip may lack some.
        sample_rate_hz: sample rate of the network in Hz.
        channels: number of channels of the network, 1 or 2.
        cache_dir: folder of the cache.
        workers: number of clips made at a time, see `complete`.

    Raises:
        DataError: a clip cannot be read, see `Clip.blocks`.
        FileError: the cache cannot be written.
    """
    check_whole("audio.channels", channels, most=2)
    folder = cache_dir / f"{sample_rate_hz}hz_{channels}ch"
    chosen_clips = [chosen(clip, sources) for clip in clips]
    paths = [folder / f"{name_of(clip)}.safetensors" for clip in chosen_clips]
    known = dict(zip(paths, chosen_clips, strict=True))
    stamps = {path: stamp_of(clip) for path, clip in known.items()}
    found = {path: CachedClip.find(path) for path in known}

    def job(path: Path) -> Job:
        clip, stamp = known[path], stamps[path]

        def done() -> bool:
            found[path] = CachedClip.find(path)
            return _is_of(found[path], stamp)

        def make() -> None:
            form, facts = clip.check(), facts_path(cache_dir, clip)
            listener = Listener(clip, form, sources)
            with replacing([path, facts]) as (part, facts_part):
                with Recorder(folder, list(clip.stems), form.sample_rate_hz, sample_rate_hz, channels) as stems:
                    for block in clip.blocks():
                        listener.add(block)
                        stems.add(block)
                    stems.save(part, stamp)
                with writing(facts):
                    facts_part.write_bytes(written(listener.facts(), stamp))
            found[path] = CachedClip.find(path)

        return Job(clip.name, lock_path(cache_dir, clip), done, make)

    missing = [path for path in known if not _is_of(found[path], stamps[path])]
    old = [known[path].name for path in missing if found[path] is not None]
    if old:
        complain(
            f"{len(old)} of {len(known)} cached tracks were made from other files or by another version, the first is "
            f"{old[0]}: made again"
        )
    complete([job(path) for path in missing], "caching the training set", workers)
    entries = [entry for entry in (found[path] for path in paths) if entry is not None]
    if len(entries) < len(paths):
        raise DataError(f"files in {folder} were removed while they were made: run the same command again")
    return CachedStore(entries, sources)


def _is_of(entry: CachedClip | None, stamp: dict[str, Any]) -> bool:
    return entry is not None and entry.stamp == stamp
