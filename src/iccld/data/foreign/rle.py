"""Decoding of run lengths: COCO's lists and strings, CVAT's lists, and the brush masks of Label Studio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from iccld.data.foreign.reading import REMEDY
from iccld.data.foreign.shapes import Runs
from iccld.data.picture_header import MOST_PIXELS
from iccld.errors import InputError

_MOST_GROUPS = 12  # groups of five bits in one number of a compressed COCO string; 12 groups hold 60 bits


def coco_runs(value: Any, where: str) -> Runs:
    """Returns the mask of a COCO object with ``size`` and ``counts``, where ``counts`` is a list or a string.

    Raises ``InputError`` if the object is invalid or its run lengths do not add up to its size.
    """
    size, counts = value.get("size"), value.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)):
        raise InputError(f"{where}: the size of its run lengths is not [height, width]; {REMEDY}")
    if isinstance(counts, str):
        counts = _numbers_of_string(counts, where)
    return make_runs(counts, (size[0], size[1]), where)


def make_runs(
    counts: Any, size: tuple[int, int], where: str, *, top: int = 0, left: int = 0, by_rows: bool = False
) -> Runs:
    """Returns checked run lengths. Raises ``InputError`` if they are invalid or do not add up to ``size``."""
    if not isinstance(counts, list) or not all(type(n) is int and 0 <= n < 1 << 40 for n in counts):
        raise InputError(f"{where}: its run lengths are not a list of whole numbers from 0; {REMEDY}")
    total, pixels = sum(counts), size[0] * size[1]
    if pixels > MOST_PIXELS:
        raise InputError(f"{where}: its mask has {size[1]}×{size[0]} pixels, too many to be read; {REMEDY}")
    if total != pixels:
        fault = f"its run lengths add up to {total} pixels, but {size[1]}×{size[0]} pixels are {pixels}"
        raise InputError(f"{where}: {fault}; {REMEDY}")
    return Runs(np.array(counts, dtype=np.int64), size, top, left, by_rows)


def _numbers_of_string(text: str, where: str) -> list[int]:
    """Decodes COCO's compressed run lengths.

    Each character holds six bits, from the lowest: five bits of a number, and one bit that tells whether the number
    continues. From the fourth number on, each number is the difference to the number two places before.
    """
    counts: list[int] = []
    number = groups = 0
    for code in text.encode("utf-8"):
        bits = code - 48
        if not 0 <= bits < 64 or groups >= _MOST_GROUPS:
            raise InputError(f"{where}: its compressed run lengths are damaged; {REMEDY}")
        number |= (bits & 31) << (5 * groups)
        groups += 1
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << (5 * groups)
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = groups = 0
    if groups:
        raise InputError(f"{where}: its compressed run lengths are cut off; {REMEDY}")
    return counts


def studio_mask(data: Any, size: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """Returns the mask of a brush of Label Studio. ``data`` is the list of bytes in ``rle``.

    The bytes hold RGBA pixels as runs of equal values and as plain values. A pixel belongs to the mask if its alpha is
    not 0. Raises ``InputError`` if the bytes are invalid or do not have the size of the image.
    """
    if not isinstance(data, list) or not all(type(n) is int and 0 <= n < 256 for n in data):
        raise InputError(f"{where}: rle is not a list of bytes; {REMEDY}")
    pixels = size[0] * size[1]
    bits = _Bits(data, where)
    number, word, *sizes = (bits.take(32), bits.take(5) + 1, *(bits.take(4) + 1 for _ in range(4)))
    if number != 4 * pixels or pixels > MOST_PIXELS or word > 8:
        fault = f"its brush mask has {number} values, but {size[1]}×{size[0]} RGBA pixels are {4 * pixels}"
        raise InputError(f"{where}: {fault}; {REMEDY}")
    values = np.zeros(number, dtype=np.uint8)
    place = 0
    while place < number:
        is_run = bits.take(1)
        end = place + 1 + bits.take(sizes[bits.take(2)])
        if end > number:
            raise InputError(f"{where}: its brush mask has too many values; {REMEDY}")
        values[place:end] = bits.take(word) if is_run else bits.take_many(word, end - place)
        place = end
    return np.asarray(values.reshape(*size, 4)[:, :, 3] > 0)


class _Bits:
    """Reader of numbers of any number of bits from a list of bytes, from the highest bit."""

    def __init__(self, data: Sequence[int], where: str) -> None:
        self._data, self._where, self._place = bytes(data), where, 0

    def take(self, count: int) -> int:
        first, end = self._place, self._place + count
        self._require(end)
        part = self._data[first // 8 : -(-end // 8)]
        self._place = end
        return int.from_bytes(part) >> (-end % 8) & ((1 << count) - 1)

    def take_many(self, count: int, repeats: int) -> UInt8[np.ndarray, "n"]:
        self._require(self._place + count * repeats)
        return np.array([self.take(count) for _ in range(repeats)], dtype=np.uint8)

    def _require(self, end: int) -> None:
        if end > 8 * len(self._data):
            raise InputError(f"{self._where}: its brush mask is cut off; {REMEDY}")
