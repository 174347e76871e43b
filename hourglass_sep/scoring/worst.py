"""Spectrograms of the worst clips, kept while a clip's sound is at hand, so that reports need no separation.

They are written beside the journal clip by clip, and at the end into one file, ``worst.npz``, beside ``scores.json``.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.dsp.stems import ESTIMATE, MIXTURE
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.scoring.rows import Row
from hourglass_sep.support.files import write_all

LONGEST_SECONDS = 12.0
RATE_HZ, N_FFT, HOP = 16000, 1024, 256
"""Sample rate, window and hop of the spectrograms, whatever the rate of the scored audio."""

KINDS = (MIXTURE, "reference", "estimate")
STEPS_PER_DB = 2
"""Steps of the stored levels per dB: 0 is the mixture's peak, 255 is 127.5 dB below it and all that is lower."""

_MOST_OF_A_SOURCE = 10
_MOST = 40

Levels = NDArray[np.uint8]


def beginning(waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """The first `LONGEST_SECONDS` of waveforms (..., C, N), the mean of their channels, at `RATE_HZ`: (..., n)."""
    mono = waveform[..., : round(LONGEST_SECONDS * sample_rate_hz)].mean(-2)
    return resample(mono.cpu(), sample_rate_hz, RATE_HZ)


def levels_db(sounds: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """Spectrograms (F, T) in dB, 0 at the mixture's peak and at least -160, of waveforms (N) at `RATE_HZ` by name."""
    stft = Spectrogram(RATE_HZ, N_FFT, HOP, N_FFT // 2)
    magnitudes = {kind: stft.magnitude(stft(sound)).double().numpy() for kind, sound in sounds.items()}
    peak = max(magnitudes[MIXTURE].max(), 1e-8)
    return {kind: 20 * np.log10(np.maximum(m / peak, 1e-8)) for kind, m in magnitudes.items()}


class WorstClips:
    """The clips with the lowest scores of the separator by source, and their spectrograms. Safe in threads.

    At most `_MOST_OF_A_SOURCE` clips of each source are kept, and about `_MOST` of all sources.

    Args:
        metric: the metric that is compared.
        sources: names of the sources, in the order of the S axis.
        folder: folder of the files of single clips, created when needed; None to hold them in memory.
        done: rows of the clips that an interrupted run has finished, by clip; their files are taken over.
    """

    def __init__(
        self,
        metric: str,
        sources: Sequence[str],
        folder: Path | None = None,
        done: Mapping[str, Sequence[Row]] | None = None,
    ) -> None:
        self._metric = metric
        self._sources = list(sources)
        self._most = max(min(_MOST_OF_A_SOURCE, _MOST // len(sources)), 1)
        self._folder = folder
        self._held: dict[str, bytes] = {}
        self._worst: dict[str, list[tuple[float, str]]] = {}
        self._lock = threading.Lock()
        for clip, rows in (done or {}).items():
            if folder is not None and (folder / _file(clip)).is_file():
                self._insert(clip, self._scores(rows))

    def _scores(self, rows: Sequence[Row]) -> dict[str, float]:
        own = [row for row in rows if row["system"] == ESTIMATE and row[self._metric] is not None]
        return {row["source"]: row[self._metric] for row in own}

    def _is_among(self, source: str, entry: tuple[float, str]) -> bool:
        worst = self._worst.get(source, [])
        return len(worst) < self._most or entry < worst[-1]

    def _insert(self, clip: str, scores: Mapping[str, float]) -> None:
        """Rank a clip whose spectrograms are stored, and delete those of clips that are no longer among the worst."""
        before = self._clips()
        for source, value in scores.items():
            self._worst[source] = sorted({*self._worst.get(source, []), (value, clip)})[: self._most]
        for name in (before | {clip}) - self._clips():
            self._held.pop(name, None)
            if self._folder is not None:
                (self._folder / _file(name)).unlink(missing_ok=True)

    def _clips(self) -> set[str]:
        return {clip for worst in self._worst.values() for _, clip in worst}

    def offer(self, rows: Sequence[Row], mixture: Tensor, references: Tensor, estimates: Tensor) -> None:
        """Keep a clip's spectrograms if it is among the worst so far.

        Args:
            rows: the clip's rows.
            mixture: `beginning` of the mixture, (n).
            references: `beginning` of the sources, (S, n).
            estimates: `beginning` of the estimates, (S, n).
        """
        scores, clip = self._scores(rows), rows[0]["clip"]
        with self._lock:
            chosen = [source for source in scores if self._is_among(source, (scores[source], clip))]
        if not chosen:
            return
        images: dict[str, Levels] = {}
        for source in chosen:
            s = self._sources.index(source)
            sounds = {MIXTURE: mixture, "reference": references[s], "estimate": estimates[s]}
            images |= {f"{s}/{kind}": _stored(levels) for kind, levels in levels_db(sounds).items()}
        content = _npz(images)
        with self._lock:
            if self._folder is None:
                self._held[clip] = content
            else:
                write_all(self._folder, {_file(clip): content})
            self._insert(clip, {source: scores[source] for source in chosen})

    def content(self) -> bytes:
        """The content of ``worst.npz``, which `hourglass_sep.results.worst_file` reads; empty if there are no clips.

        Entry ``index`` is JSON as bytes, a list of clip and source of each picture; picture n has an entry ``n/KIND``
        for each of `KINDS`: levels (F, T), uint8, see `STEPS_PER_DB`.
        """
        index: list[list[str]] = []
        images: dict[str, Levels] = {}
        for clip in sorted(self._clips()):
            with np.load(io.BytesIO(self._read(clip)), allow_pickle=False) as stored:
                for s, source in enumerate(self._sources):
                    if any(name == clip for _, name in self._worst.get(source, [])):
                        images |= {f"{len(index)}/{kind}": stored[f"{s}/{kind}"] for kind in KINDS}
                        index.append([clip, source])
        return _npz({"index": np.frombuffer(json.dumps(index).encode(), np.uint8)} | images) if index else b""

    def _read(self, clip: str) -> bytes:
        return self._held[clip] if self._folder is None else (self._folder / _file(clip)).read_bytes()

    def close(self) -> None:
        """Delete the files of single clips."""
        if self._folder is None or not self._folder.is_dir():
            return
        for clip in self._clips():
            (self._folder / _file(clip)).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: a clip was finished twice
            self._folder.rmdir()


def _file(clip: str) -> str:
    return f"{hashlib.sha256(clip.encode(errors='surrogateescape')).hexdigest()[:32]}.npz"


def _stored(levels: NDArray[np.float64]) -> Levels:
    return np.ascontiguousarray(np.clip(-STEPS_PER_DB * levels, 0, 255).round().astype(np.uint8))


def _npz(arrays: dict[str, Levels]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # the names are not those of its options
    return buffer.getvalue()
