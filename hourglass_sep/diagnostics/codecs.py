"""Checks of audio formats: output formats are written and read back, input-only formats need a decoder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hourglass_sep.diagnostics.findings import Finding, finding, reason

_NO_SNDFILE = "pip install --force-reinstall soundfile"
_NO_FFMPEG = "pip install --force-reinstall av"

_RATE_HZ = 48_000  # supported by all of these codecs
_SECONDS = 0.5
_PEAK = 0.5
_TONES_HZ = (440, 1000)  # left and right

_READ_ONLY = {"m4a": "aac", "aac": "aac", "wma": "wmav2", "opus": "opus", "webm": "opus", "mp4": "aac"}
"""Suffix to FFmpeg's decoder, for formats that are read and never written."""


def codecs() -> list[Finding]:
    """Check all audio formats.

    Every output format is written to a temporary folder and read back. For input-only formats, only the presence of
    FFmpeg's decoder is checked.
    """
    from hourglass_sep import audio

    found = [finding("ok", "libraries", _libraries())]
    with tempfile.TemporaryDirectory() as name:
        for suffix, form in audio.FORMATS.items():
            found += [_written(Path(name), suffix, depth, subtype) for depth, subtype in form.subtypes.items()]
    return found + [_only_read(suffix, decoder) for suffix, decoder in _READ_ONLY.items()]


def _libraries() -> str:
    import soundfile

    text = f"soundfile {soundfile.__version__} (libsndfile {soundfile.__libsndfile_version__})"
    try:
        import av
    except ImportError:
        return f"{text}, no PyAV"
    return f"{text}, PyAV {av.__version__} (FFmpeg {av.ffmpeg_version_info})"


def _written(folder: Path, suffix: str, depth: str, subtype: str) -> Finding:
    """Write a file of a format and read it back; FFmpeg reads all formats but wav."""
    from hourglass_sep import audio

    what = f"{suffix} {depth}".strip()
    path = folder / f"tones{depth}.{suffix}"
    facts: dict[str, Any] = {"what": what, "suffix": f".{suffix}", "depth": depth or None}
    facts |= {"readable": None, "writable": False, "error": None}
    try:
        with audio.opened([path], _RATE_HZ, len(_TONES_HZ), subtype, suffix) as (append,):
            append(_tones())
        facts |= {"readable": False, "writable": True}
        _listen(path)
    except Exception as error:
        why = facts["error"] = reason(error).replace(f"{folder}{os.sep}", "")
        label = "not read" if facts["writable"] else "not written"
        return finding("failed", label, f"{what}: {why}", remedy=_NO_SNDFILE, **facts)
    return finding("ok", "read, written", what, **facts | {"readable": True})


def _only_read(suffix: str, decoder: str) -> Finding:
    facts: dict[str, Any] = {"what": suffix, "suffix": f".{suffix}", "depth": None, "writable": False}
    try:
        import av

        av.Codec(decoder, "r")
    except Exception as error:
        text = f"{suffix}: {reason(error)}"
        return finding("failed", "not read", text, remedy=_NO_FFMPEG, **facts, readable=False, error=reason(error))
    return finding("ok", "read", suffix, **facts, readable=True, error=None)


def _tones() -> Any:
    """Sine tones of `_TONES_HZ`, one on each channel, (C=2, N)."""
    import torch

    seconds = torch.arange(round(_SECONDS * _RATE_HZ), dtype=torch.float64) / _RATE_HZ
    return torch.stack([_PEAK * torch.sin(2 * torch.pi * hz * seconds) for hz in _TONES_HZ]).float()


def _listen(path: Path) -> None:
    """Read a file back and compare rate, channels, length and levels with `_tones`.

    Raises:
        ValueError: the audio differs.
    """
    import torch

    from hourglass_sep import audio

    waveform, rate = audio.read(path)
    channels, n_samples = waveform.shape
    # Lossy codecs work in blocks and delay the signal: length is compared loosely, and phase and both ends not at all.
    if (rate, channels) != (_RATE_HZ, 2) or not 0.9 < n_samples / rate / _SECONDS < 1.5:
        raise ValueError(f"{n_samples} samples, {channels} channel(s), {rate} Hz are not what was written")
    middle = waveform[:, n_samples // 4 : n_samples * 3 // 4].double()
    seconds = torch.arange(middle.shape[-1]) / rate
    for channel, hz in zip(middle, _TONES_HZ, strict=True):
        peak = 2 * abs(complex((channel * torch.exp(-2j * torch.pi * hz * seconds)).mean()))
        if not abs(peak / _PEAK - 1) < 0.1:
            raise ValueError("what is read is not the sound that was written")
