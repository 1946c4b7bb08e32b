"""Reads the JSON export of Label Studio: polygons, rectangles, ellipses and brush masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from iccld.data.foreign.names import ImageIndex, split_of
from iccld.data.foreign.reading import field, load_json
from iccld.data.foreign.rle import studio_mask
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

_NUMBER = (int, float)


def read_label_studio(root: Path, files: Sequence[Path], index: ImageIndex) -> AnnotationSet:
    """Reads exports of Label Studio. Of each image, the first annotation that was not cancelled is used.

    The classes are sorted by name. The names of uploaded files are compared without the folders of the server.

    Raises:
        InputError: A file is damaged, or a shape or mask is invalid.
    """
    found = AnnotationSet("Label Studio's JSON")
    names: set[str] = set()
    for path in files:
        where, folder = printable(str(path)), path.parent.relative_to(root).as_posix()
        tasks = load_json(path)
        for task in tasks if isinstance(tasks, list) else ():
            of_task = f"{where}: task {shortened(task.get('id') if isinstance(task, dict) else task)}"
            results = _results(task, of_task, found)
            names |= {name for result in results if (name := _name(result)) is not None}
            data = field(task, "data", dict, of_task)
            address = next((v for v in data.values() if isinstance(v, str) and "." in v), "")
            image = index.find(address.rpartition("?d=")[2], of_task, (folder, f"{folder}/images", ""))
            if image is None:
                found.dropped["images that are listed but missing"] += 1
                found.dropped["annotations for missing images"] += len(results)
                continue
            sizes = [to_size(r.get("original_height"), r.get("original_width"), of_task) for r in results]
            size = next((size for size in sizes if size is not None), None)
            load = partial(_shapes, results, of_task, found)
            found.add(image, split_of(path.stem) or split_of(image) or "train", of_task, size, load)
    found.classes = dict.fromkeys(sorted(names))
    return found


def _results(task: Any, where: str, found: AnnotationSet) -> list[dict[str, Any]]:
    annotations = field(task, "annotations", list, where)
    kept = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    found.dropped["second annotations of an image"] += max(0, len(kept) - 1)
    results = field(kept[0], "result", list, where) if kept else []
    return [result for result in results if isinstance(result, dict)]


def _name(result: dict[str, Any]) -> str | None:
    """Returns the class of a result: the only entry of the list with the name of the result's type."""
    value, kind = result.get("value"), result.get("type")
    labels = value.get(kind) if isinstance(value, dict) and isinstance(kind, str) else None
    return labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else None


def _shapes(results: list[dict[str, Any]], where: str, found: AnnotationSet) -> Iterator[Shape]:
    for result in results:
        name = _name(result)
        of_result = f"{where}: result {shortened(result.get('id'))}"
        size = to_size(result.get("original_height"), result.get("original_width"), of_result)
        if name is None or size is None:
            found.dropped["results without a class or a size"] += 1
            continue
        if result.get("image_rotation"):
            raise InputError(f"{of_result}: its image was rotated in Label Studio; undo that and export anew")
        area = _area(result["type"], result["value"], size, of_result)
        if area is None:
            found.dropped[f"shapes of the kind {shortened(result['type'], 30)}"] += 1
        else:
            yield Shape(name, area)


def _area(kind: str, value: dict[str, Any], size: tuple[int, int], where: str) -> Area | None:
    scale = np.array([size[1], size[0]]) / 100  # coordinates are percentages of the image size
    if kind == "brushlabels":
        return Patch(studio_mask(value.get("rle"), size, where))
    if kind == "polygonlabels":
        points = to_points(field(value, "points", list, where), where) * scale
        return Polygons((points,)) if len(points) > 2 else None
    turn = value.get("rotation") or 0
    if kind not in ("rectanglelabels", "ellipselabels") or not isinstance(turn, _NUMBER):
        return None
    x, y = (float(field(value, key, _NUMBER, where)) * scale[i] for i, key in enumerate(("x", "y")))
    keys = ("width", "height") if kind == "rectanglelabels" else ("radiusX", "radiusY")
    a, b = (float(field(value, key, _NUMBER, where)) * scale[i] for i, key in enumerate(keys))
    if kind == "ellipselabels":
        return ellipse(x, y, a, b, turn)
    return rectangle(x, y, x + a, y + b, turn, around_corner=True)
