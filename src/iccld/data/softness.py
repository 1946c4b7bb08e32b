"""Detects label maps that were compressed, blurred or interpolated.

In a *hard* (original) label map, values fill areas that meet without other values in between. In a *soft* map, after
JPEG compression, blurring, anti-aliasing or scaling with interpolation, edges have values that belong to no class.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from iccld.labels import IGNORE

_MOST_PIXELS = 1 << 20
_REACH = 16  # largest distance in pixels from a pixel of a soft edge to the areas on both sides
_FEW_STRAYS = 0.05
"""Minimum ratio of stray pixels (whose values fill no area) to edge pixels in a soft map. In hard maps, tiny objects
cause fewer stray pixels."""
_MANY_STRAYS = 0.3
_EXPLAINED = 0.6  # minimum fraction of the stray pixels that must look like pixels of a soft edge
_GRAYS = 40
"""Minimum range (maximum − minimum) of gray values or colors. Values with a smaller range are treated as ids, and small
differences between ids mean nothing."""
_THICK = 6
"""Minimum length (in pixels) of an area in a row or column. A shorter run of equal pixels may belong to a soft edge."""
_FEWEST_EDGES = 20

Plane = Integer[np.ndarray, "h w"]


@dataclass(frozen=True)
class Softness:
    """Properties of a soft label map.

    Attributes:
        num_values: Number of different ids, gray values or RGB colors.
        levels: Sorted values that fill areas, in contrast to values that occur only at edges.
        share: Fraction of the pixels (from 0 to 1) whose value is in ``levels``.
        is_ramp: Whether most pixels with other values have a value between the values of two nearby areas, as after
            blurring or scaling. Otherwise, the probable cause is JPEG compression or smoothing.
    """

    num_values: int
    levels: tuple[int | tuple[int, int, int], ...]
    share: float
    is_ramp: bool

    @property
    def text(self) -> str:
        """Clause for messages. The clause describes the values and names their probable cause."""
        shown = ", ".join(map(str, self.levels[:4])) + (", …" if len(self.levels) > 4 else "")
        flat = f"only {len(self.levels)} of its {self.num_values} values fill areas ({shown})"
        if not self.levels:
            flat = f"none of its {self.num_values} values fills an area"
        causes = ("JPEG compression or smoothing", "blurring, anti-aliasing or scaling with interpolation")
        return f"{flat} and the others lie along edges, as {causes[self.is_ramp]} leaves them"


REMEDY = "take the label maps as they were drawn, save them as PNG and scale them with nearest neighbor only"
"""Advice for messages about a soft label map."""


def advise(label: Plane | Integer[np.ndarray, "h w 3"], otherwise: str) -> str:
    """Returns advice on a label map with an unknown value. If the map is not soft, the advice is ``otherwise``."""
    softness = judge(label)
    return otherwise if softness is None else f"{softness.text}; {REMEDY}"


def alpha_tells(pixels: Integer[np.ndarray, "h w *c"], alpha: Integer[np.ndarray, "h w"]) -> bool:
    """Returns whether pixels of equal value or color differ in alpha. If so, the mask may be in the alpha channel."""
    if alpha.size == 0 or (alpha == alpha.flat[0]).all():
        return False
    values, index = _index(pixels.reshape(*alpha.shape, -1).astype(np.int32))
    pairs = np.unique(index.astype(np.int64) << 16 | alpha)
    return len(pairs) > len(values)


def judge(label: Plane | Integer[np.ndarray, "h w 3"]) -> Softness | None:
    """Detects from the pixels whether a label map is soft.

    Returns ``None`` if the label map is hard or the pixels are ambiguous. If the label map is large, only the part with
    the most edges is checked.
    """
    planes = _busiest_part(label).astype(np.int32)
    planes = planes[..., None] if planes.ndim == 2 else planes
    values, index = _index(planes)
    num = len(values)
    if num <= 2 or min(index.shape) < 3:
        return None
    numbers = index.astype(np.float32)  # OpenCV's morphology needs float32, which is exact up to 2²⁴
    centers = np.pad(_is_uniform(numbers, cv2.MORPH_RECT)[1:-1, 1:-1].astype(np.uint8), 1)
    flat = cv2.dilate(centers, np.ones((3, 3), np.uint8)) > 0
    totals, filled = np.bincount(index.ravel(), minlength=num), np.bincount(index[flat], minlength=num)
    is_level = filled >= np.maximum(totals / 4, 1)
    stray = ~is_level[index]
    num_strays, num_edges = int(stray.sum()), int((~_is_uniform(numbers, cv2.MORPH_CROSS)).sum())
    levels = tuple(v[0] if len(v) == 1 else (v[0], v[1], v[2]) for v in values[is_level].tolist())
    share = 1 - num_strays / stray.size
    named = values[(values != IGNORE).any(axis=1)] if values.shape[1] == 1 else values
    spans = np.ptp(named, axis=0)
    ramp, near = _likeness(planes, flat & ~stray, np.maximum(spans // 8, 1))
    has_grays = bool((spans >= _GRAYS).any())
    if num_strays >= _FEW_STRAYS * num_edges and num - len(levels) >= 2:
        explained = (ramp | ((near | _is_alone(index)) & has_grays)) & stray
        if explained.sum() >= _EXPLAINED * num_strays:
            return Softness(num, levels, share, is_ramp=bool((ramp & stray).sum() >= 0.7 * num_strays))
        if num_strays >= _MANY_STRAYS * num_edges and num > 4 and has_grays and _has_small_steps(planes):
            return Softness(num, levels, share, is_ramp=False)
    if planes.shape[2] > 1 or num < 4 or not _passes_between(planes[..., 0]):
        return None
    return Softness(num, levels, share, is_ramp=True)


def _busiest_part(label: np.ndarray) -> np.ndarray:
    """Returns the part of a large label map that contains the most edges. A small label map is returned whole."""
    height, width = label.shape[:2]
    if height * width <= _MOST_PIXELS:
        return label
    side = int(_MOST_PIXELS**0.5)
    tall, wide = min(height, max(side, _MOST_PIXELS // width)), min(width, max(side, _MOST_PIXELS // height))
    changed = np.zeros((height, width), np.float32)
    changed[:, 1:] = (label[:, 1:] != label[:, :-1]).reshape(height, width - 1, -1).any(axis=2)
    sums = cv2.boxFilter(
        changed, -1, (wide, tall), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
    )[: height - tall + 1, : width - wide + 1]
    top, left = np.unravel_index(np.argmax(sums), sums.shape)
    return label[top : top + tall, left : left + wide]


def _index(planes: Int32[np.ndarray, "h w c"]) -> tuple[Int32[np.ndarray, "k c"], Int32[np.ndarray, "h w"]]:
    """Returns the distinct values, sorted, and for each pixel the index of its value."""
    base = np.array([1 << 16 * i for i in reversed(range(planes.shape[2]))], np.int64)
    packed = planes.astype(np.int64) @ base
    found, places = np.unique(packed, return_inverse=True)
    values = np.stack([found // b % 65536 for b in base.tolist()], axis=1)
    return values.astype(np.int32), places.reshape(packed.shape).astype(np.int32)


def _is_uniform(numbers: Float32[np.ndarray, "h w"], shape: int) -> Bool[np.ndarray, "h w"]:
    """Returns for each pixel whether all neighbors in the 3×3 ``shape`` (rectangle or cross) equal the pixel."""
    kernel = cv2.getStructuringElement(shape, (3, 3))
    return np.asarray(cv2.erode(numbers, kernel) == cv2.dilate(numbers, kernel))


def _is_alone(index: Plane) -> Bool[np.ndarray, "h w"]:
    """Returns for each pixel whether its eight neighbors all have other values."""
    height, width = index.shape
    padded = np.pad(index, 1, constant_values=-1)
    offsets = [(dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
    return ~np.any([padded[dy : height + dy, dx : width + dx] == index for dy, dx in offsets], axis=0)


def _likeness(
    planes: Int32[np.ndarray, "h w c"], area: Bool[np.ndarray, "h w"], tolerance: Int32[np.ndarray, " c"]
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Returns two masks of pixels that can belong to a soft edge.

    The first mask contains pixels whose values lie between the values of the nearest areas on two opposite sides (left
    and right, or above and below). The second mask contains pixels whose values differ from the value of a nearby area
    by at most ``tolerance``.
    """
    sides = [np.rot90(_last_seen(np.rot90(planes, k), np.rot90(area, k)), -k) for k in range(4)]
    ramp, near = np.zeros(area.shape, bool), np.zeros(area.shape, bool)
    for one, other in ((sides[0], sides[2]), (sides[1], sides[3])):
        known = (one[..., 0] >= 0) & (other[..., 0] >= 0)
        least, most = np.minimum(one, other), np.maximum(one, other)
        inside = ((planes >= least) & (planes <= most)).all(axis=2)
        ramp |= known & inside & (planes != one).any(axis=2) & (planes != other).any(axis=2)
    for side in sides:
        near |= (side[..., 0] >= 0) & (np.abs(planes - side) <= tolerance).all(axis=2)
    return ramp, near


def _last_seen(planes: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Searches axis 0 backward from each pixel for a pixel of ``area``, and returns the values of the found pixels.

    If no pixel of ``area`` is found within ``_REACH`` pixels, the value is −1.
    """
    places = np.arange(len(area))[:, None]
    last = np.maximum.accumulate(np.where(area, places, -_REACH - 1), axis=0)
    seen = np.take_along_axis(planes, np.maximum(last, 0)[..., None], axis=0)
    return np.where((places - last <= _REACH)[..., None], seen, -1)


def _has_small_steps(planes: Int32[np.ndarray, "h w c"]) -> bool:
    """Returns whether most changes between neighboring pixels are at most an eighth of the range of values."""
    tolerance = np.ptp(planes, axis=(0, 1)) / 8
    steps = [np.abs(np.diff(planes, axis=axis)).reshape(-1, planes.shape[2]) for axis in (0, 1)]
    changes = np.concatenate([step[step.any(axis=1)] for step in steps])
    return int((changes <= tolerance).all(axis=1).sum()) > len(changes) / 2


def _passes_between(plane: Plane) -> bool:
    """Returns whether the label map was probably interpolated. This is possible although every value is a valid id.

    The result is true if the values between two areas usually change in several monotone steps instead of one. This
    must be the case for at least three different pairs of area ids.
    """
    through: set[tuple[int, int]] = set()
    num_through = num_direct = 0
    for rows in (plane, plane.T):
        line = np.pad(rows, ((0, 0), (0, 1)), constant_values=-1).ravel()
        starts = np.flatnonzero(np.append(True, line[1:] != line[:-1]))
        lengths, values = np.diff(np.append(starts, len(line))), line[starts]
        thick = np.flatnonzero((lengths >= _THICK) & (values >= 0))
        rising = np.append(0, np.cumsum(values[1:] > values[:-1]))
        breaks = np.cumsum(values < 0)
        one, other = thick[:-1], thick[1:]
        far = (np.abs(values[one] - values[other]) >= 2) & (breaks[one] == breaks[other])
        ups, steps = rising[other] - rising[one], other - one
        direct, monotone = far & (steps == 1), far & (steps > 1) & ((ups == 0) | (ups == steps))
        num_direct, num_through = num_direct + int(direct.sum()), num_through + int(monotone.sum())
        pairs = np.sort(np.stack([values[one], values[other]], axis=1)[monotone], axis=1)
        through.update(map(tuple, np.unique(pairs, axis=0).tolist()))
    return num_through >= max(_FEWEST_EDGES, 4 * num_direct) and len(through) >= 3
