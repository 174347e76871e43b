"""Objects of conf/refine and conf/reconstruct without Hydra, for commands that are not configured by it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hourglass_sep.support import moved
from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import SettingError
from hourglass_sep.support.paths import CONFIG_DIR

MODULES = {
    "refine": "hourglass_sep.inference.refinement.refine",
    "reconstruct": "hourglass_sep.inference.reconstruct",
}
"""Config groups and the modules of their classes."""

GROUPS = tuple(MODULES)


def names(group: str) -> list[str]:
    """Names of a config group's options."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def load_options(chosen: Mapping[str, str], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments of a `Separator`.

    Args:
        chosen: config group to option, ``{"refine": "nmf"}``.
        changes: overrides in Hydra's syntax, ``refine.rank=60``.

    Raises:
        SettingError: an unknown option or setting, or a value out of range.
    """
    found: dict[str, Any] = {}
    for group, name in chosen.items():
        check_choice(group, name, names(group))
        found[group] = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / group / f"{name}.yaml"))
    for change in changes:
        key, equals, _ = change.partition("=")
        group, _, setting = key.partition(".")
        known = [f"{group}.{name}" for group in found for name in found[group] if name != "_target_"]
        if key not in known:
            choices = f"choose from {', '.join(known)}" if known else "choose others first, refine=nmf for one"
            raise SettingError(f"{change} is no setting of {_written(chosen)}: {choices}")
        if not equals:
            raise SettingError(f"{change} has no value: write {change}=VALUE")
        try:
            value: Any = OmegaConf.to_container(OmegaConf.from_dotlist([change]), resolve=True)
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise SettingError(f"{change} cannot be read: write KEY=VALUE, a list in brackets") from error
        found[group][setting] = value[group][setting]
    return {group: build(description) for group, description in found.items()}


def build(description: Mapping[str, Any]) -> Any:
    """Build an object from its description: class in ``_target_``, and arguments.

    Raises:
        SettingError: a class that is not one of `MODULES`, or invalid arguments.
    """
    target = moved.current(str(description.get("_target_")))
    module, _, name = target.rpartition(".")
    if module not in MODULES.values():
        raise SettingError(f"{target} is not allowed: give a class of this package's {' or '.join(GROUPS)}")
    arguments = {key: value for key, value in description.items() if key != "_target_"}
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except (AttributeError, TypeError) as error:
        raise SettingError(f"{target} cannot be made ({error})") from error


def _written(chosen: Mapping[str, str]) -> str:
    return " and ".join(f"{group}={name}" for group, name in chosen.items())
