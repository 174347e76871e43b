"""Atomic checkpoint writes: written beside the target, flushed to the disk, then renamed over the older file."""

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
    """Writes all checkpoints of a run atomically, those of `ModelCheckpoint` and others.

    Lightning stages the file in the temporary folder. If that is another file system, the last step is a copy over
    the older checkpoint, and a kill or a full disk loses both. Here the older checkpoint stays until the new one is
    complete and on the disk. URLs (``s3://...``) are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            FileError: the file cannot be written; the message names it, and the older file is untouched.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()  # torch's own writer does not report the cause of a failed write
        torch.save(checkpoint, content)
        target = Path(path)
        with replacing([target]) as (part,), writing(target), part.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # flush the folder too, where the system can: the new name survives a power cut
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; the name of a local file may contain any characters, ``::`` included."""
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only)
        return torch.load(path, map_location=map_location or "cpu", weights_only=weights_only)
