"""Reads the XML of 'CVAT for images 1.1': polygons, masks, boxes and ellipses, in the order of ``z_order``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from iccld.data.foreign.names import ImageIndex, split_of
from iccld.data.foreign.reading import REMEDY, elements
from iccld.data.foreign.rle import make_runs
from iccld.data.foreign.shapes import AnnotationSet, Area, Polygons, Shape, ellipse, rectangle, to_size
from iccld.data.image_files import Color
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import printable

_DRAWN = ("polygon", "mask", "box", "ellipse")
_DROPPED = ("polyline", "points", "cuboid", "skeleton", "tag")
_MOST_DIGITS = 30


def read_cvat(root: Path, files: Sequence[Path], index: ImageIndex) -> AnnotationSet:
    """Reads CVAT's XML files. Shapes with a higher ``z_order`` are drawn over others, and later shapes over earlier.

    The split is that of the attribute ``subset``, of the name of the image or of the name of the file.

    Raises:
        InputError: A file is damaged or unsafe, a shape has an unknown label, or an image leads out of the folder.
    """
    found = AnnotationSet("CVAT's XML")
    for path in files:
        where = printable(str(path))
        folder, split = path.parent.relative_to(root).as_posix(), split_of(path.stem)
        for above, element in elements(path):
            if above[-1:] == ("labels",) and element.tag == "label":
                _add_class(element, found)
            elif above == ("annotations",) and element.tag == "track":
                found.dropped["tracks of videos ('CVAT for video')"] += 1
                element.clear()
            elif above == ("annotations",) and element.tag == "image":
                _add_image(element, where, folder, split, index, found)
                element.clear()
    return found


def _add_class(element: Element, found: AnnotationSet) -> None:
    name, color = (element.findtext("name") or "").strip(), (element.findtext("color") or "").strip()
    if element.findtext("parent"):  # a point of a skeleton
        return
    rgb: Color | None = None
    if re.fullmatch("#[0-9a-fA-F]{6}", color):
        rgb = (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))
    found.classes[name] = found.classes.get(name) or rgb


def _add_image(
    element: Element, where: str, folder: str, split: str | None, index: ImageIndex, found: AnnotationSet
) -> None:
    name = element.get("name") or ""
    where = f"{where}: image {shortened(name)}"
    split = split_of(element.get("subset") or "") or split
    image = index.find(name, where, (folder, f"{folder}/images", ""), split)
    shapes = [child for child in element if child.tag in _DRAWN]
    if image is None:
        found.dropped["images that are listed but missing"] += 1
        found.dropped["annotations for missing images"] += len(shapes)
        return
    size = to_size(_whole(element, "height", where), _whole(element, "width", where), where)
    drawn: list[tuple[int, Shape]] = []
    dropped = Counter(child.tag for child in element if child.tag in _DROPPED)
    found.dropped.update({f"shapes of the kind {tag!r}": count for tag, count in dropped.items()})
    for child in shapes:
        label = child.get("label") or ""
        if label not in found.classes:
            raise InputError(f"{where}: label {shortened(label)} is not in its list of labels; {REMEDY}")
        area = _area(child, where)
        if area is None:
            found.dropped["polygons with fewer than three points"] += 1
        else:
            drawn.append((_whole(child, "z_order", where) if child.get("z_order") else 0, Shape(label, area)))
    drawn.sort(key=lambda item: item[0])
    ordered = [shape for _, shape in drawn]
    found.add(image, split or split_of(image) or "train", where, size, lambda: ordered)


def _area(element: Element, where: str) -> Area | None:
    where = f"{where}: {element.tag}"
    if element.tag == "polygon":
        text = element.get("points") or ""
        pairs = [pair.split(",") for pair in text.split(";") if pair.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise InputError(f"{where}: points are no x,y pairs; {REMEDY}")
        points = np.array([[_number(x, where), _number(y, where)] for x, y in pairs]).reshape(-1, 2)
        return Polygons((points,)) if len(points) > 2 else None
    if element.tag == "mask":
        counts = [
            _integer(word.strip(), where) for word in (element.get("rle") or "").split(",") if word.strip()
        ]
        top, left, height, width = (_whole(element, key, where) for key in ("top", "left", "height", "width"))
        size = to_size(height, width, where)
        assert size is not None
        return make_runs(counts, size, where, top=top, left=left, by_rows=True)
    turn = _number(element.get("rotation") or "0", where)
    if element.tag == "box":
        left_x, top_y, right_x, bottom_y = (
            _number(element.get(key) or "", where) for key in ("xtl", "ytl", "xbr", "ybr")
        )
        return rectangle(left_x, top_y, right_x, bottom_y, turn)
    x, y, rx, ry = (_number(element.get(key) or "", where) for key in ("cx", "cy", "rx", "ry"))
    return ellipse(x, y, rx, ry, turn)


def _number(text: str, where: str) -> float:
    try:
        value = float(text) if len(text) <= _MOST_DIGITS else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {shortened(text)} is no finite number; {REMEDY}")
    return value


def _whole(element: Element, key: str, where: str) -> int:
    return _integer(element.get(key) or "", f"{where}: {key}")


def _integer(text: str, where: str) -> int:
    value = _number(text, where)
    if value != int(value) or abs(value) > 1 << 40:
        raise InputError(f"{where}: {shortened(text)} is no whole number; {REMEDY}")
    return int(value)
