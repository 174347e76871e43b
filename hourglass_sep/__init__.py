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

from typing import TYPE_CHECKING, Any

from hourglass_sep.signal.stems import SOURCES

if TYPE_CHECKING:
    from hourglass_sep.inference.separator import Separator

__version__ = "0.1.0"
__all__ = ["SOURCES", "Separator", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch with the first use of `Separator`, so that the command line answers at once."""
    if name == "Separator":
        from hourglass_sep.inference.separator import Separator

        return Separator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
