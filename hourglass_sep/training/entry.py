"""Entry points configured by Hydra: errors that the user can fix are printed in one line, with exit code 2."""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

import hourglass_sep.support.ctrl_c  # noqa: F401 - before Hydra and torch, which take seconds

# isort: split

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hourglass_sep.support.errors import Interrupted, UserError
from hourglass_sep.support.moved import update_targets
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.support.terminal import complain, have_streams
from hourglass_sep.training.quoting import hydra_arguments
from hourglass_sep.training.ranks import is_further_rank

_IDLE_WARNINGS = (
    "(?s)Experiment logs directory .* exists",  # Hydra has made it for this run
    "(?s)Checkpoint directory .* exists and is not empty",  # it holds our lock file; folders of other runs are refused
    ".*treespec.*is deprecated",  # Lightning's, about its own code
    "The number of training batches .* is smaller than the logging interval",
    "Total length of .* across ranks is zero",  # data.split=all validates on nothing
    "The dirpath has changed",  # a resumed run has a folder of its own
    "You're resuming from a checkpoint that ended before the epoch ended",  # patches are numbered by step
    ".*sync_dist=True",  # validation scores are gathered before they are logged
    ".*does not have many workers",  # cutting patches takes a fraction of a step, see `make bench`
)


_ADVERTISERS = ("pytorch_lightning", "lightning_fabric")
_LIGHTNINGS = "MisconfigurationException"
"""Name of the exception that Lightning raises for invalid settings; importing the class takes seconds."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def hydra_main(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Decorator that makes a command of ``task(cfg)``: `hydra.main` with this package's configs and error messages.

    Args:
        config_name: the primary config, ``train`` or ``evaluate``.

    Returns:
        The decorator; the command that it returns takes its arguments from `sys.argv`.
    """

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            # Without this variable Hydra prints several lines and exits with 1; with it, Hydra raises.
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            have_streams()
            composed = False

            @functools.wraps(task)
            def job(cfg: DictConfig) -> None:
                nonlocal composed
                composed = True
                # Here and not in `main`, as other launchers run jobs in separate processes.
                _silence_advertising()
                # `end` raises SystemExit, which Hydra passes on: no second message, no further jobs of a sweep.
                try:
                    update_targets(cfg)
                    task(cfg)
                except (Exception, KeyboardInterrupt) as error:
                    end(error)

            try:
                sys.argv[1:] = hydra_arguments(sys.argv[1:])
                hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()
            except (Exception, KeyboardInterrupt) as error:
                if not composed and isinstance(error, ValueError):  # raised by Hydra for model=null, for instance
                    error = UserError(f"the options do not make a config ({error}): see --help")
                end(error)

        return main

    return decorate


def _silence_advertising() -> None:
    """Suppress warnings and log messages that require no action by the user."""
    logging.raiseExceptions = False  # a log file on a full disk: writing the run's own files raises anyway
    for message in _IDLE_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for library in _ADVERTISERS:  # tips, "TPU available: False"
        for name in (library, f"{library}.utilities.rank_zero"):
            logging.getLogger(name).setLevel(logging.WARNING)


def end(error: BaseException) -> NoReturn:
    """Print an error that the user can fix in one line and exit; raise any other error again.

    Raises:
        SystemExit: with the error's exit code, 2 by default, or 130 for `KeyboardInterrupt`.
    """
    line = _explain(error)
    if line is None:
        raise error
    if isinstance(error, Interrupted) and is_further_rank():
        raise SystemExit(0) from None  # the first process prints it; Lightning would kill it for another exit code
    complain(f"error: {' '.join(line.split())}")
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 2)
    raise SystemExit(code) from None


def _explain(error: BaseException) -> str | None:
    """Message for an error that the user can fix, else None."""
    cause: BaseException = error
    while isinstance(cause, HydraException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return str(cause)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: run it again"
    if isinstance(error, OSError):
        place = error.filename or _file_of(error)
        if place:
            room = "make room, or " if error.errno in _FULL else ""
            return f"{place}: {error.strerror}: {room}choose another place, hydra.run.dir= for a run's folder"
    if isinstance(error, (HydraException, OmegaConfBaseException)) or type(error).__name__ == _LIGHTNINGS:
        return str(error if isinstance(error, InstantiationException) else cause)
    return None


def _file_of(error: OSError) -> str | None:
    """Path of the file whose write failed, taken from the traceback, as the error itself does not name it."""
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        for value in frame.f_locals.values():
            if isinstance(value, io.IOBase) and isinstance(getattr(value, "name", None), str):
                return str(value.name)  # type: ignore[attr-defined]
    return None
