"""Views of a file from an offset on: for leading tags, and for Ogg files that were joined."""

from __future__ import annotations

from typing import Any

_BLOCK_BYTES = 1 << 19


class Part:
    """A read-only view of an open binary file from an offset on.

    Args:
        file: open binary file.
        first: offset in bytes, position 0 of the view.
    """

    def __init__(self, file: Any, first: int) -> None:
        self._file, self._first, self.name = file, first, "part"
        file.seek(first)

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        return self._file.read(size)

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._file.tell() - self._first

    def seek(self, place: int, whence: int = 0) -> int:
        """See `io.RawIOBase`."""
        return self._file.seek(place + (self._first if whence == 0 else 0), whence) - self._first


def next_ogg(file: Any, first: int) -> int | None:
    """Offset of the next chained Ogg stream, which is that of its first page.

    Args:
        file: open binary file.
        first: offset in bytes from which to search.

    Returns:
        The offset in bytes from the beginning of the file; None if there is no further stream.
    """
    file.seek(first)
    block, place = b"", first
    while more := file.read(_BLOCK_BYTES):
        block += more
        found = block.find(b"OggS\0\x02")
        if found >= 0:
            return place + found
        place, block = place + len(block) - 8, block[-8:]
    return None
