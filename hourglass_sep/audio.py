"""Sound files and sample rates: the only module that opens audio.

Waveforms are float32 tensors of shape (C, N) here, full scale at +-1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from hourglass_sep.errors import AudioError


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole sound file (wav, flac, ogg, mp3).

    Returns:
        The waveform (C, N), float32, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, truncated, no audio, or holds values that are not finite.
    """
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path} is a folder, not a sound file: name a file in it")
    if not path.exists():
        raise AudioError(f"{path} does not exist: check the name")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is an empty file (0 bytes): fetch or export it again")
    _refuse_truncated_wav(path)
    try:
        samples, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(f"{path} cannot be read as audio ({reason}): use wav, flac, ogg or mp3") from error
    if samples.shape[0] == 0:
        raise AudioError(f"{path} holds no samples: fetch or export it again")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds NaN or infinite samples: export it again")
    return torch.from_numpy(samples.T.copy()), int(sample_rate_hz)


def _refuse_truncated_wav(path: Path) -> None:
    """Raise for a RIFF file that is shorter than its header says: libsndfile reads those without a word."""
    with path.open("rb") as file:
        header = file.read(12)
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return
    declared, found = int.from_bytes(header[4:8], "little") + 8, path.stat().st_size
    streamed = declared - 8 in (0, 0xFFFFFFFF)  # written to a pipe: the length was not known
    if not streamed and declared - found > 1:
        raise AudioError(f"{path} is truncated ({found} bytes, its header says {declared}): fetch or export it again")


def resample(waveform: Tensor, from_hz: int, to_hz: int, n_samples: int | None = None) -> Tensor:
    """Resample along the last axis with soxr, in high quality and without delay.

    Args:
        waveform: (..., N), any device; the work is done on the CPU.
        from_hz: its sample rate.
        to_hz: the wanted sample rate.
        n_samples: the wanted length; ceil(N * to_hz / from_hz) if not given.

    Returns:
        (..., n_samples), float32.
    """
    if n_samples is None:
        n_samples = -(-waveform.shape[-1] * to_hz // from_hz)
    if from_hz == to_hz and n_samples == waveform.shape[-1]:
        return waveform
    flat = waveform.detach().to("cpu", torch.float32).reshape(-1, waveform.shape[-1]).numpy()
    out = soxr.resample(flat.T, from_hz, to_hz, quality="HQ").T[:, :n_samples]
    out = np.pad(out, ((0, 0), (0, n_samples - out.shape[-1])))
    return torch.from_numpy(np.ascontiguousarray(out)).reshape(*waveform.shape[:-1], -1).to(waveform.device)


@contextmanager
def opened(path: str | Path, sample_rate_hz: int, channels: int, subtype: str = "PCM_16") -> Iterator[Writer]:
    """Open a WAV file for writing before there is anything to write, so that a bad folder is found at once.

    The samples go to ``NAME.wav.part``; the name proper appears when the block ends without an error.

    Args:
        path: the file to write; its folder is made if need be.
        sample_rate_hz: its sample rate.
        channels: C.
        subtype: libsndfile's name of the sample format: PCM_16, PCM_24, FLOAT.

    Raises:
        AudioError: the folder or the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = soundfile.SoundFile(part, "w", sample_rate_hz, channels, subtype, format="WAV")
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path.parent} cannot be written to: choose another folder with -o") from error
    try:
        with file:
            yield Writer(file)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Writer:
    """Appends waveforms (C, N) to an open sound file."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file

    def __call__(self, waveform: Tensor) -> int:
        """Append (C, N); return how many samples of an integer format had to be clipped."""
        samples = waveform.detach().to("cpu", torch.float32).T.contiguous().numpy()
        self._file.write(samples)
        return int((np.abs(samples) > 1.0).sum()) if self._file.subtype.startswith("PCM") else 0


def write(path: str | Path, waveform: Tensor, sample_rate_hz: int, subtype: str = "PCM_16") -> int:
    """Write (C, N) as WAV; return how many samples were clipped. See `opened`."""
    with opened(path, sample_rate_hz, waveform.shape[0], subtype) as append:
        return append(waveform)
