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
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hourglass_sep.errors import UserError
from hourglass_sep.paths import CONFIG_DIR

_IDLE_WARNINGS = (
    "Experiment logs directory .* exists",  # Hydra made it for this run
    ".*treespec.*is deprecated",  # Lightning's, about its own code
    "The number of training batches .* is smaller than the logging interval",
    ".*does not have many workers",  # cutting patches takes a fraction of a step, see `make bench`
)


def hydra_main(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a command of ``task(cfg)``: `hydra.main` with this package's configs and this package's manners.

    Args:
        config_name: the primary config, ``train`` or ``evaluate``.
    """

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(task)
        def job(cfg: DictConfig) -> None:
            # SystemExit passes through Hydra: no second message, and the rest of a sweep does not start.
            try:
                task(cfg)
            except (HydraException, OmegaConfBaseException, UserError) as error:
                _end(error)

        @functools.wraps(task)
        def main() -> None:
            # Hydra would print several lines and end with 1; with this variable it raises instead.
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            _silence_advertising()
            sys.argv[1:] = [quote_group_option(argument) for argument in sys.argv[1:]]
            run = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)
            try:
                run()
            except (HydraException, OmegaConfBaseException) as error:
                _end(error)

        return main

    return decorate


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
    cause: BaseException = error
    while isinstance(cause, HydraException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if not isinstance(cause, (UserError, HydraException, OmegaConfBaseException)):
        raise error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the other processes of a DDP run have met the same
        print(f"error: {' '.join(lines[:3])}", file=sys.stderr)
    raise SystemExit(2) from None
