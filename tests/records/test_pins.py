"""What must stay as it is while the code moves: patches, stems, protocols and configs, recorded in tests/records/pins.

tests/records/old holds files that earlier versions wrote, which must still be read.

Where a change is meant, ``python tests/records/test_pins.py`` records anew, and the commit says why.
"""

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hourglass_sep import Separator
from hourglass_sep.data.augment import NoAugmentation, Remix
from hourglass_sep.data.patches import PatchSpectrograms, RandomPatches
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.training import run as training

PINS = Path(__file__).parent / "pins"
OLD = Path(__file__).parent / "old"
EXPERIMENTS = sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml"))
PROTOCOLS = sorted(path.stem for path in (CONFIG_DIR / "protocol").glob("*.yaml"))
PATCHES: dict[str, dict[str, Any]] = {
    "paper": {"scale": "clip", "augment": NoAugmentation()},
    "remix": {"scale": "clip", "augment": Remix(probability=0.5, gain_db=5.0)},
    "compact": {"scale": "window", "augment": Remix(probability=0.5, gain_db=5.0, semitones=5.0)},
}
TARGETS = {"paper": "magnitude", "remix": "magnitude", "compact": "phase_sensitive"}
STEMS = ("default", "large")


def machine() -> dict[str, str]:
    """What decides about the last bit of a float32 result: the processor and its caches, and the libraries."""
    try:
        lines = [line.split(":") for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, value in reversed([(line[0], line[1]) for line in lines])}
    wanted = ("model name", "cpu family", "model", "stepping", "cache size", "flags")
    processor = "; ".join(facts.get(name, "") for name in wanted)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchaudio", "numpy", "soxr")}
    return {
        "cpu": facts.get("model name", ""),
        "processor": hashlib.sha256(processor.encode()).hexdigest()[:8],
    } | versions


def fingerprint(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def levels(tensor: torch.Tensor) -> list[float]:
    """The level of sixteen parts of a tensor, in dB."""
    parts = tensor.detach().double().flatten().tensor_split(16)
    return [round(10 * float(part.square().mean().clamp_min(1e-12).log10()), 4) for part in parts]


def patches(name: str) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(2018)
    lengths = (4, 9, 2)  # seconds; the last is shorter than a patch, which ends in silence
    clips = [torch.from_numpy(0.1 * rng.standard_normal((2, 8000 * seconds))).float() for seconds in lengths]
    stft = Spectrogram()
    drawn = RandomPatches(clips, stft, 64, seed=7, **PATCHES[name])
    batch = torch.utils.data.default_collate([drawn[number] for number in range(12)])
    made = PatchSpectrograms(stft, TARGETS[name])(batch)
    return {"sources": batch["sources"], "mixture": made["mixture"], "targets": made["targets"]}


def stems(name: str) -> dict[str, torch.Tensor]:
    song = synthesize_song((1, 2), 6.0, 44100).sum(0)
    stereo = torch.stack([song, 0.5 * song.roll(40)])
    return dict(Separator.from_pretrained(name).separate(stereo, 44100))


def config(experiment: str) -> str:
    """What ``--cfg job`` prints; classes by their names, as modules move."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", overrides=[f"experiment={experiment}"])
    return re.sub(r"hourglass_sep\.[\w.]+\.(\w+)$", r"\1", OmegaConf.to_yaml(cfg), flags=re.MULTILINE)


def check(found: dict[str, torch.Tensor], recorded: dict[str, Any]) -> None:
    """Equal to the bit on the machine that recorded, and to a thousandth of a dB on any other."""
    pinned = json.loads((PINS / "machine.json").read_text())
    assert found.keys() == recorded.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(levels(tensor), recorded[name]["levels_db"], atol=1e-3, err_msg=name)
        if machine() == pinned:
            assert fingerprint(tensor) == recorded[name]["hash"], name


def record(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: {"hash": fingerprint(value), "levels_db": levels(value)} for name, value in tensors.items()}


@pytest.mark.parametrize("name", PATCHES)
def test_patches_are_those_that_were_recorded(name: str) -> None:
    check(patches(name), json.loads((PINS / "patches.json").read_text())[name])


@pytest.mark.parametrize("name", STEMS)
def test_stems_of_the_shipped_weights_are_those_that_were_recorded(name: str) -> None:
    check(stems(name), json.loads((PINS / "stems.json").read_text())[name])


def test_protocols_have_the_hashes_that_were_recorded_beside_scores() -> None:
    assert {name: load_protocol(name).hash for name in PROTOCOLS} == json.loads((PINS / "protocols.json").read_text())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_to_the_config_that_was_recorded(experiment: str) -> None:
    assert config(experiment) == (PINS / f"{experiment}.yaml").read_text()


def test_a_checkpoint_of_an_earlier_version_is_loaded_and_its_run_goes_on(tiny_mir1k: Path, tmp_path: Path) -> None:
    """Written by dbe9b7c: 1 stack of 4 channels, callbacks=ema, augment=remix, two steps."""
    path = OLD / "two_steps.ckpt"
    separator = Separator.from_checkpoint(path)
    assert separator.settings["context_frames"] == 8
    mixture = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    total = sum(separator.separate(mixture, 16000).values())
    torch.testing.assert_close(total, mixture, atol=1e-5, rtol=0)
    options = ["model=compact", "model.channels=4", "model.depth=1", "model.stacks=1", "trainer=cpu", "logger=csv"]
    options += ["data.steps_per_epoch=2", "trainer.max_steps=4", "callbacks=ema", "augment=remix"]
    options += [f"ckpt_path='{path}'", f"data.root='{tiny_mir1k}'", f"paths.run_dir='{tmp_path}'"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        training.run(compose("train", options))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


def main() -> None:
    """Record anew."""
    torch.set_num_threads(1)
    contents = {
        "machine": machine(),
        "patches": {name: record(patches(name)) for name in PATCHES},
        "stems": {name: record(stems(name)) for name in STEMS},
        "protocols": {name: load_protocol(name).hash for name in PROTOCOLS},
    }
    PINS.mkdir(exist_ok=True)
    for name, content in contents.items():
        (PINS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    for experiment in EXPERIMENTS:
        (PINS / f"{experiment}.yaml").write_text(config(experiment))


if __name__ == "__main__":
    main()
