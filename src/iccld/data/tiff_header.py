"""The pages of a TIFF file, by their tags: sizes, channels and kinds of numbers (TIFF 6.0 and BigTIFF)."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT, _SUBFILE = 274, 277, 322, 323, 339, 254
_NEEDED = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC),
    *(_ORIENTATION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT, _SUBFILE),
)
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_ENTRIES = 4096  # of one page
_MOST_PAGES = 64  # that are looked at
_MOST_VALUES = 64  # of one tag

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
"""Photometric interpretations."""
_LOSSY = frozenset((6, 7, 33003, 33004, 33005, 34712, 34887, 34892, 50001, 50002))  # JPEG and its like


@dataclass(frozen=True)
class TiffPage:
    """A page.

    Attributes:
        size: height and width as stored.
        orientation: as of EXIF, 1 to 8.
        tile: height and width of a tile; 0, 0 if there are none.
        samples: channels.
        bits: of each channel; 0 if they differ.
        kind: ``unsigned``, ``signed``, ``float`` or ``other`` numbers.
        photometric: how the channels make colors, as numbered by the standard.
        lossy: whether it is compressed with loss.
        reduced: whether it repeats another page at a smaller size, or is a mask of one.
    """

    size: tuple[int, int]
    orientation: int
    tile: tuple[int, int]
    samples: int
    bits: int
    kind: str
    photometric: int
    lossy: bool
    reduced: bool


def read_pages(file: BufferedIOBase) -> list[TiffPage]:
    """Reads the first pages' tags; a file has as many pages, or more than 64.

    Raises:
        ValueError: the file is damaged, or says one thing twice.
    """
    try:
        return _read_pages(file)
    except struct.error as error:
        raise ValueError("is truncated or damaged") from error


def _read_pages(file: BufferedIOBase) -> list[TiffPage]:
    file.seek(0)
    head = file.read(16)
    if head[:2] not in (b"II", b"MM"):
        raise ValueError("is no TIFF file")
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    (place,) = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])
    pages: list[TiffPage] = []
    seen: set[int] = set()
    while place and len(pages) < _MOST_PAGES:
        if place in seen:
            raise ValueError("is damaged (its pages follow one another in a circle)")
        seen.add(place)
        tags, place = _read_page(file, place, order, big)
        pages.append(_page(tags))
    return pages


def _read_page(
    file: BufferedIOBase, place: int, order: str, big: bool
) -> tuple[Mapping[int, Sequence[int]], int]:
    """The needed tags of the page at a place of the file, and the place of the next page."""
    count_form, entry_form, place_form = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    entry_form, place_form = order + entry_form, order + place_form
    _seek(file, place)
    (count,) = struct.unpack(order + count_form, file.read(struct.calcsize(order + count_form)))
    if not 0 < count <= _MOST_ENTRIES:
        raise ValueError(f"is damaged ({count} tags on a page)")
    size = struct.calcsize(entry_form)
    block = file.read(size * count)
    entries = [struct.unpack_from(entry_form, block, size * index) for index in range(count)]
    tail = file.read(struct.calcsize(place_form))
    # The place of the next page is missing at the end of some files.
    following = struct.unpack(place_form, tail)[0] if len(tail) == struct.calcsize(place_form) else 0
    tags: dict[int, Sequence[int]] = {}
    for tag, kind, number, value in entries:
        if tag not in _NEEDED or kind not in _TYPES:
            continue
        if tag in tags:  # decoders differ in which of the two they believe
            raise ValueError(f"is damaged (tag {tag} is there twice)")
        if not 0 < number <= _MOST_VALUES:
            number = min(max(number, 0), _MOST_VALUES)
        form = f"{order}{number}{_TYPES[kind]}"
        length = struct.calcsize(form)
        if length > len(value):
            _seek(file, struct.unpack(place_form, value)[0])
            value = file.read(length)
        tags[tag] = struct.unpack(form, value[:length])
    return tags, following


def _seek(file: BufferedIOBase, place: int) -> None:
    if place >= 1 << 62:
        raise ValueError("is truncated or damaged")
    file.seek(place, os.SEEK_SET)


def _page(tags: Mapping[int, Sequence[int]]) -> TiffPage:
    def first(tag: int, default: int) -> int:
        values = tags.get(tag, ())
        return values[0] if values else default

    bits = set(tags.get(_BITS, (1,)))
    kinds = set(tags.get(_FORMAT, (1,)))
    kind = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned"}.get(max(kinds, default=1), "other")
    samples = first(_SAMPLES, 1)
    orientation = first(_ORIENTATION, 1)
    return TiffPage(
        size=(first(_HEIGHT, 0), first(_WIDTH, 0)),
        orientation=orientation if orientation in range(1, 9) else 1,
        tile=(first(_TILE_HEIGHT, 0), first(_TILE_WIDTH, 0)),
        samples=samples,
        bits=bits.pop() if len(bits) == 1 else 0,
        kind=kind if len(kinds) == 1 else "other",
        photometric=first(_PHOTOMETRIC, BLACK_IS_ZERO),
        lossy=first(_COMPRESSION, 1) in _LOSSY,
        reduced=bool(first(_SUBFILE, 0) & 0b101),
    )
