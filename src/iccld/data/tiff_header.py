"""Reads the tags (metadata fields) of each page (picture) in a TIFF file (TIFF 6.0). EXIF data have the same format."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BufferedIOBase

Tags = Mapping[int, tuple[int, ...]]

REDUCED, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 254, 256, 257, 258, 259, 262, 274
SAMPLES, TILE_WIDTH, TILE_HEIGHT, FORMAT = 277, 322, 323, 339
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_PAGES = 64  # largest number of pages that are read per file
_MOST_VALUES = 64  # largest number of values that are read per tag
_MOST_BYTES = 64 << 20  # largest total size of a page's tags in bytes, limited because Pillow reads all tags

LOSSY = frozenset((6, 7, 33003, 33004, 33005, 34712, 34887, 34892, 50001, 50002))
"""Values of the tag ``COMPRESSION`` for lossy methods, such as JPEG."""
_CHANNELS = {0: (1, 2), 1: (1, 2), 2: (3, 4), 3: (1,), 5: (4,), 6: (3,)}
"""Photometric interpretation → possible numbers of channels.

The photometric interpretations are 0 (gray, 0 is white), 1 (gray, 0 is black), 2 (RGB), 3 (palette), 5 (CMYK) and
6 (YCbCr).
"""
_KINDS = {1: "integers", 2: "signed integers", 3: "floating-point numbers", 4: "integers"}


def read_pages(file: BufferedIOBase) -> list[Tags]:
    """Reads the tags of each page. After 64 pages, further pages are ignored.

    Raises ``ValueError`` or ``struct.error`` if the file is damaged or truncated, or a page contains a tag twice.
    """
    file.seek(0)
    head = file.read(8)
    order = "<" if head[:2] == b"II" else ">"
    number, place = struct.unpack(order + "2xHI", head)
    if number != 42:
        raise ValueError("is no TIFF file")
    pages: list[Tags] = []
    while place and len(pages) < _MOST_PAGES:
        tags, place = _read_page(file, place, order)
        pages.append(tags)
    return pages


def _read_page(file: BufferedIOBase, place: int, order: str) -> tuple[Tags, int]:
    """Returns the needed tags of the page at byte offset ``place``, and the byte offset of the next page.

    The returned offset is 0 if there is no next page.
    """
    file.seek(place)
    (count,) = struct.unpack(order + "H", file.read(2))
    block, tail = file.read(12 * count), file.read(4)
    tags: dict[int, tuple[int, ...]] = {}
    total = 0
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", block):
        total += number * _SIZES.get(kind, 0)
        if not REDUCED <= tag <= FORMAT or kind not in _TYPES:
            continue
        form = f"{order}{min(number, _MOST_VALUES)}{_TYPES[kind]}"
        length = struct.calcsize(form)
        if length > 4:
            file.seek(*struct.unpack(order + "I", value))
            value = file.read(length)
        if tag in tags:  # decoders differ in which of the two tags they use
            raise ValueError(f"tag {tag} is there twice")
        tags[tag] = struct.unpack(form, value[:length]) or (0,)
    if len(block) < 12 * count or total > _MOST_BYTES:
        raise ValueError("its tags are incomplete, or hold too much")
    # In some files, the 4-byte offset of the next page is missing at the end.
    return tags, struct.unpack(order + "I", tail)[0] if len(tail) == 4 else 0


def first(page: Tags, tag: int, default: int) -> int:
    """Returns the first value of a tag, or ``default`` if the page has no such tag."""
    return page.get(tag, (default,))[0]


def orientation(pages: Sequence[Tags]) -> int:
    """Returns the EXIF orientation (1 to 8) of the first page. Returns 1 if there is no valid orientation."""
    found = first(pages[0], ORIENTATION, 1) if pages else 1
    return found if 1 <= found <= 8 else 1


def find_fault(page: Tags, *, is_label: bool, most_pixels: int) -> str:
    """Returns a clause that explains why a page is refused. Returns an empty string if the page is supported.

    Label maps may contain signed and unsigned integers of at most 32 bits. Images must contain unsigned integers of at
    most 16 bits. For images with other numbers, the file does not define which values are black and white.
    """
    bits, kinds = set(page.get(BITS, (1,))), set(page.get(FORMAT, (1,)))
    photometric, samples = first(page, PHOTOMETRIC, 1), first(page, SAMPLES, 1)
    known_bits, known_kinds = ({1, 2, 4, 8, 16, 32}, {1, 2, 4}) if is_label else ({1, 2, 4, 8, 16}, {1, 4})
    if not (bits <= known_bits and kinds <= known_kinds and len(bits) == len(kinds) == 1):
        return f"of {max(bits)}-bit {_KINDS.get(max(kinds), 'unusual numbers')}"
    if samples not in _CHANNELS.get(photometric, ()):
        return f"of {samples} channels that are not declared as RGB, gray, palette or CMYK"
    if is_label and photometric == 0 and bits != {1}:
        return "in which 0 is white, so its ids may be meant inverted"
    too_large = first(page, TILE_WIDTH, 0) * first(page, TILE_HEIGHT, 0) > most_pixels
    return "of tiles that are too large to be read" if too_large else ""
