"""Old dotted names of classes and functions to their current ones, for configs and score files of earlier versions."""

from __future__ import annotations

from typing import Any

PACKAGE = "hourglass_sep"

MODULES = {
    "baselines": "scoring.systems",
    "callbacks": "training.callbacks",
    "hourglass": "networks.hourglass",
    "loggers": "training.loggers",
    "losses": "training.losses",
    "masking": "signal.masks",
    "protocols": "scoring.protocols",
    "reconstruct": "inference.reconstruct",
    "refine": "inference.refinement.refine",
    "run_folder": "training.run_folder",
    "spectrogram": "signal.stft",
}
"""Modules that configs named, without the package, to where their content is."""


def current(target: str) -> str:
    """A ``_target_`` of any version as it is written now; one that is not this package's, or unknown, is unchanged."""
    package, _, rest = target.partition(".")
    module, _, name = rest.rpartition(".")
    return f"{PACKAGE}.{MODULES[module]}.{name}" if package == PACKAGE and module in MODULES else target


def update_targets(cfg: Any) -> None:
    """Write every ``_target_`` of a Hydra config as it is written now, in place."""
    from omegaconf import OmegaConf

    def walk(node: Any, path: str) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            place = f"{path}[{key}]"
            if key in ("_target_", "path") and isinstance(value, str):  # hydra.utils.get_method takes a path
                if current(value) != value:
                    OmegaConf.update(cfg, place, current(value))
            else:
                walk(value, place)

    walk(OmegaConf.to_container(cfg, resolve=False), "")
