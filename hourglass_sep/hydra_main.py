"""Entry points that are configured by Hydra: one line for what the user can mend, exit code 2."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from hourglass_sep.errors import UserError
from hourglass_sep.paths import CONFIG_DIR

_IDLE_WARNINGS = (
    "Experiment logs directory .* exists",  # Hydra made it for this run
    ".*treespec.*is deprecated",  # Lightning's, about its own code
    "The number of training batches .* is smaller than the logging interval",
    "Total length of .* across ranks is zero",  # data.split=all validates on nothing
    "The dirpath has changed",  # a resumed run has a folder of its own
    "You're resuming from a checkpoint that ended before the epoch ended",  # patches are numbered by step
    ".*sync_dist=True",  # validation scores are gathered before they are logged
    ".*does not have many workers",  # cutting patches takes a fraction of a step, see `make bench`
)


def hydra_main(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a command of ``task(cfg)``: `hydra.main` with this package's configs and this package's manners.

    Args:
        config_name: the primary config, ``train`` or ``evaluate``.
    """

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            # Hydra would print several lines and end with 1; with this variable it raises instead.
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            _silence_advertising()
            sys.argv[1:] = [quote_group_option(expand_home(argument)) for argument in sys.argv[1:]]
            composed = False

            @functools.wraps(task)
            def job(cfg: DictConfig) -> None:
                nonlocal composed
                composed = True
                # SystemExit passes through Hydra: no second message, and the rest of a sweep does not start.
                try:
                    task(cfg)
                except Exception as error:
                    _end(error)

            try:
                hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()
            except Exception as error:
                if not composed and isinstance(error, ValueError):  # Hydra's answer to model=null and the like
                    error = UserError(f"the options do not make a config ({error}): see --help")
                _end(error)

        return main

    return decorate


def expand_home(argument: str) -> str:
    """``data.root=~/MIR-1K`` to the folder that is meant; shells leave the tilde alone there, and Hydra refuses it."""
    key, equals, value = argument.partition("=")
    return key + equals + os.path.expanduser(value)


def quote_group_option(argument: str) -> str:
    """``stacks=1,2`` to ``stacks='1','2'``: Hydra refuses whole numbers as names of a group's options."""
    key, equals, values = argument.partition("=")
    return key + equals + re.sub(r"\b(\d+)\b(?!')", r"'\1'", values) if key == "stacks" else argument


def _silence_advertising() -> None:
    """Keep the terminal for what the user can act upon."""
    for message in _IDLE_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for library in ("pytorch_lightning", "lightning_fabric"):  # tips, "TPU available: False"
        logging.getLogger(f"{library}.utilities.rank_zero").setLevel(logging.WARNING)


def _end(error: Exception) -> None:
    """Print one line and exit with 2 if the user can mend it; raise again if it is a fault of ours."""
    line = _explain(error)
    if line is None:
        raise error
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    raise SystemExit(getattr(error, "exit_code", 2)) from None


def _explain(error: Exception) -> str | None:
    """What the user did, if it was the user."""
    cause: BaseException = error
    while isinstance(cause, HydraException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return str(cause)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}: choose another place, hydra.run.dir= for a run's folder"
    if isinstance(error, (HydraException, OmegaConfBaseException, MisconfigurationException)):
        return str(error if isinstance(error, InstantiationException) else cause)
    return None
