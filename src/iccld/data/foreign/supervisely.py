"""Reads Supervisely projects: ``meta.json`` with the classes, and one JSON file in ``ann`` for each image in ``img``.

Pixels are those that Supervisely's SDK draws: corners are pixels, and the outline belongs to a polygon
(https://docs.supervisely.com, "Supervisely annotation JSON format").
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from iccld.data.foreign.names import ImageIndex, split_of
from iccld.data.foreign.reading import REMEDY, field, load_json, mask_of_png
from iccld.data.foreign.shapes import AnnotationSet, Patch, Ring, Shape, to_points, to_size
from iccld.data.image_files import Color
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import printable

META = "meta.json"
_MOST_OF_MASK = 1 << 28  # bytes of a PNG, and pixels of an outline


def read_supervisely(root: Path, files: Sequence[Path], index: ImageIndex) -> AnnotationSet:
    """Reads the annotations of a project.

    The split of an image is that of its dataset's folder, such as ``val``. Raises ``InputError`` if a file is damaged.
    """
    found = AnnotationSet("Supervisely's JSON")
    for path in files:
        if path.name == META:
            found.classes |= _classes(load_json(path), printable(str(path)))
    for path in files:
        document = None if path.name == META else load_json(path)
        if not isinstance(document, dict) or not {"objects", "size"} <= document.keys():
            continue
        where, folder = printable(str(path)), path.parent.relative_to(root).as_posix()
        size = field(document, "size", dict, where)
        objects = field(document, "objects", list, where)
        for entry in objects:
            found.classes.setdefault(field(entry, "classTitle", str, where))
        dataset = folder.rpartition("/")[0]
        image = index.find(path.stem, where, (f"{dataset}/img".lstrip("/"), folder))
        if image is None:
            found.dropped["images that are named but missing"] += 1
            found.dropped["annotations for missing images"] += len(objects)
            continue
        sides = to_size(size.get("height"), size.get("width"), where)
        split = split_of(dataset) or "train"
        found.add(image, split, where, sides, partial(_shapes, path, found))
    return found


def _classes(document: Any, where: str) -> dict[str, Color | None]:
    classes: dict[str, Color | None] = {}
    for entry in field(document, "classes", list, where):
        name, color = field(entry, "title", str, where), entry.get("color")
        try:
            red, green, blue = bytes.fromhex(str(color).removeprefix("#"))
            classes[name] = (red, green, blue)
        except ValueError:
            classes[name] = None
    colors = [color for color in classes.values() if color is not None]
    return classes if len(set(colors)) == len(colors) else dict.fromkeys(classes)


def _shapes(path: Path, found: AnnotationSet) -> Iterator[Shape]:
    for number, entry in enumerate(load_json(path)["objects"], start=1):
        where = f"{printable(str(path))}: object {number}"
        kind = entry.get("geometryType")
        if kind == "bitmap":
            area: Patch | None = _bitmap(field(entry, "bitmap", dict, where), path, where)
        elif kind in ("polygon", "rectangle"):
            area = _outline(kind, field(entry, "points", dict, where), where)
        else:
            found.dropped[f"shapes of the kind {shortened(kind, 30)}"] += 1
            continue
        if area is None:
            found.dropped["polygons with fewer than three points"] += 1
            continue
        yield Shape(field(entry, "classTitle", str, where), area)


def _outline(kind: str, points: dict[str, Any], where: str) -> Patch | None:
    """Returns the pixels of a polygon or rectangle. A polygon with fewer than three points gives ``None``."""
    exterior = _pixels(field(points, "exterior", list, where), where)
    holes = [
        _pixels(ring, where)
        for ring in (field(points, "interior", list, where) if points.get("interior") else [])
    ]
    if kind == "rectangle":
        if len(exterior) != 2:
            raise InputError(f"{where}: a rectangle has {len(exterior)} points instead of 2; {REMEDY}")
        (x0, y0), (x1, y1) = exterior.tolist()
        exterior = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.int32)
    if len(exterior) < 3:
        return None
    low, high = exterior.min(axis=0), exterior.max(axis=0)
    width, height = (high - low + 1).tolist()
    if width * height > _MOST_OF_MASK:
        raise InputError(f"{where}: covers {width}×{height} pixels; {REMEDY}")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [exterior - low], (1,))
    inner = [ring - low for ring in holes if len(ring) > 2 and (abs(ring) < 1 << 15).all()]
    if inner:
        cv2.fillPoly(mask, inner, (0,))
    return Patch(mask > 0, int(low[1]), int(low[0]))


def _pixels(value: Any, where: str) -> np.ndarray:
    points: Ring = to_points(value, where)
    if points.size and np.abs(points).max() >= 1 << 15:
        raise InputError(f"{where}: has a point at {points.max():.0f}; {REMEDY}")
    return np.round(points).astype(np.int32)


def _bitmap(bitmap: dict[str, Any], path: Path, where: str) -> Patch:
    try:
        packed = base64.b64decode(field(bitmap, "data", str, where), validate=True)
        data = zlib.decompressobj().decompress(packed, _MOST_OF_MASK)
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: its bitmap is not a compressed PNG; {REMEDY}") from error
    origin = _pixels(field(bitmap, "origin", list, where), where)
    if origin.shape != (1, 2):
        raise InputError(f"{where}: its origin is no pair x, y; {REMEDY}")
    return Patch(mask_of_png(data, path, where), int(origin[0, 1]), int(origin[0, 0]))
