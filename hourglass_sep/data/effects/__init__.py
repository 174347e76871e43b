"""Effects: random changes of single sources before they are mixed, each a config of the group `effect`."""

from hourglass_sep.data.effects.compressor import Compressor
from hourglass_sep.data.effects.eq import EQ
from hourglass_sep.data.effects.level import Level, Polarity
from hourglass_sep.data.effects.per_source import Effect, PerSource, apply_effects, check_effects
from hourglass_sep.data.effects.reverb import Reverb
from hourglass_sep.data.effects.stereo import ChannelSwap, Pan, Width

__all__ = [
    "EQ",
    "ChannelSwap",
    "Compressor",
    "Effect",
    "Level",
    "Pan",
    "PerSource",
    "Polarity",
    "Reverb",
    "Width",
    "apply_effects",
    "check_effects",
]
