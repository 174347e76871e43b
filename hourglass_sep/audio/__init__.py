"""Reading and writing sound files, and resampling; no other package opens audio files.

Waveforms are float32 tensors of shape (C, N): channels, samples; full scale is +-1.
"""

from hourglass_sep.audio.decode import info, open_audio, read
from hourglass_sep.audio.decoder import Decoder, Info
from hourglass_sep.audio.encode import FORMATS, Writer, choose_subtype, opened, write
from hourglass_sep.audio.rates import Resampler, resample, samples_of
from hourglass_sep.audio.suffixes import SUFFIXES

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Decoder",
    "Info",
    "Resampler",
    "Writer",
    "choose_subtype",
    "info",
    "open_audio",
    "opened",
    "read",
    "resample",
    "samples_of",
    "write",
]
