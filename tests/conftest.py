"""Shared fixtures: real MIR-1K clips if available, tiny clips and a tiny separator. Tests run with one torch thread."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass

REPO = Path(__file__).resolve().parents[1]
TINY_CLIPS = ("abjones_1_01", "abjones_5_01", "amy_2_01", "amy_9_01", "amy_16_01", "Ani_1_01", "bug_2_01")

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mir1k_root() -> Path:
    """Folder of the real MIR-1K; tests that use it are skipped if it is missing."""
    root = Path(os.environ.get("HOURGLASS_DATA_DIR", REPO.parent / "shared" / "data" / "MIR-1K"))
    if not (root / "Wavfile").is_dir():
        pytest.skip(f"no MIR-1K in {root}: set HOURGLASS_DATA_DIR")
    return root


@pytest.fixture(scope="session")
def tiny_mir1k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder laid out like MIR-1K, with clips of three seconds of noise, for tests that need no good scores."""
    root = tmp_path_factory.mktemp("tiny") / "MIR-1K"
    rng = np.random.default_rng(0)
    for name in TINY_CLIPS:
        noise = 0.1 * rng.standard_normal((2, 3 * SAMPLE_RATE_HZ))
        audio.write(root / "Wavfile" / f"{name}.wav", torch.from_numpy(noise).float(), SAMPLE_RATE_HZ)
    return root


@pytest.fixture
def tiny_separator() -> Separator:
    """A separator with a small, untrained network."""
    torch.manual_seed(0)
    return Separator(StackedHourglass(stacks=2, channels=4, depth=1), Spectrogram()).eval()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty temporary folder, made the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def song(here: Path) -> Path:
    """``song.wav`` in the current folder: 0.2 seconds of stereo noise at 44.1 kHz, 16 bit."""
    noise = np.random.default_rng(0).normal(0, 0.1, (9000, 2)).clip(-1, 1)
    soundfile.write("song.wav", noise, 44100)
    return here / "song.wav"
