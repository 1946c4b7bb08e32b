"""Whether an image file is whole: truncation and damage that decoders pass over in silence."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from iccld.errors import InputError
from iccld.files import open_regular, printable, read_bounded

MOST_BYTES = 1 << 30
"""Size of the largest picture file that is read."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TAIL_BYTES = 4096


def read_bytes(path: Path) -> bytes:
    """Reads the whole file of a picture.

    Raises:
        InputError: it is missing, empty, no regular file, larger than ``MOST_BYTES`` or cannot be read.
    """
    data = read_bounded(path, MOST_BYTES)
    if not data:
        raise InputError(f"{printable(str(path))}: is empty (0 bytes); download or copy it again")
    return data


def check_ending(path: str | os.PathLike[str]) -> None:
    """Checks, reading only the last bytes, that a PNG or JPEG file is not truncated; other formats pass.

    Raises:
        InputError: the file is missing, empty or cut off.
    """
    path = Path(path)
    with open_regular(path) as handle:
        head = handle.read(8)
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - _TAIL_BYTES))
        tail = handle.read(_TAIL_BYTES)
    cut_png = head == PNG_SIGNATURE and b"IEND" not in tail
    cut_jpeg = head.startswith(JPEG_SIGNATURE) and b"\xff\xd9" not in tail
    # Much data after the end marker is unusual but legal: the thorough check judges files that seem cut off.
    if size == 0 or cut_png or cut_jpeg:
        verify(path, read_bytes(path))


def verify(path: Path, data: bytes) -> None:
    """Finds truncation and damage of PNG and JPEG that decoders answer with a partly gray image.

    Raises:
        InputError: the content is truncated or, for PNG, differs from its checksums.
    """
    if data.startswith(PNG_SIGNATURE):
        _verify_png(path, data)
    elif data.startswith(JPEG_SIGNATURE):
        _verify_jpeg(path, data)


def without_extras(data: bytes) -> bytes:
    """A whole PNG without texts, profiles and what else is not needed for its pixels.

    Decoders unpack such chunks, which may be bombs, and print warnings of those that they do not like.
    """
    kept = [data[: len(PNG_SIGNATURE)]]
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        following = position + 12 + length
        if kind in _PIXEL_CHUNKS:
            kept.append(data[position:following])
        if kind == b"IEND":
            break
        position = following
    return b"".join(kept)


def _verify_png(path: Path, data: bytes) -> None:
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if crc != zlib.crc32(memoryview(data)[position + 4 : end - 4]):
            raise InputError(
                f"{printable(str(path))}: PNG is damaged (wrong checksum); download or copy it again"
            )
        if kind == b"IEND":
            return
        position = end
    raise InputError(
        f"{printable(str(path))}: PNG is truncated after {len(data)} bytes; download or copy it again"
    )


def _verify_jpeg(path: Path, data: bytes) -> None:
    # Walk the header segments, so that the end marker of an embedded thumbnail is not taken for the image's.
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA and data.find(b"\xff\xd9", position) >= 0:
            return
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        position += 2 + length
    raise InputError(
        f"{printable(str(path))}: JPEG is truncated after {len(data)} bytes; download or copy it again"
    )
