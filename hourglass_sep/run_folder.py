"""The folder of a training run: it belongs to one run, and to one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from hourglass_sep.errors import UserError
from hourglass_sep.files import fcntl

_TRACES = ("checkpoints/*.ckpt", "metrics*.csv", "wandb_id.txt", "scores.json")
_LOCK = ".running"


@contextmanager
def own(folder: Path, ckpt_path: str | None) -> Iterator[None]:
    """Hold a run folder while the block runs; the other ranks of a run come into that of the first.

    Args:
        folder: made if need be.
        ckpt_path: what the run goes on from; from a checkpoint in the folder, it may go on there.

    Raises:
        UserError: another run is at work there, or has been.
    """
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    remedy = "choose another hydra.run.dir"
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder} is the folder of a run that is at work: {remedy}") from None
            except OSError:  # a file system without locks
                pass
        found = [path for pattern in _TRACES for path in sorted(folder.glob(pattern))]
        resumes = ckpt_path is not None and Path(ckpt_path).resolve().is_relative_to(folder.resolve())
        if found and not resumes:
            raise UserError(
                f"{folder} is the folder of another run ({found[0].name} is there): {remedy}, or resume from a "
                "checkpoint in it"
            )
        _keep_metrics(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / _LOCK).unlink()
        os.close(lock)
        for path in made:
            with suppress(OSError):  # not empty
                path.rmdir()


def _keep_metrics(folder: Path) -> None:
    """Give the metrics so far another name: the logger begins its file anew."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        number = next(n for n in range(1, 1 << 20) if not (folder / f"metrics.{n}.csv").exists())
        metrics.rename(folder / f"metrics.{number}.csv")
