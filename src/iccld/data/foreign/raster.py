"""Drawing of shapes into label maps. A pixel belongs to a polygon if its center lies inside.

OpenCV's ``fillPoly`` also draws all pixels that an edge touches, which would widen shapes by up to a pixel and shrink
holes. Polygons are therefore filled row by row here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, UInt8

from iccld.data.foreign.reading import REMEDY
from iccld.data.foreign.shapes import Area, Patch, Polygons, Ring, Runs, Shape
from iccld.errors import InputError
from iccld.labels import IGNORE

UNLABELED = 254
"""Value of pixels that no shape covers, in the arrays of ``rasterize``. There are at most 254 classes (0 to 253)."""
EMPTY = "shapes without a pixel in their image"
FAR = "shapes with coordinates of more than a million pixels"

_MOST_WORK = 1 << 34  # largest number of pixels of all shapes of an image, where overlaps count several times
_MOST_SHAPES = 1_000_000
_CHUNK = 1 << 20  # largest number of crossings that are computed at once
_FARTHEST = 1e6
_Size = tuple[int, int]
_Window = tuple[int, int, int, int]  # top, left, bottom, right


def rasterize(
    shapes: Iterable[Shape], size: _Size, indices: Mapping[str, int], dropped: Counter[str], where: str
) -> UInt8[np.ndarray, "h w"]:
    """Draws shapes in their order, so that later shapes cover earlier ones.

    Args:
        shapes: Shapes of one image.
        size: Height and width of the label map.
        indices: Class name → index in the label map.
        dropped: Shapes that cover no pixel are counted here.
        where: Name of the image, for messages.

    Returns:
        Label map with class indices, 255 for ignored pixels, and ``UNLABELED`` for all other pixels.

    Raises:
        InputError: The shapes have too many pixels or points in total, or a mask has another size than the image.
    """
    labels = np.full(size, UNLABELED, dtype=np.uint8)
    work = 0
    for number, shape in enumerate(shapes):
        work += _work(shape.area, size)
        if work > _MOST_WORK or number >= _MOST_SHAPES:
            raise InputError(f"{where}: its shapes have too many points or pixels to be drawn; simplify them")
        if isinstance(shape.area, Polygons) and any(
            np.abs(ring).max(initial=0) > _FARTHEST for ring in shape.area.rings
        ):
            dropped[FAR] += 1
            continue
        patch = _patch(shape.area, size, where)
        if patch is None or not patch.mask.any():
            dropped[EMPTY] += 1
            continue
        height, width = patch.mask.shape
        part = labels[patch.top : patch.top + height, patch.left : patch.left + width]
        part[patch.mask] = IGNORE if shape.name is None else indices[shape.name]
    return labels


def _work(area: Area, size: _Size) -> int:
    """Returns the approximate number of pixels and crossings that are computed for a shape."""
    if isinstance(area, Runs):
        return len(area.counts) + area.size[0] * area.size[1]
    if isinstance(area, Patch):
        return area.mask.size
    work = 0
    for ring in area.rings:
        top, left, bottom, right = _window(ring, size)
        rows = np.clip(ring[:, 1], 0, size[0])
        crossings = float(np.abs(np.diff(rows, append=rows[:1])).sum())
        work += len(ring) + int(crossings) + (bottom - top) * (right - left)
    return work


def _patch(area: Area, size: _Size, where: str) -> Patch | None:
    """Returns the pixels of a shape, cut at the border of the image, or ``None`` if there are none."""
    if isinstance(area, Polygons):
        return _of_polygons(area, size)
    if isinstance(area, Runs):
        if not (area.top or area.left or area.by_rows) and area.size != size:
            fault = f"a mask has {area.size[1]}×{area.size[0]} pixels, but the image {size[1]}×{size[0]}"
            raise InputError(f"{where}: {fault}; {REMEDY}")
        patch = _of_runs(area)
    else:
        patch = area
    if patch is None:
        return None
    top, left = max(patch.top, 0), max(patch.left, 0)
    bottom, right = size[0] - patch.top, size[1] - patch.left
    mask = patch.mask[top - patch.top : max(bottom, 0), left - patch.left : max(right, 0)]
    return Patch(mask, top, left) if mask.size else None


def _of_runs(runs: Runs) -> Patch | None:
    """Decodes run lengths. Only the lines (columns or rows) between the first and the last 1 are decoded."""
    height, width = runs.size
    line = width if runs.by_rows else height
    ends = np.cumsum(runs.counts)
    ones = np.flatnonzero(runs.counts[1::2]) * 2 + 1
    if not len(ones):
        return None
    first, last = int(ones[0]), int(ones[-1])
    begin, end = int(ends[first - 1]) // line, -(-int(ends[last]) // line)
    before, after = int(ends[first - 1]) - begin * line, end * line - int(ends[last])
    lengths = np.concatenate([[before], runs.counts[first : last + 1], [after]])
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    lines = flat.reshape(end - begin, line)
    if runs.by_rows:
        return Patch(lines, runs.top + begin, runs.left)
    return Patch(lines.T, runs.top, runs.left + begin)


def _of_polygons(polygons: Polygons, size: _Size) -> Patch | None:
    unique = {ring.tobytes(): ring for ring in polygons.rings}
    windows = [(ring, window) for ring in unique.values() if (window := _window(ring, size))[2] > window[0]]
    windows = [(ring, window) for ring, window in windows if window[3] > window[1]]
    if not windows:
        return None
    if len(windows) == 1:
        ((ring, window),) = windows
        return Patch(_filled(ring, window), window[0], window[1])
    top, left = (min(window[i] for _, window in windows) for i in (0, 1))
    bottom, right = (max(window[i] for _, window in windows) for i in (2, 3))
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for ring, window in sorted(windows, key=lambda item: -_enclosed(item[0])):
        inner = _filled(ring, window)
        part = mask[window[0] - top : window[2] - top, window[1] - left : window[3] - left]
        if part[inner].all():
            part &= ~inner
        else:
            part |= inner
    return Patch(mask, top, left)


def _enclosed(ring: Ring) -> float:
    """Returns the area of a polygon in square pixels."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _window(ring: Ring, size: _Size) -> _Window:
    """Returns the rows and columns of all pixels whose centers lie in the bounding box of a polygon."""
    if len(ring) < 3:
        return 0, 0, 0, 0
    low, high = (np.ceil(bound - 0.5) for bound in (ring.min(axis=0), ring.max(axis=0)))
    left, top = (int(min(max(low[i], 0), size[1 - i])) for i in (0, 1))
    right, bottom = (int(min(max(high[i], 0), size[1 - i])) for i in (0, 1))
    return top, left, bottom, right


def _filled(ring: Ring, window: _Window) -> Bool[np.ndarray, "h w"]:
    """Fills a polygon by the even-odd rule.

    For each row, the edges that cross the row's center line are found. A pixel is inside if the number of crossings to
    the left of its center is odd.
    """
    top, left, bottom, right = window
    ends = np.roll(ring, -1, axis=0)
    is_down = (ring[:, 1] <= ends[:, 1])[:, None]
    # Both directions of an edge must give the same crossings, so that a bridge to a hole and back cancels out.
    (x0, y0), (x1, y1) = np.where(is_down, ring, ends).T, np.where(is_down, ends, ring).T
    first = np.clip(np.ceil(y0 - 0.5), top, bottom).astype(np.int64)
    count = np.clip(np.ceil(y1 - 0.5), top, bottom).astype(np.int64) - first
    width = right - left + 1
    toggles = np.zeros((bottom - top) * width, dtype=np.uint8)
    total = np.cumsum(count)
    begin = 0
    while begin < len(count):
        done = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + _CHUNK, side="right")))
        num = count[begin:end]
        edge = np.repeat(np.arange(begin, end), num)
        row = first[edge] + np.arange(len(edge)) - np.repeat(total[begin:end] - num - done, num)
        slope = (row + 0.5 - y0[edge]) / (y1[edge] - y0[edge])
        x = x0[edge] + slope * (x1[edge] - x0[edge])
        column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64) - left
        np.add.at(toggles, (row - top) * width + column, np.uint8(1))
        begin = end
    lines = np.add.accumulate(toggles.reshape(-1, width), axis=1, dtype=np.uint8)[:, :-1]
    return np.asarray(lines & 1 == 1)
