"""Figures of a report: box plots of the scores by clip, and spectrograms of the worst clips. No global state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.plotting.panels import Example, plain, shortened
from hourglass_sep.results.pools import Pool, ScoredSystem, spelt
from hourglass_sep.scoring.averages import Array, average
from hourglass_sep.support.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BOXES = 40
_MOST_PANELS = 8
_LONGEST_SECONDS = 12.0
_RATE_HZ, _N_FFT, _HOP = 16000, 1024, 256  # of the spectrograms, whatever the rate of the scored audio

Sounds = Mapping[str, "Tensor"]
"""Name to waveform (N): the sources and the mixture."""


def box_plot(pool: Pool, metric: str) -> Figure:
    """Box plot of a metric: a panel per source, a box per system, a dot per clip, a diamond for the average.

    Args:
        pool: scores of one protocol. At most the `_MOST_BOXES` best systems and `_MOST_PANELS` sources are shown.
        metric: a headline metric of the protocol.
    """
    columns = {
        (name, source): system.column(source, metric)
        for name, system in pool.systems.items()
        for source in pool.sources
    }
    names = [name for name in pool.systems if any(columns[name, source].clips for source in pool.sources)]
    names = names[-_MOST_BOXES:]  # the last ones are the best
    sources = pool.sources[:_MOST_PANELS]
    n_columns = min(2, len(sources))
    n_rows = -(-len(sources) // n_columns)
    size = (2.4 + 4.6 * n_columns, 0.9 + n_rows * (1.0 + 0.46 * max(len(names), 2)))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1))
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(sources) :]:
        axis.set_axis_off()
    rng = np.random.default_rng(0)
    for axis, source in zip(axes.flat, sources, strict=False):
        for position, name in enumerate(names):
            colour = "tab:gray" if pool.systems[name].is_baseline else "tab:blue"
            _, values, n_samples = columns[name, source]
            if not len(values):
                axis.text(0.5, position, "no score", transform=axis.get_yaxis_transform(), ha="center", va="center")
                continue
            heights = position + rng.uniform(-0.28, 0.28, len(values))
            axis.scatter(values, heights, s=7, color=colour, alpha=0.3, linewidths=0)
            lines = {"color": colour, "linewidth": 1.3}
            axis.boxplot(
                values,
                positions=[position],
                widths=0.62,
                orientation="horizontal",
                manage_ticks=False,
                showfliers=False,
                boxprops=lines,
                whiskerprops=lines,
                capprops=lines,
                medianprops=lines | {"linewidth": 2},
            )
            centre = average(values, n_samples, pool.average)
            axis.plot(centre, position, "D", color=colour, markersize=6, markeredgecolor="white", zorder=5)
        axis.set_title(plain(shortened(source)))
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.set_yticks(range(len(names)), [plain(shortened(name)) for name in names])
        axis.set_ylim(-0.6, max(len(names), 1) - 0.4)
    for axis in axes[-1]:
        axis.set_xlabel(plain(f"{spelt(metric)}, dB"))
    title = f"{pool.protocol['name']}, {len(pool.clips)} clips: {spelt(metric)} of each (dots), quartiles (boxes)"
    figure.suptitle(plain(f"{title}, the table's {pool.headline[metric]} (diamonds)"), fontsize="medium")
    return figure


def find_examples(system: ScoredSystem, records: Sequence[dict[str, Any]], metric: str) -> tuple[list[Example], str]:
    """Separate again, or read, the worst clips of a system, and compute their spectrograms.

    Args:
        system: the system with these clips.
        records: records of `hourglass_sep.results.tables.worst_records`.
        metric: the metric by which the clips are ranked.

    Returns:
        The examples, without the clips that failed, and the reason of the first failure ('' for none).
    """
    examples, problems = [], []
    try:
        load = _loader(system)
    except UserError as error:
        return [], str(error)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        return [], f"{system.file.path} says in words of its own where the sounds are ({error})"
    for record in records:
        try:
            references, estimate = load(record["clip"], record["source"])
        except UserError as error:
            problems.append(str(error))
            continue
        except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
            problems.append(
                f"the sounds of {record['clip']} do not fit together ({' '.join(str(error).split())[:200]})"
            )
            continue
        sounds = {"mixture": references[MIXTURE], "reference": references[record["source"]], "estimate": estimate}
        levels_db = _levels_db(sounds)
        seconds = levels_db[MIXTURE].shape[1] * _HOP / _RATE_HZ
        examples.append(Example(title(record, metric), levels_db, seconds, _RATE_HZ / 2000))
    return examples, problems[0] if problems else ""


def title(record: dict[str, Any], metric: str) -> str:
    """Title of a worst clip: rank, clip, source and score."""
    name = spelt(metric)
    return f"{record['rank']}. {record['clip']}, {record['source']}: {name} {record[name]:z.2f} dB"


def _levels_db(sounds: Sounds) -> dict[str, Array]:
    """Spectrograms (F, T) in dB relative to the mixture's peak, at least -160 dB."""
    from hourglass_sep.dsp.stft import Spectrogram

    stft = Spectrogram(_RATE_HZ, _N_FFT, _HOP, _N_FFT // 2)
    magnitudes = {kind: stft.magnitude(stft(sound)).double().numpy() for kind, sound in sounds.items()}
    peak = max(magnitudes[MIXTURE].max(), 1e-8)
    return {kind: 20 * np.log10(np.maximum(m / peak, 1e-8)) for kind, m in magnitudes.items()}


def _loader(system: ScoredSystem) -> Callable[[str, str], tuple[Sounds, Tensor]]:
    """A function from (clip, source) to the references and the system's estimate of that source.

    Waveforms are (N), at `_RATE_HZ`.

    Raises:
        UserError: the audio is missing or cannot be separated again; the returned function raises it, too.
    """
    facts = system.file.audio
    kept = system.own_name == MIXTURE or not system.is_baseline  # estimates of oracles cannot be made again
    if kept and facts.get("kind") == "mir1k" and {"root", "weights"} <= facts.keys():
        return _mir1k_loader(system)
    if kept and facts.get("kind") == "stems" and "tracks" in facts:
        return _stems_loader(system)
    raise UserError(f"{system.file.path} does not say where the sounds of {system.own_name} are")


def _mir1k_loader(system: ScoredSystem) -> Callable[[str, str], tuple[Sounds, Tensor]]:
    from hourglass_sep.checkpoints.card import inference_problem
    from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, find_clips
    from hourglass_sep.dsp.stems import SOURCES
    from hourglass_sep.inference.loading import refuse_excess
    from hourglass_sep.inference.options import build
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.support.devices import choose_device

    facts = system.file.audio
    try:
        clips = {clip.name: clip for clip in find_clips(facts["root"])}
    except (UserError, TypeError) as error:
        raise UserError(f"no MIR-1K clips in {facts['root']}") from error
    separator = None
    if not system.is_baseline:
        reason = inference_problem(facts.get("inference", {}))
        if reason:
            raise UserError(f"{system.file.path} has inference settings that cannot be ({reason}): make it again")
        try:
            post = {group: build(description) for group, description in facts.get("post", {}).items()}
            separator = Separator.load(facts["weights"], **facts.get("inference", {}), **post)
            parts = separator.network, separator.spectrogram, separator.windows, separator.segment_seconds
            refuse_excess(system.file.path, *parts)
            separator = separator.to(choose_device("auto"))
        except (TypeError, AttributeError) as error:
            raise UserError(f"{system.file.path} has inference settings that this version lacks ({error})") from error

    @cache  # a clip may be among the worst by several sources
    def separate(name: str) -> tuple[Sounds, Sounds]:
        if name not in clips:
            raise UserError(f"{name} is not in {facts['root']}")
        sources = clips[name].load()  # (S, N)
        mixture = sources.sum(0)
        estimates = separator.separate(mixture, SAMPLE_RATE_HZ) if separator else dict.fromkeys(SOURCES, mixture)
        stems = dict(zip(SOURCES, sources, strict=True)) | {MIXTURE: mixture}
        return _shown(stems, SAMPLE_RATE_HZ), _shown(estimates, SAMPLE_RATE_HZ)

    def load(name: str, source: str) -> tuple[Sounds, Tensor]:
        references, estimates = separate(name)
        return references, estimates[source]

    return load


def _stems_loader(system: ScoredSystem) -> Callable[[str, str], tuple[Sounds, Tensor]]:
    from hourglass_sep import audio

    tracks = system.file.audio["tracks"]

    def read(paths: Sequence[str]) -> Tensor:
        waveforms = [audio.read(path) for path in paths]
        mono = _sum([waveform.mean(0) for waveform, _ in waveforms])
        return _shown({"": mono}, waveforms[0][1])[""]

    def load(clip: str, source: str) -> tuple[Sounds, Tensor]:
        try:
            files = tracks[clip]["references"] | {None: [tracks[clip]["estimates"][source]]}
        except (KeyError, TypeError) as error:
            raise UserError(f"{system.file.path} does not say where {clip} is") from error
        estimate = files.pop(None)
        references = {name: read(paths) for name, paths in files.items()}
        stems = references | {MIXTURE: _sum([*references.values()])}
        if system.own_name == MIXTURE:
            return stems, stems[MIXTURE]
        return stems, read(estimate)

    return load


def _sum(waveforms: Sequence[Tensor]) -> Tensor:
    """Sum of waveforms (N); all are cut or zero-padded to the length of the first."""
    from torch.nn import functional as F

    total = waveforms[0].clone()
    for waveform in waveforms[1:]:
        total += F.pad(waveform, (0, len(total) - len(waveform)))
    return total


def _shown(stems: Sounds, rate_hz: int) -> dict[str, Tensor]:
    """The first `_LONGEST_SECONDS` of waveforms (N), resampled to `_RATE_HZ`."""
    from hourglass_sep.audio import resample

    n_samples = round(_LONGEST_SECONDS * rate_hz)
    return {name: resample(stem[:n_samples], rate_hz, _RATE_HZ) for name, stem in stems.items()}
