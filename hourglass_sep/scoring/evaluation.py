"""Scores of a separator, baselines and the unprocessed mixture on clips."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType

import torch

from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, Clip
from hourglass_sep.dsp.stems import ESTIMATE
from hourglass_sep.inference.bands import refuse_not_finite
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.journal import journal_of, score_all
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, score_clip
from hourglass_sep.scoring.systems import Model, System
from hourglass_sep.support.errors import NotFiniteError
from hourglass_sep.support.provenance import code_hash


def evaluate(separator: Separator, clip: Clip, protocol: ScoringProtocol, baselines: Mapping[str, System]) -> list[Row]:
    """Score a separator, baselines and the unprocessed mixture on one clip.

    Args:
        separator: the separator to score; scores are computed on its device.
        clip: the clip to separate.
        protocol: the scoring protocol.
        baselines: systems by name, see `hourglass_sep.scoring.systems`.

    Returns:
        Rows of scores, see `hourglass_sep.scoring.rows.score_clip`.

    Raises:
        NotFiniteError: the separator's estimates are not finite, as its weights overflow.
    """
    references = clip.load()[:, None]  # (S, C, N)
    mixture = protocol.mixture(references)
    systems: dict[str, System] = {ESTIMATE: Model(), **baselines}
    with torch.inference_mode():
        estimates = {
            name.replace("_", " "): system(mixture, references, SAMPLE_RATE_HZ, separator).to(separator.device)
            for name, system in systems.items()
        }
    try:
        refuse_not_finite(estimates[ESTIMATE], separator.origin)
    except NotFiniteError as error:
        raise NotFiniteError(f"{clip.name} is not scored: {error}") from None
    return score_clip(protocol, clip.name, references.to(separator.device), estimates, SAMPLE_RATE_HZ)


def evaluate_all(
    separator: Separator,
    clips: Sequence[Clip],
    protocol: ScoringProtocol,
    baselines: Mapping[str, System],
    journal_dir: Path | None = None,
    workers: int | None = None,
    what: str = "scoring",
    keep: Callable[[list[Row]], object] = lambda rows: None,
) -> list[Row]:
    """Score clips in parallel; see `evaluate`.

    Args:
        separator: the separator to score.
        clips: the clips to separate.
        protocol: the scoring protocol.
        baselines: systems by name.
        journal_dir: folder of the journal that keeps finished clips until all are done; None for no journal.
        workers: number of clips scored in parallel; by default one per core.
        what: title of the progress bar.
        keep: called with all rows before the journal is deleted; if it raises, the journal remains.

    Returns:
        The rows of all clips, in the order of ``clips``.

    Raises:
        Interrupted: Ctrl-C was pressed; with a journal, an equal call continues after the finished clips.
    """
    facts = {
        "protocol": protocol.hash,
        "code": code_hash(),
        "separator": _fingerprint(separator),
        "baselines": {name: _settings(system) for name, system in baselines.items()},
        "clips": [[clip.name, clip.path.stat().st_size, clip.path.stat().st_mtime_ns] for clip in clips],
    }
    jobs = {clip.name: clip for clip in clips}
    with journal_of(journal_dir, facts, protocol.metrics) as journal:
        rows = score_all(lambda clip: evaluate(separator, clip, protocol, baselines), jobs, journal, workers, what)
        keep(rows)
    return rows


def _fingerprint(separator: Separator) -> str:
    """Hash (SHA-256, hexadecimal) of all settings and weights that the estimates depend on."""
    post = _settings(separator.refine), _settings(separator.reconstruct)
    parts = (separator.settings, separator.spectrogram.config, post, separator.network)
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
