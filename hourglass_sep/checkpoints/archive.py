"""Checks of checkpoint files before they are unpacked: compressed archives and pickles that expand are refused."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

from hourglass_sep.support.errors import CheckpointError

_PICKLE_BYTES = 1 << 24
_DIRECTORY_BYTES = 1 << 22  # tens of thousands of tensors
_PICKLE_STEPS = 1 << 19
_PICKLE_MAKERS = ("bytearray", "encode")
"""Globals that `torch.load` allows and that allocate much memory from few bytes; checkpoints do not need them."""


def check_archive(path: Path) -> None:
    """Check the archive of a checkpoint before it is unpacked.

    Raises:
        CheckpointError: not an archive that torch writes, or one that expands when it is unpacked.
    """
    try:
        grows = _directory_bytes(path) > _DIRECTORY_BYTES or _unpacks(path)
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that torch can read: give another file") from error
    if grows:
        raise CheckpointError(f"{path} is not a checkpoint that torch has written (it is packed): give another file")


def _unpacks(path: Path) -> bool:
    """Whether the content of an archive takes more memory than its file."""
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
    """Size in bytes of an archive's directory, which `zipfile.ZipFile` reads at once; 0 if there is none."""
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined] # the function that ZipFile calls first
        return int(end[zipfile._ECD_SIZE]) if end else 0  # type: ignore[attr-defined]


def check_header(path: Path) -> None:
    """Check the size of a safetensors file's header.

    Raises:
        ValueError: larger than any network's.
    """
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > _DIRECTORY_BYTES:
            raise ValueError("too large")


def _grows(pickle: bytes) -> bool:
    """Whether reading a pickle takes much more memory or time than its size suggests.

    Raises:
        ValueError: not a pickle.
    """
    for step, (code, argument, _) in enumerate(pickletools.genops(pickle)):
        if step > _PICKLE_STEPS or (code.name == "GLOBAL" and str(argument).endswith(_PICKLE_MAKERS)):
            return True
    return False
