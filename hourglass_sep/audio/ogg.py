"""Ogg pages: libsndfile draws a stream's serial number by the clock; here it becomes the same for all files."""

from __future__ import annotations

import zlib
from pathlib import Path

_SERIAL = (1).to_bytes(4, "little")
_HEADER_BYTES = 27
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def set_serial(path: Path) -> None:
    """Give the pages of a file with one stream the serial number 1, so that equal sounds are equal files.

    Raises:
        OSError: the file cannot be read or written.
    """
    with path.open("r+b") as file:
        while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
            start = file.tell() - _HEADER_BYTES
            sizes = file.read(header[26])
            body = file.read(sum(sizes))
            page = header[:14] + _SERIAL + header[18:22] + bytes(4) + header[26:] + sizes + body
            file.seek(start)
            file.write(page[:22] + _checksum(page) + page[26:_HEADER_BYTES])
            file.seek(start + len(page))


def _checksum(page: bytes) -> bytes:
    """CRC-32 from the highest bit down and without inversions (RFC 3533, section 6), by zlib's, which is neither."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2).to_bytes(4, "little")
