"""Limits of what separating may cost: combinations of settings that no song is worth are refused."""

from __future__ import annotations

from collections.abc import Mapping

from hourglass_sep.inference.windows import Windows
from hourglass_sep.signal.stft import Spectrogram

_MOST_OVERLAP = 64
"""Frames that hold a sample, windows that hold a frame."""

_MOST_CELLS = 1 << 21
"""Of a spectrum, a second (ours: 16 thousand); 45 seconds of it are in memory at once."""

_MOST_WINDOWS = 200
"""That go through the network, a second (ours: fewer than one)."""

_MOST_ACTIVATIONS = 1 << 28
"""Numbers that a layer makes of one window (the paper's: 8 million)."""


def excess(model: Mapping[str, int], stft: Spectrogram, windows: Windows, segment_seconds: float) -> str:
    """What of a separator would take more memory or time than any song is worth; '' if nothing would.

    Every number of a card may be possible, and all of them together not. Nothing is computed.

    Args:
        model: the network's arguments, see `StackedHourglass.config`.
        stft: the separator's.
        windows: the separator's.
        segment_seconds: the separator's.
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
    if window * stft.n_freq * model["channels"] > _MOST_ACTIVATIONS * model["fold"] ** 2:
        return f"says inference.window_frames={windows.window_frames}, too much for its model and audio.n_freq"
    return ""
