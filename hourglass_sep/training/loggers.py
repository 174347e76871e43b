"""Loggers: W&B offline without an account, one run per job of a sweep; none that fails ends a run."""

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
"""Where W&B keeps media until they are sent, by default in the home folder."""
_ID = re.compile(r"[\w-]{1,128}", re.ASCII)
_ours: dict[str, str] = {}
_WITHOUT = "training goes on without this logger"


class Attempt:
    """Calls what may fail without an end to training: the first failure is a warning.

    Args:
        what: name of the thing for the warning.
        remedy: what follows the reason in the warning.
    """

    def __init__(self, what: str, remedy: str = "training goes on without what it cannot log") -> None:
        self.what = what
        self.remedy = remedy
        self.failed = False

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the function returns; None after a failure. Ctrl-C passes."""
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not self.failed:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                _warn(f"warning: {self.what}: {reason}: {self.remedy}")
            self.failed = True
            return None


def _warn(line: str) -> None:
    """Once for all processes of a run."""
    if not is_further_rank():
        complain(line)


def forgiving(make: Callable[[], Logger]) -> Logger:
    """The logger, begun, with methods that warn where they would raise; one that cannot begin is replaced by none."""
    try:
        logger = make()
    except InstantiationException as error:
        if not isinstance(error.__cause__, OSError):  # a setting
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
    """A W&B run in ``save_dir``; offline unless there is an API key or ``WANDB_MODE`` says otherwise.

    What W&B stages lies in ``save_dir`` too, unless its own environment variables name another place.

    Args:
        project: W&B project.
        save_dir: the run folder. The run's id is kept there in ``wandb_id.txt``, so that training that is resumed in
            the same folder goes on with the same run.
        name: run name; by default the overrides of a multirun's job, else the run folder's name.
        group: by default the folder of the multirun.

    Raises:
        UserError: ``WANDB_MODE`` is unknown, or is ``online`` without a login. Where W&B cannot be reached, there is a
            warning and the run is logged offline.
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
        logger._wandb_init.pop("anonymous", None)  # wandb warns of the setting whatever its value
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
    """Online with a login, offline without, unless ``WANDB_MODE`` says otherwise."""
    asked = os.environ.get("WANDB_MODE")
    if asked:
        check_choice("WANDB_MODE", asked, _MODES)
    if is_further_rank():
        return "disabled"  # the first process logs
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
    """Whether a folder that the environment names can be written to; W&B would fill the screen with its own log."""
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
    """End a logger; a W&B run for good, or the next job of a sweep would go on in it."""
    logger.finalize(status)
    if isinstance(logger, WandbLogger) and logger._experiment is not None:
        exit_code = 0 if status == "success" else 1
        Attempt(type(logger).__name__)(lambda: logger.experiment.finish(exit_code=exit_code))


def _run_id(path: Path) -> str:
    """The id in the file, a new one if there is none; where none can be kept, one for this time."""
    found = ""
    with suppress(OSError, ValueError):
        found = path.read_text().strip() if path.exists() else ""
    if not _ID.fullmatch(found):
        found = secrets.token_hex(4)
        with suppress(OSError):
            path.write_text(found + "\n")
    return found
