"""Loggers: W&B (offline without an account, one run per job of a sweep); a failing logger does not end training."""

from __future__ import annotations

import errno
import functools
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger

from hourglass_sep.support.checks import check_choice
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.terminal import complain
from hourglass_sep.training.ranks import is_further_rank

RUN_ID = "wandb_id.txt"
_MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")
_STAGING = {"WANDB_DATA_DIR": "staging", "WANDB_CACHE_DIR": "cache"}
"""Variables for the folders in which W&B keeps media until they are sent, by default in the home folder."""
_ID = re.compile(r"[\w-]{1,128}", re.ASCII)
_ours: dict[str, str] = {}
_WITHOUT = "training goes on without this logger"


class Attempt:
    """Calls functions whose failure must not end training; the first failure is printed as a warning.

    Args:
        what: name of the failing part, printed before the reason.
        remedy: consequence or remedy, printed after the reason.
    """

    def __init__(self, what: str, remedy: str = "training goes on without what it cannot log") -> None:
        self.what = what
        self.remedy = remedy
        self.failed = False

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function and return its result, or None if it raised an `Exception`; Ctrl-C is not caught."""
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not self.failed:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                _warn(f"warning: {self.what}: {reason}: {self.remedy}")
            self.failed = True
            return None


def _warn(line: str) -> None:
    """Print a warning, in the first process of a run only."""
    if not is_further_rank():
        complain(line)


def forgiving(make: Callable[[], Logger]) -> Logger:
    """Make and start a logger whose methods warn instead of raising.

    Args:
        make: constructor of the logger.

    Returns:
        The started logger, or a `DummyLogger` if it cannot start.

    Raises:
        InstantiationException: an invalid setting of the logger.
    """
    try:
        logger = make()
    except InstantiationException as error:
        if not isinstance(error.__cause__, OSError):  # an invalid setting
            raise
        _warn(f"warning: logger: {error.__cause__}: {_WITHOUT}")
        return DummyLogger()
    name = type(logger).__name__
    begin = Attempt(name, _WITHOUT)
    begin(lambda: logger.experiment)  # type: ignore[attr-defined]
    if begin.failed:
        return DummyLogger()
    attempt = Attempt(name)
    for method in dir(type(logger)):
        if method.startswith(("log", "save", "after_save", "finalize")) and callable(getattr(type(logger), method)):
            setattr(logger, method, functools.partial(attempt, getattr(logger, method)))
    return logger


def wandb_logger(project: str, save_dir: str, name: str | None = None, group: str | None = None) -> WandbLogger:
    """Make the logger of a W&B run: online with an API key, else offline; ``WANDB_MODE`` overrides this.

    W&B's staging and cache folders are in ``save_dir`` too, unless ``WANDB_DATA_DIR`` and ``WANDB_CACHE_DIR`` name
    other folders. If W&B cannot be reached, a warning is printed and the run is logged offline.

    Args:
        project: name of the W&B project.
        save_dir: the run folder. The run's id is kept there in ``wandb_id.txt``, so that training resumed in this
            folder continues the same W&B run.
        name: run name; by default the overrides of a multirun's job, else the run folder's name.
        group: group of runs; by default the name of the multirun's folder, if any.

    Raises:
        UserError: ``WANDB_MODE`` is unknown, or is ``online`` without a login.
    """
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for variable, place in _STAGING.items():
        theirs = os.environ.get(variable)
        if theirs in (None, _ours.get(variable)) or not _can_be_used(variable, theirs, folder):
            os.environ[variable] = _ours[variable] = str(folder.resolve() / "wandb" / place)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        hydra = HydraConfig.get()
        name = name or hydra.job.override_dirname.replace("'", "")
        group = group or Path(hydra.sweep.dir).name

    def make(mode: str) -> WandbLogger:
        logger = WandbLogger(
            project=project,
            save_dir=str(folder),
            name=str(name or folder.resolve().name),
            group=group,
            id=_run_id(folder / RUN_ID),
            mode=mode,
            settings=wandb.Settings(silent=True),
        )
        logger._wandb_init.pop("anonymous", None)  # wandb warns about this setting, whatever its value
        return logger

    mode = _mode()
    if mode not in ("online", "run", "shared"):
        return make(mode)
    online = Attempt("W&B cannot be reached, or refuses the login", _OFFLINE)
    logger = make(mode)
    online(lambda: logger.experiment)
    return make("offline") if online.failed else logger


_OFFLINE = "this run is logged offline, as WANDB_MODE=offline would have it; wandb sync sends it later"


def _mode() -> str:
    """The W&B mode: ``WANDB_MODE`` if set, else online with a login and offline without."""
    asked = os.environ.get("WANDB_MODE")
    if asked:
        check_choice("WANDB_MODE", asked, _MODES)
    if is_further_rank():
        return "disabled"  # only the first process logs
    if asked and asked not in ("online", "run"):
        return asked
    login = Attempt("W&B cannot be reached, or refuses the login", _OFFLINE)
    found = login(wandb.login, prompt=False)
    if login.failed:
        return "offline"
    if asked and not found:
        raise UserError(f"WANDB_MODE={asked} needs a login: run wandb login, or set WANDB_MODE=offline")
    return "online" if found else "offline"


def _can_be_used(variable: str, place: str, instead: Path) -> bool:
    """Whether ``place`` is writable; warn if not, as W&B would fill the screen with its own log."""
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return True
        reason = os.strerror(errno.EACCES)
    except OSError as error:
        reason = str(error.strerror)
    _warn(f"warning: {variable}={place}: {reason}: W&B uses {instead} instead, name another folder or unset it")
    return False


def finalize(logger: Logger, status: str) -> None:
    """Finalize a logger and finish its W&B run, which the next job of a sweep would otherwise continue."""
    logger.finalize(status)
    if isinstance(logger, WandbLogger) and logger._experiment is not None:
        exit_code = 0 if status == "success" else 1
        Attempt(type(logger).__name__)(lambda: logger.experiment.finish(exit_code=exit_code))


def _run_id(path: Path) -> str:
    """The W&B run id in a file; if there is no valid one, a new id, written to the file if possible."""
    found = ""
    with suppress(OSError, ValueError):
        found = path.read_text().strip() if path.exists() else ""
    if not _ID.fullmatch(found):
        found = secrets.token_hex(4)
        with suppress(OSError):
            path.write_text(found + "\n")
    return found
