"""Clips of MIR-1K's layout, and of stems of noise."""

from pathlib import Path

import torch

from hourglass_sep import audio
from hourglass_sep.data.clips import Clip, Part


def mir1k_clips(root: Path) -> list[Clip]:
    """The clips of a folder of MIR-1K, by name."""
    return [
        Clip(
            path.stem,
            path.stem.split("_")[0],
            {"accompaniment": [Part(path, channel=0)], "vocals": [Part(path, channel=1)]},
        )
        for path in sorted((root / "Wavfile").glob("*.wav"))
    ]


def clip_of(
    folder: Path, sources: dict[str, torch.Tensor], rate: int, group: str = "", mixture: torch.Tensor | None = None
) -> Clip:
    """A clip whose stems (C, N), and mixture, are written as ``folder/SOURCE.wav``; its name is the folder's."""
    waveforms = sources if mixture is None else sources | {"mixture": mixture}
    for name, waveform in waveforms.items():
        audio.write(folder / f"{name}.wav", waveform, rate, subtype="FLOAT")
    stems = {name: [Part(folder / f"{name}.wav")] for name in sources}
    return Clip(folder.name, group, stems, None if mixture is None else Part(folder / "mixture.wav"))
