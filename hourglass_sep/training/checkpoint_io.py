"""Checkpoints that are written atomically: beside the target, to the disk, then renamed over the older one."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from hourglass_sep.support.files import replacing, writing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes every checkpoint of a run, `ModelCheckpoint`'s and others.

    Lightning stages the file in the temporary folder: where that is another file system, the last step is a copy over
    the older checkpoint, and a kill or a full disk leaves neither of them. Here the older one stays until the new one
    is whole and on the disk. Addresses (``s3://...``) are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            FileError: the file cannot be written; it names the file, and the older one is untouched.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()  # torch's own writer does not say what a failed write was
        torch.save(checkpoint, content)
        target = Path(path)
        with replacing([target]) as (part,), writing(target), part.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # a folder's entries, where the system can: the new name survives a power cut
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; a local file's name may hold whatever a name may, ``::`` too."""
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only)
        return torch.load(path, map_location=map_location or "cpu", weights_only=weights_only)
