"""Map from old dotted names of classes and functions to current ones, for configs and score files of old versions."""

from __future__ import annotations

from typing import Any

PACKAGE = "hourglass_sep"

MODULES = {
    "baselines": "scoring.systems",
    "callbacks": "training.callbacks",
    "hourglass": "networks.hourglass",
    "loggers": "training.loggers",
    "losses": "training.losses",
    "masking": "dsp.masks",
    "protocols": "scoring.protocols",
    "reconstruct": "inference.reconstruct",
    "refine": "inference.refinement.refine",
    "run_folder": "training.run_folder",
    "spectrogram": "dsp.stft",
}
"""Old module name to current one, both without the package name."""

NAMES = {
    "data.datamodule.Mir1kDataModule": "data.mir1k_datamodule.Mir1kDataModule",
    "data.datamodule.SyntheticDataModule": "data.mir1k_datamodule.SyntheticDataModule",
}
"""Old name to current one of single classes, both without the package name."""


def current(target: str) -> str:
    """Current form of a ``_target_`` of any version; other packages and unknown modules stay unchanged."""
    package, _, rest = target.partition(".")
    module, _, name = rest.rpartition(".")
    if package == PACKAGE and rest in NAMES:
        return f"{PACKAGE}.{NAMES[rest]}"
    return f"{PACKAGE}.{MODULES[module]}.{name}" if package == PACKAGE and module in MODULES else target


def update_targets(cfg: Any) -> None:
    """Replace every ``_target_`` and ``path`` of a Hydra config by its current form, in place."""
    from omegaconf import OmegaConf

    def walk(node: Any, path: str) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            place = f"{path}[{key}]"
            if key in ("_target_", "path") and isinstance(value, str):  # path: of hydra.utils.get_method
                if current(value) != value:
                    OmegaConf.update(cfg, place, current(value))
            else:
                walk(value, place)

    walk(OmegaConf.to_container(cfg, resolve=False), "")
