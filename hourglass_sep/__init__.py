"""Singing-voice separation with stacked hourglass networks.

The names in ``__all__`` are the public interface; everything else may move between versions. They are imported on first
use: importing the package takes no time.

| name               | purpose |
|--------------------|---|
| `Separator`        | mixture waveform to source waveforms: ``Separator.from_pretrained().separate(...)`` |
| `Stems`            | its result: waveforms by source name, with their sample rate |
| `SOURCES`          | the default sources; a separator's own are `Separator.sources` |
| `separate_file`    | a sound file to files of stems |
| `StackedHourglass` | the network (Park et al., ISMIR 2018) |
| `MaskNetwork`      | protocol of networks |
| `Spectrogram`      | the STFT |
| `Refinement`       | protocol of mask refinements; `NmfRefinement` |
| `Reconstruction`   | protocol of reconstructions; `MixturePhase`, `Wiener`, `Misi` |
| `Augmentation`     | protocol of training augmentations; `Remix` |
| `Catalogue`        | protocol of data sets, made of `Clip`, `Part`, `Split`; `Mir1k`, `StemFolders`, `Musdb18` |
| `Mixed`            | several data sets at once; `Dsd100`, `Synthetic4` are two more |
| `SeparationDataModule` | the LightningDataModule of any data set; `Mir1kDataModule` |
| `SeparationSystem` | the LightningModule; losses `masked_l1`, `masked_snr` |
| `bss_eval_sources` | BSS Eval v3; `si_sdr`, `nsdr` |
| `load_protocol`    | a scoring protocol by name |
| `make_report`      | score files to tables and figures |
| `UserError`        | base of all errors that a user can fix |

Axes, everywhere in this package:

| axis | meaning |
|------|---|
| B    | batch |
| S    | sources, in the order of `Separator.sources` |
| C    | audio channels |
| F    | frequency bins |
| T    | STFT frames (never samples) |
| N    | samples |
| K    | stacks of the network |

A waveform is (B, C, N), sources (B, S, C, N), a magnitude (B, C, F, T), masks (K, B, S, C, F, T),
where C is 1 for one mask for all channels. In code F and T are spelt ``n_freq, n_frames``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hourglass_sep.dsp.stems import SOURCES, Stems
from hourglass_sep.support.errors import UserError

if TYPE_CHECKING:
    from hourglass_sep.data.augment import Augmentation, Remix
    from hourglass_sep.data.clips import Catalogue, Clip, Part, Split
    from hourglass_sep.data.datamodule import SeparationDataModule
    from hourglass_sep.data.dsd100 import Dsd100
    from hourglass_sep.data.mir1k import Mir1k
    from hourglass_sep.data.mir1k_datamodule import Mir1kDataModule
    from hourglass_sep.data.mixed import Mixed
    from hourglass_sep.data.musdb import Musdb18
    from hourglass_sep.data.stem_sets import StemFolders
    from hourglass_sep.data.synthetic.synthetic4 import Synthetic4
    from hourglass_sep.dsp.stft import Spectrogram
    from hourglass_sep.inference.reconstruct import Misi, MixturePhase, Reconstruction, Wiener
    from hourglass_sep.inference.refinement.refine import NmfRefinement, Refinement
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.networks.base import MaskNetwork
    from hourglass_sep.networks.hourglass import StackedHourglass
    from hourglass_sep.results.report import make_report
    from hourglass_sep.scoring.metrics import bss_eval_sources, nsdr, si_sdr
    from hourglass_sep.scoring.protocols import load_protocol
    from hourglass_sep.songs.separate_song import separate_file
    from hourglass_sep.training.losses import masked_l1, masked_snr
    from hourglass_sep.training.system import SeparationSystem

__version__ = "0.1.0"
__all__ = [
    "SOURCES",
    "Augmentation",
    "Catalogue",
    "Clip",
    "Dsd100",
    "MaskNetwork",
    "Mir1k",
    "Mir1kDataModule",
    "Misi",
    "Mixed",
    "MixturePhase",
    "Musdb18",
    "NmfRefinement",
    "Part",
    "Reconstruction",
    "Refinement",
    "Remix",
    "SeparationDataModule",
    "SeparationSystem",
    "Separator",
    "Spectrogram",
    "Split",
    "StackedHourglass",
    "StemFolders",
    "Stems",
    "Synthetic4",
    "UserError",
    "Wiener",
    "__version__",
    "bss_eval_sources",
    "load_protocol",
    "make_report",
    "masked_l1",
    "masked_snr",
    "nsdr",
    "separate_file",
    "si_sdr",
]

_MODULES = {
    "data.augment": ("Augmentation", "Remix"),
    "data.clips": ("Catalogue", "Clip", "Part", "Split"),
    "data.datamodule": ("SeparationDataModule",),
    "data.dsd100": ("Dsd100",),
    "data.mir1k": ("Mir1k",),
    "data.mir1k_datamodule": ("Mir1kDataModule",),
    "data.mixed": ("Mixed",),
    "data.musdb": ("Musdb18",),
    "data.stem_sets": ("StemFolders",),
    "data.synthetic.synthetic4": ("Synthetic4",),
    "inference.reconstruct": ("Misi", "MixturePhase", "Reconstruction", "Wiener"),
    "inference.refinement.refine": ("NmfRefinement", "Refinement"),
    "inference.separator": ("Separator",),
    "networks.base": ("MaskNetwork",),
    "networks.hourglass": ("StackedHourglass",),
    "results.report": ("make_report",),
    "scoring.metrics": ("bss_eval_sources", "nsdr", "si_sdr"),
    "scoring.protocols": ("load_protocol",),
    "dsp.stft": ("Spectrogram",),
    "songs.separate_song": ("separate_file",),
    "training.losses": ("masked_l1", "masked_snr"),
    "training.system": ("SeparationSystem",),
}
"""Modules of the names that are imported on first use."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use: torch alone takes seconds."""
    for module, names in _MODULES.items():
        if name in names:
            return globals().setdefault(name, getattr(importlib.import_module(f"hourglass_sep.{module}"), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
