"""Detection of truncated files: lengths in file headers that decoders do not compare with the file size."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Literal

from hourglass_sep.support.errors import AudioError

_LARGEST_OGG_PAGE = 65307
_OGG_PAGE = b"OggS\0"
_OGG_END = 4  # flag of the last page
_HEADER_BYTES = 1 << 16
_MOST_TAGS = 100
_PIPED_SIZES = (0x7FFFF000, 0x80000000, 0xFFFFF000)  # without the lowest 12 bits: sizes in wav files of unknown length
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def refuse_truncated(path: Path) -> None:
    """Check that a sound file is complete; decoders read truncated files without an error.

    Raises:
        AudioError: the file is shorter than its header says, or an Ogg stream without a last page.
    """
    found = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        page = _last_ogg_page(file, found) if header[:4] == b"OggS" else None
    declared = _declared_bytes(header, found)
    if declared is not None and declared - found > 1:
        raise AudioError(f"{path} is truncated ({found} bytes, its header says {declared}): fetch or export it again")
    if page is not None and (not page[5] & _OGG_END or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])):
        raise AudioError(f"{path} is truncated (its stream has no end): fetch or export it again")


def _last_ogg_page(file: IO[bytes], end: int) -> bytes | None:
    """Bytes from the last Ogg page with a complete header on; None if there is no page.

    The search runs backwards, since megabytes of tags or zeros may follow the page.

    Args:
        file: open file.
        end: its size in bytes.

    Returns:
        At most the page and the beginning of the data behind it.
    """
    behind = b""
    while end > 0:
        first = max(end - _LARGEST_OGG_PAGE, 0)
        file.seek(first)
        block = file.read(end - first) + behind[:_LARGEST_OGG_PAGE]
        place = block.rfind(_OGG_PAGE, 0, max(len(block) - 27 + len(_OGG_PAGE), 0))
        if place >= 0:
            return block[place:]
        end, behind = first, block
    return None


def _declared_bytes(header: bytes, found: int) -> int | None:
    """File size declared by the header: of wav and avi (RIFF), RF64, W64, AIFF, AU, CAF and wma (ASF).

    Args:
        header: first bytes of the file.
        found: size of the file in bytes.

    Returns:
        The size in bytes; None for other formats and where the header gives no size.
    """

    def number(first: int, last: int, order: Literal["little", "big"] = "little") -> int:
        return int.from_bytes(header[first:last], order)

    kind = header[:4]
    if kind == b"RIFF" and len(header) >= 12:
        data = _find_chunk(header, 12, 4, "little") if header[8:12] == b"WAVE" else None
        first, size = (8, number(4, 8)) if data is None else (data + 8, number(data + 4, data + 8))
        piped = size == 0 or size & ~0xFFF in _PIPED_SIZES
        return first + size if not piped or size <= found else None
    if kind == b"RF64" and header[12:16] == b"ds64":
        return number(20, 28) + 8
    if kind == b"riff" and header[4:16] == _W64[4:]:
        return number(16, 24) if number(16, 24) < 1 << 62 else None  # all bits set: written to a pipe
    if kind == b"FORM" and len(header) >= 12:
        return number(4, 8, "big") + 8
    if kind == b".snd" and number(8, 12, "big") != 0xFFFFFFFF:
        return number(4, 8, "big") + number(8, 12, "big")
    if kind == b"caff":
        data = _find_chunk(header, 8, 8, "big")
        size = 0 if data is None else number(data + 4, data + 12, "big")
        return data + 12 + size if data is not None and size < 1 << 62 else None
    properties = header.find(_ASF_PROPERTIES) if header[:16] == _ASF else -1
    return number(properties + 40, properties + 48) or None if properties > 0 else None


def _find_chunk(header: bytes, first: int, size_bytes: int, order: Literal["little", "big"]) -> int | None:
    """Offset of the chunk ``data`` in a header; None if it is not found.

    The chunks are followed from one to the next, since the content of others may hold the letters ``data``.

    Args:
        header: first bytes of the file.
        first: offset of the first chunk.
        size_bytes: width of the chunk size field in bytes.
        order: byte order of that field.
    """
    while first + 4 + size_bytes <= len(header):
        if header[first : first + 4] == b"data":
            return first
        size = int.from_bytes(header[first + 4 : first + 4 + size_bytes], order)
        padding = size % 2 if size_bytes == 4 else 0
        first += 4 + size_bytes + size + padding
    return None


def id3_bytes(path: Path) -> int:
    """Total length in bytes of the ID3v2 tags at the beginning of a file."""
    first = 0
    with path.open("rb") as file:
        for _ in range(_MOST_TAGS):
            header = file.read(10)
            if header[:3] != b"ID3" or len(header) < 10:
                break
            first += 10 + sum((byte & 0x7F) << 7 * k for k, byte in enumerate(reversed(header[6:])))
            file.seek(first)
    return first


def mp3_is_cut(path: Path) -> bool:
    """Whether an mp3 file is shorter than its Xing, Info or VBRI header says.

    Without such a header an mp3 file does not give its length: the result is False. A header that gives the number of
    frames but not that of bytes cannot be compared with the file size: the result is True, and the caller has to
    compare the number of frames.
    """
    found = path.stat().st_size
    first = id3_bytes(path)
    with path.open("rb") as file:
        file.seek(first)
        header = file.read(_HEADER_BYTES)
    if header[:1] != b"\xff":
        return False
    if header[36:40] == b"VBRI":
        return first + int.from_bytes(header[46:50], "big") > found + 1
    xing = max(header.find(name, 0, 200) for name in (b"Xing", b"Info"))
    flags = int.from_bytes(header[xing + 4 : xing + 8], "big") if xing > 0 else 0
    n_bytes = int.from_bytes(header[xing + 12 : xing + 16], "big") if flags & 3 == 3 else 0
    return bool(flags & 1) and (not n_bytes or first + n_bytes > found + 1)
