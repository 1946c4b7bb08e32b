"""Reads labelme's JSON: one file per image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from iccld.data.foreign.names import ImageIndex, split_of
from iccld.data.foreign.reading import REMEDY, field, load_json, mask_of_base64
from iccld.data.foreign.shapes import (
    AnnotationSet,
    Area,
    Patch,
    Polygons,
    Shape,
    ellipse,
    rectangle,
    to_points,
    to_size,
)
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import printable

_IGNORED = "__ignore__"  # the name with which labelme's own converter marks ignored regions


def read_labelme(root: Path, files: Sequence[Path], index: ImageIndex) -> AnnotationSet:
    """Reads the labelme files of a folder. The classes are sorted by name, because the files do not order them.

    Each file is read twice: here for the names of its classes, and again when its label map is drawn, so that only one
    file is in memory at a time.

    Raises:
        InputError: A file is damaged, or its ``imagePath`` leads out of the folder.
    """
    found = AnnotationSet("labelme's JSON")
    names = set()
    for path in files:
        document = _load(path)
        if document is None:
            continue
        where, folder = printable(str(path)), path.parent.relative_to(root).as_posix()
        names |= {field(shape, "label", str, where) for shape in document["shapes"]}
        split = split_of(folder)
        image = index.find(field(document, "imagePath", str, where), where, (folder, ""), split)
        if image is None:
            found.dropped["images that are named but missing"] += 1
            found.dropped["annotations for missing images"] += len(document["shapes"])
            continue
        size = to_size(document.get("imageHeight"), document.get("imageWidth"), where)
        found.add(image, split or split_of(image) or "train", where, size, partial(_shapes, path, found))
    found.classes = dict.fromkeys(sorted(names - {_IGNORED}))
    return found


def _load(path: Path) -> dict[str, Any] | None:
    """Returns the content of a labelme file, or ``None`` for other JSON files."""
    document = load_json(path)
    if not isinstance(document, dict) or not {"shapes", "imagePath"} <= document.keys():
        return None
    shapes = document["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(f"{printable(str(path))}: shapes is not a list of objects; {REMEDY}")
    return document


def _shapes(path: Path, found: AnnotationSet) -> Iterator[Shape]:
    document = _load(path)
    for number, shape in enumerate([] if document is None else document["shapes"], start=1):
        where = f"{printable(str(path))}: shape {number}"
        area = _area(shape, path, where, found)
        name = field(shape, "label", str, where)
        if area is not None:
            yield Shape(None if name == _IGNORED else name, area)


def _area(shape: dict[str, Any], path: Path, where: str, found: AnnotationSet) -> Area | None:
    kind = shape.get("shape_type") or "polygon"
    if kind not in ("polygon", "rotation", "rectangle", "circle", "mask"):
        found.dropped[f"shapes of the kind {shortened(kind, 30)}"] += 1
        return None
    points = to_points(field(shape, "points", list, where), where)
    if kind in ("polygon", "rotation") or (kind == "rectangle" and len(points) == 4):
        if len(points) < 3:
            found.dropped["polygons with fewer than three points"] += 1
            return None
        return Polygons((points,))
    if len(points) != 2:
        raise InputError(f"{where}: a {kind} has {len(points)} points instead of 2; {REMEDY}")
    (x0, y0), (x1, y1) = points.tolist()
    if kind == "rectangle":
        return rectangle(x0, y0, x1, y1)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse(x0, y0, radius, radius)
    mask = mask_of_base64(field(shape, "mask", str, where), path, where)
    left, top, right, bottom = (int(value) for value in (x0, y0, x1, y1))
    if mask.shape != (bottom - top + 1, right - left + 1):
        size = f"{mask.shape[1]}×{mask.shape[0]}"
        raise InputError(f"{where}: its mask of {size} pixels does not fit its points; {REMEDY}")
    return Patch(mask, top, left)
