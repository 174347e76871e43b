"""Writing several files so that either all of them are there or the old ones are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hourglass_sep.errors import UserError


def write_all(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files under other names first, then give all of them theirs.

    Args:
        folder: where; made if need be.
        contents: by file name.

    Returns:
        The files.

    Raises:
        UserError: the folder or a file cannot be written.
    """
    paths = [folder / name for name in contents]
    parts = [path.with_name(path.name + ".part") for path in paths]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if path.is_dir():
                raise UserError(f"{path} is a folder: choose another place")
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_bytes(content)
        for part, path in zip(parts, paths, strict=True):
            os.replace(part, path)
    except OSError as error:
        for part in parts:
            with suppress(OSError):
                part.unlink()
        raise UserError(f"{folder} cannot be written to ({error.strerror}): choose another folder") from error
    return paths
