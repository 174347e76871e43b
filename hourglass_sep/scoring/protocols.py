"""Scoring protocols: the exact definition of scores in a table. Each protocol has a file in conf/protocol.

A protocol defines the sample rate of the comparison, the mixture, the metrics and the average over clips. Its hash
covers all of these: scores are comparable if their hashes are equal.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from itertools import chain, islice
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import Tensor

from hourglass_sep.audio import resample
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.scoring import metrics
from hourglass_sep.scoring.averages import AVERAGES
from hourglass_sep.scoring.bsseval.bss_eval import BssEval, BssEvalImages, BssScores
from hourglass_sep.scoring.bsseval.signals import as_channels
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError, UserError
from hourglass_sep.support.paths import CONFIG_DIR

SCORER_VERSION = 1
"""Part of every hash; raise it when a change of the code changes scores."""

_MOST_TAPS = 4096

_MOST_PERMUTED = 8
"""Number of sources up to which all orders are tried: 8 have 40 320."""

_MOST_VALUES = 2**24
"""Values of the estimates of several systems that are compared at once: faster for clips, too much memory for songs."""

CHANNELS = ("mono",)
"""Values of ``channels``, besides None: ``mono`` compares the means of the channels."""

MIXTURES: dict[str, Callable[[Tensor], Tensor]] = {"sum": lambda x: x.sum(0), "mean": lambda x: x.mean(0)}
"""Functions by name that compute the mixture (C, N) from references (S, C, N)."""

Scores = dict[str, Tensor]
"""Scores (S,) in dB by metric name; NaN for no score."""


class ScoringProtocol(ABC):
    """Base class of all protocols.

    Args:
        name: name of the protocol and of its config file.
        description: description for reports.
        sample_rate_hz: sample rate in Hz to which references and estimates are resampled; None keeps the references'.
        mixture: rule for the input of separators, a name from `MIXTURES`.
        average: average over clips, a name from `hourglass_sep.scoring.averages.AVERAGES`.
        channels: ``mono`` compares the means of the channels; None, all channels.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """

    metrics: tuple[str, ...]
    """Names of the metrics in a row."""

    headline: Mapping[str, str]
    """Labels of the averages by metric, for the metrics that tables show."""

    def __init__(
        self,
        name: str,
        description: str,
        sample_rate_hz: int | None,
        mixture: str,
        average: str,
        channels: str | None = None,
    ) -> None:
        if sample_rate_hz is not None:
            check_whole("protocol.sample_rate_hz", sample_rate_hz)
        check_choice("protocol.mixture", mixture, list(MIXTURES))
        check_choice("protocol.average", average, list(AVERAGES))
        if channels is not None:
            check_choice("protocol.channels", channels, CHANNELS)
        self.name = name
        self.description = " ".join(description.split())
        self.sample_rate_hz = sample_rate_hz
        self.mixture_rule = mixture
        self.average = average
        self.channels = channels

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that scores depend on, in plain types."""
        return {
            "metric": type(self).__name__,
            "sample_rate_hz": self.sample_rate_hz,
            "mixture": self.mixture_rule,
            "average": self.average,
        } | ({"channels": self.channels} if self.channels else {})  # hashes of protocols without it stay as they were

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits that identify the settings and the scorer's version."""
        content = json.dumps(self.settings | {"scorer": SCORER_VERSION}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def describe(self) -> dict[str, Any]:
        """Description of the protocol to store with scores, in plain types."""
        return {
            "name": self.name,
            "hash": self.hash,
            "description": self.description,
            "settings": self.settings,
            "metrics": list(self.metrics),
            "headline": dict(self.headline),
            "average": self.average,
        }

    def mixture(self, references: Tensor) -> Tensor:
        """Compute the mixture (C, N), the input of separators, from references (S, C, N)."""
        return MIXTURES[self.mixture_rule](references)

    @torch.inference_mode()
    def score(
        self,
        references: Tensor,
        systems: Mapping[str, Tensor],
        sample_rate_hz: int,
        mixture: Tensor | None = None,
    ) -> dict[str, Scores]:
        """Score estimates and the unprocessed mixture.

        Args:
            references: (S, C, N).
            systems: estimates (S, C, N), or (S, N), by system name, at the references' sample rate. Each is looked up
                once, in order, and released before the next if they are long: a mapping can compute them when asked.
            sample_rate_hz: sample rate of the references in Hz.
            mixture: the unprocessed mixture (C, N); by default made from the references, see `mixture`.

        Returns:
            Scores by system name; the first is `MIXTURE`.

        Raises:
            ValueError: a system is named `MIXTURE`.
        """
        if MIXTURE in systems:
            raise ValueError(f"a system is called {MIXTURE!r}, which the unprocessed mixture is: allowed: other names")
        rate = self.sample_rate_hz or sample_rate_hz
        mixture = self.mixture(references) if mixture is None else mixture
        device = references.device

        def view(waveforms: Tensor) -> Tensor:
            waveforms = waveforms.mean(-2, keepdim=True) if self.channels == "mono" else waveforms
            return resample(waveforms, sample_rate_hz, rate).to(device)

        def signals() -> Iterator[Tensor]:
            yield view(mixture[None]).expand_as(references)
            for name in systems:
                yield view(as_channels(systems[name]))

        references = view(references)
        scores = dict(zip([MIXTURE, *systems], self._score(references, signals(), rate), strict=True))
        return {name: self._compare(of, scores[MIXTURE]) for name, of in scores.items()}

    @abstractmethod
    def _score(self, references: Tensor, systems: Iterator[Tensor], sample_rate_hz: int) -> list[Scores]:
        """Score each system separately; the first one is the mixture. All waveforms are (S, C, N)."""

    def _compare(self, scores: Scores, mixture: Scores) -> Scores:
        """Add the metrics that are relative to the mixture's scores; the base class adds none."""
        return scores


class BssEvalV3(ScoringProtocol):
    """BSS Eval v3 "sources" over whole clips: SDR, SIR, SAR, and NSDR, the improvement of SDR over the mixture.

    Tables show GNSDR, GSIR and GSAR, as the literature on MIR-1K; with medians, SDR, NSDR, SIR and SAR.

    Args:
        filter_length: taps of the allowed distortion filters.
        permute: whether estimates are first put in the order of the highest mean SIR.
        common: arguments of `ScoringProtocol`.
    """

    metrics = ("sdr", "nsdr", "sir", "sar")
    headline: Mapping[str, str] = {"nsdr": "GNSDR", "sir": "GSIR", "sar": "GSAR"}

    def __init__(self, filter_length: int, permute: bool, **common: Any) -> None:
        super().__init__(**common)
        if self.average == "median":
            self.headline = {"sdr": "SDR", "nsdr": "NSDR", "sir": "SIR", "sar": "SAR"}
        _check_taps(filter_length)
        if not isinstance(permute, bool):
            raise SettingError(f"protocol.permute={permute!r} is not allowed: give true or false")
        self.filter_length = filter_length
        self.permute = permute

    @property
    def settings(self) -> dict[str, Any]:
        """As in `ScoringProtocol`."""
        return super().settings | {"filter_length": self.filter_length, "permute": self.permute}

    def _score(self, references: Tensor, systems: Iterator[Tensor], sample_rate_hz: int) -> list[Scores]:
        n_sources = len(references)
        if self.permute and n_sources > _MOST_PERMUTED:
            raise SettingError(
                f"protocol.permute=true is not allowed for {n_sources} sources, at most for {_MOST_PERMUTED}: choose a "
                "protocol that keeps their order"
            )
        evaluate = BssEval(references, self.filter_length)
        pick = metrics.permuted if self.permute else metrics.in_order
        signals = chain([next(systems)[:1]], systems)  # the mixture is one estimate of all sources
        found: list[BssScores] = []
        while batch := list(islice(signals, max(_MOST_VALUES // references.numel(), 1))):
            sizes = [len(signal) for signal in batch]
            own = torch.eye(n_sources, dtype=torch.bool) | self.permute
            wanted = torch.cat([own if size == n_sources else torch.ones(n_sources, 1) > 0 for size in sizes], 1)
            pairs = evaluate.pairs(batch[0] if len(batch) == 1 else torch.cat(batch), wanted)
            del batch  # before the next ones are computed
            for scores in zip(*(values.split(sizes, 1) for values in pairs), strict=True):
                found.append(pick(BssScores(*(values.expand(-1, n_sources) for values in scores))))
        return [scores._asdict() for scores in found]

    def _compare(self, scores: Scores, mixture: Scores) -> Scores:
        return scores | {"nsdr": metrics.nsdr(scores["sdr"], mixture["sdr"])}


class BssEvalV4(ScoringProtocol):
    """BSS Eval v4 "images" as in museval: medians over windows of SDR, ISR, SIR and SAR.

    Args:
        filter_length: taps of the allowed distortion filters.
        window_seconds: window length in s.
        hop_seconds: distance between window starts in s.
        common: arguments of `ScoringProtocol`.
    """

    metrics = ("sdr", "isr", "sir", "sar")
    headline: Mapping[str, str] = {"sdr": "SDR", "isr": "ISR", "sir": "SIR", "sar": "SAR"}

    def __init__(self, filter_length: int, window_seconds: float, hop_seconds: float, **common: Any) -> None:
        super().__init__(**common)
        _check_taps(filter_length)
        for key, value in (("window_seconds", window_seconds), ("hop_seconds", hop_seconds)):
            if not isinstance(value, (int, float)) or not value > 0:
                raise SettingError(f"protocol.{key}={value!r} is not allowed: give a number of seconds above 0")
        self.filter_length = filter_length
        self.window_seconds = float(window_seconds)
        self.hop_seconds = float(hop_seconds)

    @property
    def settings(self) -> dict[str, Any]:
        """As in `ScoringProtocol`."""
        own = {name: getattr(self, name) for name in ("filter_length", "window_seconds", "hop_seconds")}
        return super().settings | own

    def _score(self, references: Tensor, systems: Iterator[Tensor], sample_rate_hz: int) -> list[Scores]:
        window, hop = (max(int(s * sample_rate_hz), 1) for s in (self.window_seconds, self.hop_seconds))
        evaluate = BssEvalImages(references, self.filter_length, window, hop)

        def score(estimates: Tensor) -> Scores:
            return {name: metrics.median(values) for name, values in evaluate(estimates)._asdict().items()}

        return list(map(score, systems))


class SiSdr(ScoringProtocol):
    """Scale-invariant SDR over whole clips, and SI-SDRi, its improvement over the mixture."""

    metrics = ("si_sdr", "si_sdri")
    headline: Mapping[str, str] = {"si_sdr": "SI-SDR", "si_sdri": "SI-SDRi"}

    def _score(self, references: Tensor, systems: Iterator[Tensor], sample_rate_hz: int) -> list[Scores]:
        def score(estimates: Tensor) -> Scores:
            return {"si_sdr": metrics.si_sdr(references, estimates)}

        return list(map(score, systems))

    def _compare(self, scores: Scores, mixture: Scores) -> Scores:
        return scores | {"si_sdri": metrics.nsdr(scores["si_sdr"], mixture["si_sdr"])}


def _check_taps(filter_length: int) -> None:
    check_whole("protocol.filter_length", filter_length)
    if filter_length > _MOST_TAPS:
        raise SettingError(f"protocol.filter_length={filter_length} is not allowed: at most {_MOST_TAPS}")


def load_protocol(name: str) -> ScoringProtocol:
    """Load the protocol of conf/protocol/NAME.yaml, for commands that Hydra does not configure.

    Raises:
        UserError: there is no protocol of that name.
    """
    names = sorted(path.stem for path in (CONFIG_DIR / "protocol").glob("*.yaml"))
    if name not in names:
        raise UserError(f"protocol {name!r} is not known: choose from {', '.join(names)}")
    started = GlobalHydra.instance().is_initialized()  # Hydra-configured commands have initialised it with this folder
    with nullcontext() if started else initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return instantiate(compose("evaluate", overrides=[f"protocol={name}"]).protocol)
