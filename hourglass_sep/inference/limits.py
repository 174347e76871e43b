"""Limits of memory and time for separators from files: excessive combinations of settings are refused."""

from __future__ import annotations

from collections.abc import Mapping

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.windows import Windows

_MOST_OVERLAP = 64
"""Most frames that contain one sample, and windows that contain one frame."""

_MOST_CELLS = 1 << 21
"""Most STFT cells a second (ours: 16 thousand); 45 seconds are in memory at once."""

_MOST_WINDOWS = 200
"""Most windows of the network a second (ours: less than one)."""

_MOST_ACTIVATIONS = 1 << 28
"""Most activations of a layer for one window (Park et al.: 8 million)."""


def excess(model: Mapping[str, int], stft: Spectrogram, windows: Windows, segment_seconds: float) -> str:
    """The first setting of a separator that exceeds a limit, in words; '' if none does.

    Each number of a card may be valid while their combination is not. Nothing is computed.

    Args:
        model: arguments of the network, see `StackedHourglass.config`; empty for another package's, which was trusted.
        stft: STFT of the separator.
        windows: windows of the separator.
        segment_seconds: length of its segments.

    Returns:
        A clause for an error message.
    """
    if stft.n_fft > stft.hop_length * _MOST_OVERLAP:
        least = stft.n_fft // _MOST_OVERLAP
        return f"says audio.hop_length={stft.hop_length}, at least {least} can be with audio.n_fft={stft.n_fft}"
    frames_a_second = stft.sample_rate_hz / stft.hop_length
    if frames_a_second * stft.n_fft / 2 > _MOST_CELLS:
        return (
            f"says audio.hop_length={stft.hop_length}, too little with audio.n_fft={stft.n_fft} at "
            f"{stft.sample_rate_hz} Hz"
        )
    window = windows.window_frames or round(frames_a_second * segment_seconds)
    if windows.window_frames is not None:
        middle = window - 2 * windows.context_frames
        if window > middle * _MOST_OVERLAP or frames_a_second > middle * _MOST_WINDOWS:
            return f"says inference.context_frames={windows.context_frames}, which leaves {middle} of {window} frames"
    if model:
        cells = window * stft.n_freq / model["fold"] ** 2
        masks = model["sources"] * model["audio_channels"] * model["fold"] ** 2
        if cells * max(model["channels"], masks) > _MOST_ACTIVATIONS:
            return f"says inference.window_frames={windows.window_frames}, too much for its network and audio.n_freq"
    return ""
