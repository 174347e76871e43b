"""Run folders: each belongs to one training run; folders that are used, or in use by another run, are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hourglass_sep.support.errors import UserError
from hourglass_sep.support.locks import is_locked, lock, unlock
from hourglass_sep.support.paths import at_home
from hourglass_sep.training.entry import end
from hourglass_sep.training.loggers import RUN_ID
from hourglass_sep.training.ranks import is_further_rank

LOCK = ".run.lock"
_TRACES = ("*.ckpt", "checkpoints/*.ckpt", "metrics.csv", "scores.csv")
"""Files that a run writes only after training has begun; Hydra's own files are left by refused runs too."""


def claim(folder: Path, ckpt_path: str | None) -> bool:
    """Lock a folder for this process, unless the process holds the lock already; make the folder if needed.

    Args:
        folder: the run folder, or the folder of its checkpoints.
        ckpt_path: the checkpoint that the run resumes, if any; a used folder is accepted if it contains this file.

    Returns:
        Whether this call took the lock. Further processes of a DDP run take none: they work in the first one's folder.

    Raises:
        UserError: another run uses the folder, or has used it.
    """
    if is_further_rank() or is_locked(folder / LOCK):
        return False
    if not (folder / LOCK).exists():
        refuse_used(folder, ckpt_path)  # before anything is written there
    folder.mkdir(parents=True, exist_ok=True)
    if not lock(folder / LOCK):
        unlock(folder / LOCK)
        raise UserError(f"{folder} is in use by another run: wait for it, or choose another hydra.run.dir")
    try:
        refuse_used(folder, ckpt_path)
    except UserError:
        unlock(folder / LOCK)
        raise
    if not _resumes(folder, ckpt_path):  # the id is of a run that was refused or ended before its first step
        (folder / RUN_ID).unlink(missing_ok=True)
    return True


def refuse_used(folder: Path, ckpt_path: str | None) -> None:
    """Raise if a folder contains files of another run, unless that run is resumed.

    Args:
        folder: the run folder, or the folder of its checkpoints; it need not exist.
        ckpt_path: the checkpoint that the run resumes, if any.

    Raises:
        UserError: the folder contains checkpoints, metrics or scores.
    """
    trace = next((path for pattern in _TRACES for path in folder.glob(pattern)), None)
    if trace is None or _resumes(folder, ckpt_path):
        return
    last = next((path for path in sorted(folder.rglob("last.ckpt"))), None)
    resume = f", or go on with that run: ckpt_path={last}" if last else ""
    raise UserError(f"{folder} holds another run's {trace.name}: choose another hydra.run.dir{resume}")


def _resumes(folder: Path, ckpt_path: str | None) -> bool:
    """Whether a run resumes from a checkpoint inside the folder."""
    return bool(ckpt_path) and at_home(str(ckpt_path)).resolve().is_relative_to(folder.resolve())


@contextmanager
def claimed(cfg: DictConfig) -> Iterator[None]:
    """Lock the run folder and the checkpoint folder of a run while it trains.

    Raises:
        UserError: one of them belongs to another run.
    """
    folders = dict.fromkeys(Path(folder) for folder in (cfg.paths.run_dir, cfg.paths.checkpoint_dir))
    taken = []
    try:
        for folder in folders:
            inside = any(folder != other and folder.is_relative_to(other) for other in folders)
            if inside:  # the checkpoint folder is usually inside the run folder, whose lock covers it
                continue
            if claim(folder, cfg.ckpt_path):
                taken.append(folder)
        if not is_further_rank():
            _keep_metrics(Path(cfg.paths.run_dir))
        yield
    finally:
        for folder in taken:
            unlock(folder / LOCK)


def _keep_metrics(folder: Path) -> None:
    """Rename a resumed run's ``metrics.csv`` to ``metrics.N.csv``, as the CSV logger starts a new file."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        number = next(n for n in range(1, 1 << 20) if not (folder / f"metrics.{n}.csv").exists())
        metrics.rename(folder / f"metrics.{number}.csv")


class ClaimBeforeHydraWrites(Callback):
    """Claims a single run's folder, or checks a sweep's folders, before Hydra overwrites an older run's config."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Claim the folder of a single run."""
        _or_exit(lambda: claim(Path(config.hydra.run.dir), config.ckpt_path))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the folders of a sweep's jobs; each is claimed when its job trains."""
        sweep = Path(config.hydra.sweep.dir)
        ckpt_path = OmegaConf.select(config, "ckpt_path")
        for folder in sorted(sweep.iterdir()) if sweep.is_dir() else []:
            if folder.is_dir():
                _or_exit(lambda folder=folder: refuse_used(folder, ckpt_path))


def _or_exit(check: Any) -> None:
    """Call a check and exit with `SystemExit` if it fails: Hydra turns other exceptions of callbacks into warnings."""
    try:
        check()
    except (UserError, OSError, OmegaConfBaseException) as error:
        end(error)
