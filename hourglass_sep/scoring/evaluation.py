"""Scores of a separator, baselines and the unprocessed mixture on clips."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType

import torch
from torch import Tensor

from hourglass_sep.data.clips import Clip, ClipBatch, loaded
from hourglass_sep.dsp.stems import ESTIMATE
from hourglass_sep.inference.bands import refuse_not_finite
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.journal import bytes_of, journal_of, score_all
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, score_clip
from hourglass_sep.scoring.systems import Model, System
from hourglass_sep.scoring.worst import WorstClips, beginning
from hourglass_sep.support.errors import DataError, NotFiniteError
from hourglass_sep.support.provenance import code_hash


class _Estimates(Mapping[str, Tensor]):
    """Estimates (S, C, N) of systems by name, computed when they are looked up.

    Attributes:
        shown: `beginning` of the separator's estimates, once they have been looked up.
    """

    def __init__(self, separator: Separator, clip: ClipBatch, systems: Mapping[str, System]) -> None:
        self._separator = separator
        self._clip = clip
        self._systems = systems
        self.shown: Tensor | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._systems)

    def __len__(self) -> int:
        return len(self._systems)

    def __getitem__(self, name: str) -> Tensor:
        clip, separator = self._clip, self._separator
        with torch.inference_mode():
            estimates = self._systems[name](clip.mixture, clip.sources, clip.sample_rate_hz, separator)
        if name == ESTIMATE:
            try:
                refuse_not_finite(estimates, separator.origin)
            except NotFiniteError as error:
                raise NotFiniteError(f"{clip.name} is not scored: {error}") from None
            self.shown = beginning(estimates, clip.sample_rate_hz)
        return estimates.to(separator.device)


def evaluate(
    separator: Separator,
    clip: Clip,
    protocol: ScoringProtocol,
    baselines: Mapping[str, System],
    mixture: str = "file",
    worst: WorstClips | None = None,
) -> list[Row]:
    """Score a separator, baselines and the unprocessed mixture on one clip.

    Args:
        separator: the separator to score; scores are computed on its device.
        clip: the clip to separate, of any rate and channels; it has all of the separator's sources.
        protocol: the scoring protocol.
        baselines: systems by name, see `hourglass_sep.scoring.systems`.
        mixture: what is separated: ``file``, the clip's mixture file if it has one, or ``sum``. Without a file it is
            what the protocol makes of the sources.
        worst: receives the clip's spectrograms if it is one of the worst.

    Returns:
        Rows of scores, see `hourglass_sep.scoring.rows.score_clip`.

    Raises:
        DataError: the clip cannot be read, or lacks one of the sources.
        NotFiniteError: the separator's estimates are not finite, as its weights overflow.
    """
    batch = loaded(clip, separator.sources, mixture)
    if clip.mixture is None or mixture != "file":
        batch = batch._replace(mixture=protocol.mixture(batch.sources))
    systems = {ESTIMATE: Model()} | {name.replace("_", " "): system for name, system in baselines.items()}
    estimates = _Estimates(separator, batch, systems)
    device, rate = separator.device, batch.sample_rate_hz
    rows = score_clip(
        protocol,
        batch.name,
        batch.sources.to(device),
        estimates,
        rate,
        separator.sources,
        batch.group,
        batch.mixture.to(device),
    )
    if worst is not None and estimates.shown is not None:
        worst.offer(rows, beginning(batch.mixture, rate), beginning(batch.sources, rate), estimates.shown)
    return rows


def evaluate_all(
    separator: Separator,
    clips: Sequence[Clip],
    protocol: ScoringProtocol,
    baselines: Mapping[str, System],
    journal_dir: Path | None = None,
    workers: int | None = None,
    what: str = "scoring",
    keep: Callable[[list[Row], bytes], object] = lambda rows, worst: None,
    mixture: str = "file",
) -> list[Row]:
    """Score clips in parallel; see `evaluate`.

    Args:
        separator: the separator to score.
        clips: the clips to separate.
        protocol: the scoring protocol.
        baselines: systems by name.
        journal_dir: folder of the journal that keeps finished clips until all are done; None for no journal.
        workers: number of clips scored in parallel; by default one per core, fewer where long clips need the memory.
        what: title of the progress bar.
        keep: called with all rows, and the content of ``worst.npz`` (see `WorstClips.content`), before the journal is
            deleted; if it raises, the journal remains.
        mixture: see `evaluate`.

    Returns:
        The rows of all clips, in the order of ``clips``.

    Raises:
        SettingError: a baseline does not fit the separator's sources.
        DataError: a clip cannot be read, or lacks one of the separator's sources.
        Interrupted: Ctrl-C was pressed; with a journal, an equal call continues after the finished clips.
    """
    sources = separator.sources
    for system in baselines.values():
        getattr(system, "check", lambda sources: None)(sources)
    for clip in clips:
        lacking = [source for source in sources if source not in clip.stems]
        if lacking:
            raise DataError(
                f"{clip.name} has no stem {', '.join(lacking)}, which the weights separate: leave the clip out, or "
                "choose weights for its sources"
            )
    need = _need(clips, len(sources))  # a clip that cannot be read is found before time is spent on the others
    facts = {
        "protocol": protocol.hash,
        "code": code_hash(),
        "separator": _fingerprint(separator),
        "baselines": {name: _settings(system) for name, system in baselines.items()},
        "mixture": mixture,
        "clips": [[clip.name, [_state(path) for path in clip.files]] for clip in clips],
    }
    jobs = {clip.name: clip for clip in clips}
    with journal_of(journal_dir, facts, protocol.metrics) as journal:
        beside = None if journal.path is None else journal.path.with_suffix(".worst")
        worst = WorstClips(next(iter(protocol.headline)), sources, beside, journal.done)

        def score(clip: Clip) -> list[Row]:
            return evaluate(separator, clip, protocol, baselines, mixture, worst)

        rows = score_all(score, jobs, journal, workers, what, need)
        keep(rows, worst.content())
        worst.close()
    return rows


def _state(path: Path) -> list[object]:
    """A file's name, size and modification time, so that rows of changed files are not reused."""
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]


def _need(clips: Sequence[Clip], n_sources: int) -> int:
    """Bytes that a worker needs for the clip that needs the most."""
    forms = [clip.check() for clip in clips]
    needs = [bytes_of(form.n_samples, form.sample_rate_hz, form.channels, n_sources) for form in forms]
    return max(needs, default=0)


def _fingerprint(separator: Separator) -> str:
    """Hash (SHA-256, hexadecimal) of all settings and weights that the estimates depend on."""
    post = _settings(separator.refine), _settings(separator.reconstruct)
    parts = (separator.sources, separator.settings, separator.spectrogram.config, post, separator.network)
    digest = hashlib.sha256(repr(parts).encode())
    for value in separator.network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _settings(thing: object) -> str:
    """An object's class and public attributes as text; functions by name, as their addresses differ between runs."""
    if isinstance(thing, functools.partial):
        return f"{_settings(thing.func)} {thing.args} {thing.keywords}"
    if isinstance(thing, FunctionType):
        return f"{thing.__module__}.{thing.__qualname__}"
    attributes = {name: value for name, value in sorted(vars(thing).items()) if not name.startswith("_")}
    values = {name: getattr(value, "__qualname__", value) for name, value in attributes.items()}
    return f"{type(thing).__qualname__} {values}"
