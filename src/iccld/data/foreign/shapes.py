"""The common form of all annotation formats: images with an ordered list of shapes, each of one class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from iccld.data.foreign.reading import REMEDY
from iccld.data.image_files import Color
from iccld.errors import InputError
from iccld.escaping import shortened

Ring = Float64[np.ndarray, "_ 2"]

_MOST_CORNERS = 4096


@dataclass(frozen=True)
class Polygons:
    """Polygons of one annotation, as (x, y) in pixels. The upper left corner of the image is (0, 0).

    The polygons are united, from the largest to the smallest. A polygon whose pixels are all covered by larger
    polygons of the same annotation is a hole. Each single polygon is filled by the even-odd rule.
    """

    rings: tuple[Ring, ...]


@dataclass(frozen=True)
class Runs:
    """Run lengths of 0 and 1 in turn, which begin with 0.

    ``size`` is the (height, width) of the mask. The mask's first pixel is at ``top`` and ``left`` in the image. The
    order is by columns (as in COCO) or, with ``by_rows``, by rows (as in CVAT).
    """

    counts: Int64[np.ndarray, "n"]
    size: tuple[int, int]
    top: int = 0
    left: int = 0
    by_rows: bool = False


@dataclass(frozen=True)
class Patch:
    """A mask whose first pixel is at ``top`` and ``left`` in the image."""

    mask: Bool[np.ndarray, "h w"]
    top: int = 0
    left: int = 0


Area = Polygons | Runs | Patch


@dataclass(frozen=True)
class Shape:
    """The pixels of one annotation. ``name`` is the class, or ``None`` for pixels that are ignored (255)."""

    name: str | None
    area: Area


Load = Callable[[], Iterable[Shape]]


@dataclass
class AnnotatedImage:
    """An image and its annotations.

    Attributes:
        name: Path of the image relative to the data set's folder, with ``/`` as the separator.
        split: ``train``, ``val`` or ``test``.
        where: Name of the annotation file, for messages.
        size: Height and width according to the annotation file, or ``None`` if it does not state them.
        loads: Functions that return the shapes, in the order of drawing. Large masks are decoded only then.
    """

    name: str
    split: str
    where: str
    size: tuple[int, int] | None
    loads: list[Load] = field(default_factory=list)


@dataclass
class AnnotationSet:
    """All annotations of a folder in one format.

    Attributes:
        title: Name of the format, for messages.
        classes: Class names in the order of the format, each with its color or ``None``.
        images: (split, name of the image) → annotated image.
        dropped: What could not be taken over → how often. The keys are plural nouns.
        notes: Further sentences for the user.
    """

    title: str
    classes: dict[str, Color | None] = field(default_factory=dict)
    images: dict[tuple[str, str], AnnotatedImage] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, split: str, where: str, size: tuple[int, int] | None, load: Load) -> None:
        """Adds the annotations of an image. Annotations from several files are drawn in the order of the calls."""
        image = self.images.setdefault((split, name), AnnotatedImage(name, split, where, size))
        if size is not None and image.size not in (None, size):
            raise InputError(f"{where}: {name} has another size than in {image.where}; export both anew")
        image.size = image.size or size
        image.loads.append(load)


def to_points(value: Any, where: str) -> Ring:
    """Returns a list of [x, y] pairs, or a flat list x, y, x, y, …, as an array of shape (n, 2).

    Raises ``InputError`` for anything but finite numbers in pairs.
    """
    try:
        points = np.array(value)
        fits = points.dtype.kind in "iuf" and points.size % 2 == 0 and points.ndim in (1, 2)
        fits = fits and (points.ndim == 1 or points.shape[1] == 2) and bool(np.isfinite(points).all())
    except (ValueError, OverflowError):
        fits = False
    if not fits and value != []:
        raise InputError(f"{where}: {shortened(value)} are no finite x, y pairs; {REMEDY}")
    return np.array(value, dtype=np.float64).reshape(-1, 2)


def rectangle(
    left: float, top: float, right: float, bottom: float, degrees: float = 0.0, *, around_corner: bool = False
) -> Polygons:
    """Returns a rectangle. It is rotated clockwise by ``degrees`` around its center or its upper left corner."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)
    pivot = corners[0] if around_corner else corners.mean(axis=0)
    return Polygons((_turned(corners - pivot, degrees) + pivot,))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Polygons:
    """Returns an ellipse as a polygon whose error is far below a pixel. It is rotated clockwise by ``degrees``."""
    count = int(min(_MOST_CORNERS, max(64, 8 * max(abs(radius_x), abs(radius_y)))))
    angles = np.arange(count) * (2 * math.pi / count)
    corners = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)
    return Polygons((_turned(corners, degrees) + np.array([x, y]),))


def _turned(points: Ring, degrees: float) -> Ring:
    if not degrees:
        return points
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def to_size(height: Any, width: Any, where: str) -> tuple[int, int] | None:
    """Returns (height, width), or ``None`` if one of them is missing. Raises ``InputError`` for invalid numbers."""
    if height is None or width is None:
        return None
    sides: Sequence[Any] = (height, width)
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 1 << 31 for side in sides):
        raise InputError(f"{where}: has the size {shortened(width)}×{shortened(height)}; mend the file")
    return (height, width)
