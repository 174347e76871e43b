"""Writing checkpoints so that a whole one, the last or the new one, is there at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from hourglass_sep.files import replacing, writing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, renames.

    Lightning's own stages files in the folder for temporary files and copies them if that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint; an older one of its name is there until the new one is whole.

        Raises:
            FileError: the disk is full, for one.
        """
        path = Path(path)
        with replacing([path]) as (part,), writing(path), part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
