"""The separator: from a mixture's waveform to one waveform for each source; all separation goes through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hourglass_sep import audio
from hourglass_sep.audio import resample
from hourglass_sep.checkpoints import store
from hourglass_sep.dsp.masks import MASK_RULES, share
from hourglass_sep.dsp.stems import SOURCES, Stems, read_sources
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.dsp.waveforms import alike, checked, checked_rate
from hourglass_sep.inference.bands import Bands, refuse_not_finite, with_rounding_returned
from hourglass_sep.inference.callables import check_callable
from hourglass_sep.inference.choices import HIGH_BANDS
from hourglass_sep.inference.loading import describe, load_parts
from hourglass_sep.inference.progress import Progress, Ticker
from hourglass_sep.inference.reconstruct import MixturePhase, Reconstruction
from hourglass_sep.inference.refinement.refine import NoRefinement, Refinement, by_channel
from hourglass_sep.inference.segments import SEGMENT_SECONDS, process_in_segments
from hourglass_sep.inference.windows import Windows
from hourglass_sep.networks.base import evaluating
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.errors import SettingError


class Separator(nn.Module):
    """Mixture waveform to source waveforms, at any sample rate and with any number of channels.

    The network's input is the magnitude of the song at the STFT's sample rate, mono or of two channels. Its masks
    multiply the spectrum of each channel at that rate; higher frequencies (the high band) are distributed by the masks'
    mean over frequency.

    Args:
        network: magnitudes to masks, see `hourglass_sep.networks.base.MaskNetwork`; the last stack's are used.
        spectrogram: the STFT, which also says the channels of the network's input.
        window_frames: T of the network's input, see `hourglass_sep.inference.windows.Windows`.
        context_frames: overlap of the windows in frames, see `Windows`.
        fade_frames: cross-fade of the windows in frames, see `Windows`.
        scale: input scale, ``window`` or ``clip``, see `hourglass_sep.dsp.scale.SCALES`.
        masks: ``raw`` or ``sum_to_one``, see `hourglass_sep.dsp.masks.share`.
        high_band: shares of the frequencies above the network's: ``average``, the mean of each frame's masks; ``hold``,
            the mean of their highest 64 bins; ``zero`` leaves these frequencies out of all stems.
        refine: refinement of masks given the magnitude, see `Refinement`.
        reconstruct: waveforms from masks and the mixture's spectrum, see `Reconstruction`.
        batch_windows: windows in a batch of the network; by default 2 on a CPU, for its caches, and 32 on a GPU.
        segment_seconds: length of the segments that are in memory at once.
        sources: names of the sources, in the order of the masks' S axis.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        spectrogram: Spectrogram,
        window_frames: int | None = 64,
        context_frames: int = 8,
        fade_frames: int = 0,
        scale: str = "window",
        masks: str = "sum_to_one",
        high_band: str = "average",
        refine: Refinement | None = None,
        reconstruct: Reconstruction | None = None,
        batch_windows: int | None = None,
        segment_seconds: float = SEGMENT_SECONDS,
        sources: Sequence[str] = SOURCES,
    ) -> None:
        super().__init__()
        named = read_sources([*sources] if isinstance(sources, Sequence) and not isinstance(sources, str) else sources)
        check_choice("inference.masks", masks, MASK_RULES)
        check_choice("inference.high_band", high_band, HIGH_BANDS)
        if batch_windows is not None:
            check_whole("inference.batch_windows", batch_windows)
        if not segment_seconds > 0:
            raise SettingError(f"segment_seconds={segment_seconds!r} is not allowed: give a number above 0")
        for name, part in (("refine", refine), ("reconstruct", reconstruct)):
            if part is not None:
                check_callable(name, part)
        self.sources = tuple(named)
        self.network = network
        self.spectrogram = spectrogram
        self.windows = Windows(window_frames, context_frames, fade_frames, scale)
        self.mask_rule = masks
        self.high_band = high_band
        for_sources = getattr(refine, "for_sources", None)
        self.refine = for_sources(self.sources) if for_sources else refine or NoRefinement()
        self.reconstruct = reconstruct or MixturePhase()
        self.batch_windows = batch_windows
        self.segment_seconds = segment_seconds
        self.origin = ""
        """File of the weights; empty if they come from none."""
        self.facts: dict[str, Any] = {}
        """Facts about the weights for their card, in plain types: data and licence, recipe, scores."""

    @property
    def settings(self) -> dict[str, Any]:
        """Inference settings that are stored with the weights, in plain types."""
        return asdict(self.windows) | {"masks": self.mask_rule, "high_band": self.high_band}

    @property
    def description(self) -> dict[str, Any]:
        """Network, sources, STFT, settings and facts, in plain types: all but the weights."""
        return describe(self.network, self.spectrogram, self.sources, self.settings) | {"facts": self.facts}

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    @classmethod
    def from_pretrained(cls, name: str = "default", **changes: Any) -> Separator:
        """The weights that ship with the package, ready to separate.

        Args:
            name: ``default``, or ``large``: higher scores, 3.3 times the time.
            changes: arguments of `Separator` that replace the stored settings, ``refine`` and ``reconstruct``.

        Raises:
            CheckpointError: no weights of that name.
        """
        return cls.from_checkpoint(store.shipped_path(name), **changes)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, trust: Collection[str] = (), network: nn.Module | None = None, **changes: Any
    ) -> Separator:
        """The network of a checkpoint (.ckpt of a training run, or .safetensors with its .json card).

        Args:
            path: file of the checkpoint.
            trust: names of packages whose network classes may be imported to rebuild the network; this package's own
                classes need no trust.
            network: a network to load the weights into, in place of the one that the file describes.
            changes: as in `from_pretrained`.

        Raises:
            CheckpointError: the file is missing, not one of this package's, or of a network of a package that is not in
                ``trust``.
        """
        network, stft, settings, facts = load_parts(path, trust, network)
        with store.described_by(Path(path)):
            cls(network, stft, **settings)
        separator = cls(network, stft, **settings | changes).eval()
        separator.origin = str(path)
        separator.facts = facts
        return separator

    def save_weights(self, path: str | Path, facts: dict[str, Any]) -> None:
        """Write the network, in half precision, and its card.

        Args:
            path: NAME.safetensors; the card is NAME.json.
            facts: further facts for the card: recipe, steps, commit, scores.
        """
        store.save(path, self.description | {"facts": self.facts | facts}, self.network.state_dict())

    @classmethod
    def load(cls, name_or_path: str | Path, **changes: Any) -> Separator:
        """`from_checkpoint` for a path (it has a dot or a slash), `from_pretrained` for a name, with its arguments."""
        return cls.from_checkpoint(store.located(name_or_path), **changes)

    def separate(
        self,
        song: str | Path | Tensor | np.ndarray,
        sample_rate_hz: int | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Stems:
        """Separate a song.

        Args:
            song: a waveform (N), (C, N) or (B, C, N), full scale at +-1; or the path of a sound file.
            sample_rate_hz: a waveform's sample rate; the stems have the same.
            progress: callback, called after every few windows and with a fraction of 1 at the end.

        Returns:
            A waveform of the song's shape and kind (tensor or array) for each name in `sources`; of a file, tensors
            (C, N).

        Raises:
            ValueError: another shape, no samples, values that are not finite, or no rate that is possible.
            NotFiniteError: the weights overflow; also a ValueError.
            AudioError: a file that cannot be read.
        """
        if isinstance(song, str | Path):
            if sample_rate_hz is not None:
                raise ValueError(f"sample_rate_hz={sample_rate_hz!r} is not allowed: {song} has its own")
            song, sample_rate_hz = audio.read(song)
        as_array = isinstance(song, np.ndarray)
        rate = checked_rate(sample_rate_hz)
        waveform = checked(song)
        if 0 in waveform.shape:
            raise ValueError(f"waveform has shape {tuple(waveform.shape)}: there is nothing to separate")
        ticker = Ticker(progress, waveform.shape[-1] / rate)
        parts = [part for _, part in self.pairs([waveform], rate, ticker)]
        whole = torch.cat(parts, -1)  # (S, ...)
        refuse_not_finite(whole, self.origin)
        stems = {name: whole[s].numpy() if as_array else whole[s] for s, name in enumerate(self.sources)}
        return Stems(stems, rate)

    def stream(self, blocks: Iterable[Tensor | np.ndarray], sample_rate_hz: int) -> Iterator[dict[str, Tensor]]:
        """Separate a song that arrives block by block, in memory that does not grow with it.

        Args:
            blocks: consecutive waveforms (N), (C, N) or (B, C, N) that differ in N only.
            sample_rate_hz: sample rate of the blocks.

        Yields:
            Consecutive parts of what `separate` would return, about `SEGMENT_SECONDS` each.

        Raises:
            ValueError: as `separate`.
        """
        if isinstance(blocks, Tensor | np.ndarray | str | Path):
            raise ValueError("blocks is no series of blocks: give a generator or a list, [waveform] for one")
        for _, part in self.pairs(blocks, sample_rate_hz):
            refuse_not_finite(part, self.origin)
            yield dict(zip(self.sources, part, strict=True))
            del part

    def pairs(
        self, blocks: Iterable[Tensor | np.ndarray], sample_rate_hz: int, ticker: Ticker | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `stream`, but yields pairs: a part of the mixture (..., n), and of the sources (S, ..., n)."""
        rate = checked_rate(sample_rate_hz)
        ticker = ticker or Ticker()

        def process(segment: Tensor, first_frame: int) -> Tensor:
            batched = segment.reshape(-1, *segment.shape[-2:]) if segment.dim() > 1 else segment[None, None]
            with evaluating(self.network):
                sources = self._separate_segment(batched, rate, first_frame, ticker)  # (B, S, C, n)
            return sources.movedim(1, 0).reshape(-1, *segment.shape)

        waveforms = alike(blocks)
        first = next(waveforms, torch.zeros(0))
        layout = self.windows.layout(self.spectrogram, rate, math.prod(first.shape[:-1]), self.segment_seconds)
        waveforms = chain([first], waveforms)
        del first
        for mixture, sources in process_in_segments(process, waveforms, layout):
            ticker.add(mixture.shape[-1] / rate)
            yield mixture, sources
            del mixture, sources  # frees them before the next segment is computed

    def forward(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Waveform (B, C, N) to sources (B, S, C, N) on the waveform's device; training wants the network alone."""
        parts = [sources for _, sources in self.pairs([waveform], sample_rate_hz)]
        return torch.cat(parts, -1).movedim(0, 1)

    def _separate_segment(self, waveform: Tensor, sample_rate_hz: int, first_frame: int, ticker: Ticker) -> Tensor:
        """Waveform (B, C, N) to sources (B, S, C, N), all of it in memory."""
        bands = Bands(waveform, sample_rate_hz, self.spectrogram)
        masks = self.estimate_masks(self.spectrogram.view(bands.spectrum), first_frame, ticker)
        return with_rounding_returned(bands.rebuild(masks, self.reconstruct, self.high_band), waveform)

    def magnitude(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """The network's input for a waveform (B, C, N): a magnitude (B, 1|2, F, T), not scaled."""
        stft = self.spectrogram
        return stft.view(stft(resample(stft.encode(waveform), sample_rate_hz, stft.sample_rate_hz)))

    def estimate_masks(self, magnitude: Tensor, first_frame: int = 0, ticker: Ticker | None = None) -> Tensor:
        """Masks (B, S, 1|C, F, T) for a mixture's magnitude (B, C, F, T), refined and shared out."""
        return self.finished(self.stack_masks(magnitude, slice(-1, None), first_frame, ticker)[0], magnitude)

    def finished(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Masks (B, S, 1|C, F, T) of a stack, refined given the magnitude (B, C, F, T), and shared out."""
        return share(by_channel(self.refine, masks, magnitude), self.mask_rule)

    def stack_masks(
        self,
        magnitude: Tensor,
        stacks: slice = slice(None),
        first_frame: int = 0,
        ticker: Ticker | None = None,
    ) -> Tensor:
        """Masks (K, B, S, 1|C, F, T) of the given stacks for a magnitude (B, C, F, T), clamped at 0.

        Args:
            magnitude: the mixture's, (B, C, F, T).
            stacks: slice of the K stacks.
            first_frame: number of the magnitude's first frame in the song; windows begin at multiples of their hop.
            ticker: progress counter.
        """
        seconds = magnitude.shape[-1] * self.spectrogram.hop_length / self.spectrogram.sample_rate_hz
        ticker = ticker or Ticker()
        batch_windows = self.batch_windows or (2 if self.device.type == "cpu" else 32)
        sizes = len(self.sources), batch_windows
        return self.windows.masks(
            self.network, magnitude, *sizes, lambda done: ticker.within(done * seconds), stacks, first_frame
        )

    @torch.no_grad()
    def render(
        self, waveform: Tensor, sample_rate_hz: int, masks: Tensor, reconstruct: Reconstruction | None = None
    ) -> Tensor:
        """Apply masks to a mixture: reconstruction below, shares of the high band above.

        Args:
            waveform: the mixture (B, C, N).
            sample_rate_hz: sample rate of the mixture.
            masks: estimated or oracle masks (B, S, 1|C, F, T), shared out.
            reconstruct: reconstruction to use in place of the separator's.

        Returns:
            (B, S, C, N) on the waveform's device.
        """
        bands = Bands(waveform, sample_rate_hz, self.spectrogram)
        return bands.rebuild(masks, reconstruct or self.reconstruct, self.high_band)
