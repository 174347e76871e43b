"""Clips of noise in folders of stems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch

from hourglass_sep.data.clips import Clip, Part


def noise(*shape: int, seed: int = 0, peak: float = 0.5) -> torch.Tensor:
    """Uniform noise in steps of 16 bit, so that wav files keep it exactly."""
    steps = np.rint(np.random.default_rng(seed).uniform(-peak, peak, shape) * 2**15)
    return torch.from_numpy(steps.clip(-(2**15), 2**15 - 1) / 2**15).float()


def write_clip(
    root: Path,
    name: str,
    stems: Mapping[str, torch.Tensor],
    rate: int = 8000,
    mixture: torch.Tensor | None = None,
    subtype: str = "PCM_16",
) -> Clip:
    """Write stems (C, N), and the mixture, as ``root/name/STEM.wav``; stems without channels have no file."""
    (root / name).mkdir(parents=True, exist_ok=True)
    parts: dict[str, tuple[Part, ...]] = {}
    for stem, waveform in stems.items():
        path = root / name / f"{stem}.wav"
        parts[stem] = (Part(path),) if len(waveform) else ()
        if len(waveform):
            _write(path, waveform, rate, subtype)
    if mixture is None:
        return Clip(name, name, parts)
    _write(root / name / "mixture.wav", mixture, rate, subtype)
    return Clip(name, name, parts, Part(root / name / "mixture.wav"))


def _write(path: Path, waveform: torch.Tensor, rate: int, subtype: str) -> None:
    # libsndfile would multiply by 32767, but divides by 32768 when it reads
    steps = (waveform * 2**15).short() if subtype == "PCM_16" else waveform
    soundfile.write(path, steps.T.numpy(), rate, subtype)
