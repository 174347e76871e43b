"""Singing-voice separation with stacked hourglass networks.

Axes, everywhere in this package:

=====  ===================================================
B      batch
S      sources, in the order of `SOURCES`
C      audio channels
F      frequency bins
T      STFT frames (never samples)
N      samples
K      stacks of the network
=====  ===================================================

A waveform is (B, C, N), sources (B, S, C, N), a magnitude (B, C, F, T), masks (K, B, S, F, T). In code F and T
are spelt ``n_freq, n_frames``.
"""

from hourglass_sep.constants import SOURCES

__version__ = "0.1.0"
__all__ = ["SOURCES", "__version__"]
