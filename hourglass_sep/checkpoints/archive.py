"""Checks of checkpoint files before they are unpacked: nothing that grows, nothing that is no checkpoint."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

from hourglass_sep.support.errors import CheckpointError

_PICKLE_BYTES = 1 << 24
_DIRECTORY_BYTES = 1 << 22  # tens of thousands of tensors
_PICKLE_STEPS = 1 << 19
_PICKLE_MAKERS = ("bytearray", "encode")
"""What `torch.load` trusts, and what makes much memory of few bytes. Checkpoints hold text and tensors."""


def check_archive(path: Path) -> None:
    """Look into a checkpoint's archive before it is unpacked.

    Raises:
        CheckpointError: it is none that torch writes: another kind of file, or one that grows when it is unpacked.
    """
    try:
        grows = _directory_bytes(path) > _DIRECTORY_BYTES or _unpacks(path)
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that torch can read: give another file") from error
    if grows:
        raise CheckpointError(f"{path} is not a checkpoint that torch has written (it is packed): give another file")


def _unpacks(path: Path) -> bool:
    """Whether what is in an archive takes more memory than the archive."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        return (
            any(e.compress_type != zipfile.ZIP_STORED or e.file_size > e.compress_size for e in entries)
            or sum(entry.file_size for entry in entries) > path.stat().st_size
            or sum(entry.file_size for entry in pickles) > _PICKLE_BYTES
            or any(_grows(archive.read(entry)) for entry in pickles)
        )


def _directory_bytes(path: Path) -> int:
    """The size of an archive's directory, which `zipfile.ZipFile` reads at once; 0 where there is none."""
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined] # what ZipFile itself asks first
        return int(end[zipfile._ECD_SIZE]) if end else 0  # type: ignore[attr-defined]


def check_header(path: Path) -> None:
    """Look at the size of a safetensors file's header, of which a table of tensors is made.

    Raises:
        ValueError: it is no network's.
    """
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > _DIRECTORY_BYTES:
            raise ValueError("too large")


def _grows(pickle: bytes) -> bool:
    """Whether a pickle takes much more memory or time to read than its own.

    Raises:
        ValueError: it is none.
    """
    for step, (code, argument, _) in enumerate(pickletools.genops(pickle)):
        if step > _PICKLE_STEPS or (code.name == "GLOBAL" and str(argument).endswith(_PICKLE_MAKERS)):
            return True
    return False
