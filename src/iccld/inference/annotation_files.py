"""Writes label maps as annotations for labeling tools, in the format of CVAT, Label Studio or COCO.

All images share one file. The written polygons cannot contain holes. Outer regions therefore come first, so that a
region in a hole is drawn over the outer region.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np

from iccld.data.image_files import read_label
from iccld.documents import Range, build, read_json
from iccld.errors import InputError
from iccld.files import printable, replacing, write_failure, write_text
from iccld.inference.rendering import CLASSES
from iccld.labels import IGNORE, LabelSpace
from iccld.models.regions import Region, Ring, find_regions, outer_first, to_coco

ExportFormat = Literal["cvat", "labelstudio", "coco"]
_Channel = Annotated[int, Range(0, 255)]
_CORNERS = 3


@dataclass(frozen=True)
class LabeledImage:
    """An image and its label map. ``name`` is the image's name in the annotation file."""

    name: str
    labels: Path


@dataclass(frozen=True)
class _Class:
    id: _Channel
    name: str
    color: tuple[_Channel, _Channel, _Channel]


@dataclass(frozen=True)
class _ClassList:
    classes: tuple[_Class, ...]


def read_classes(predictions: Path) -> tuple[LabelSpace, np.ndarray]:
    """Reads the classes of a folder of predictions.

    Returns (label space, table from ids in label maps to class indices). Raises ``InputError`` if ``classes.json`` is
    missing or damaged.
    """
    path = predictions / CLASSES
    value = read_json(path, remedy="name a folder of iccld predict")
    entries = build(_ClassList, {"classes": value}, str(path)).classes
    space = LabelSpace.from_names("predictions", [c.name for c in entries], [c.color for c in entries])
    table = np.full(65536, IGNORE, np.uint8)
    for index, entry in enumerate(entries):
        table[entry.id] = index
    return space, table


def write_annotations(
    path: Path,
    images: Iterable[LabeledImage],
    space: LabelSpace,
    table: np.ndarray,
    *,
    kind: ExportFormat,
    min_area: int = 20,
    tolerance: float = 1.0,
    prefix: str = "",
) -> int:
    """Writes the regions of all images to one file, atomically.

    Args:
        path: File to write.
        images: Images and their label maps.
        space: Classes.
        table: Id in label maps → class index (``read_classes``).
        kind: Format of the file.
        min_area: Smallest number of pixels of a region. Smaller regions are left out.
        tolerance: Largest distance in pixels between a region's outline and its simplified polygon. 0 keeps the
            outline. COCO's run lengths are always exact.
        prefix: Text before the name of an image in Label Studio, such as ``/data/local-files/?d=``.

    Returns:
        The number of written regions.

    Raises:
        InputError: A label map cannot be read.
    """
    count = 0

    def regions_of_all() -> Iterator[tuple[str, tuple[int, int], list[Region]]]:
        nonlocal count
        for image in images:
            labels = table[read_label(image.labels)]
            regions = find_regions(labels, None, space.names, min_area=min_area)
            count += len(regions)
            yield image.name, (labels.shape[0], labels.shape[1]), regions

    write = {"cvat": _cvat, "labelstudio": _label_studio, "coco": _coco}[kind]
    with replacing(path) as temporary:
        try:
            with open(temporary, "w", encoding="utf-8") as handle:
                for text in write(regions_of_all(), space, tolerance, prefix):
                    handle.write(text)
        except OSError as error:
            raise write_failure(path, error) from error
    return count


def classes_path(path: Path, kind: ExportFormat) -> Path | None:
    """Returns the path of the file with the classes beside the annotations at ``path``, or ``None`` for COCO."""
    ending = {"cvat": "json", "labelstudio": "xml"}.get(kind)
    return None if ending is None else path.with_name(f"{path.stem}.labels.{ending}")


def write_classes(path: Path, space: LabelSpace, kind: ExportFormat) -> Path | None:
    """Writes the classes in the form that a labeling tool needs for a new project, and returns the file's path.

    The file lies beside the annotations at ``path``: ``NAME.labels.json`` for CVAT's raw editor of labels, or
    ``NAME.labels.xml``, a labeling interface of Label Studio. COCO needs no such file.
    """
    target = classes_path(path, kind)
    if target is None:
        return None
    colors = ["#{:02x}{:02x}{:02x}".format(*entry.color) for entry in space.classes]
    if kind == "cvat":
        labels = [{"name": n, "color": c, "attributes": []} for n, c in zip(space.names, colors, strict=True)]
        return write_text(target, json.dumps(labels, indent=1) + "\n")
    else:
        lines = [
            f"    <Label value={quoteattr(name)} background={quoteattr(color)}/>"
            for name, color in zip(space.names, colors, strict=True)
        ]
        head = '<View>\n  <Image name="image" value="$image"/>\n  <PolygonLabels name="label" toName="image">'
        text = "\n".join([head, *lines, "  </PolygonLabels>", "</View>", ""])
        return write_text(target, text)


_Images = Iterator[tuple[str, tuple[int, int], list[Region]]]


def _cvat(images: _Images, space: LabelSpace, tolerance: float, prefix: str) -> Iterator[str]:
    """Yields the parts of an XML file of the format "CVAT for images 1.1"."""
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task><labels>\n'
    for entry in space.classes:
        color = "#{:02x}{:02x}{:02x}".format(*entry.color)
        yield f"<label><name>{escape(entry.name)}</name><color>{color}</color><attributes></attributes></label>\n"
    yield "</labels></task></meta>\n"
    for number, (name, (height, width), regions) in enumerate(images):
        yield f'<image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">\n'
        for order, (region, ring) in enumerate(_polygons(regions, tolerance)):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())
            yield (
                f'<polygon label={quoteattr(region.name)} source="auto" occluded="0" '
                f'points="{points}" z_order="{order}"></polygon>\n'
            )
        yield "</image>\n"
    yield "</annotations>\n"


def _label_studio(images: _Images, space: LabelSpace, tolerance: float, prefix: str) -> Iterator[str]:
    """Yields the parts of a JSON file with a task for each image. The polygons are predictions, which can be edited."""
    before = "["
    for name, (height, width), regions in images:
        results = [
            {
                "id": f"region{order}",
                "type": "polygonlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "points": np.round(ring * (100 / np.array([width, height])), 4).tolist(),
                    "polygonlabels": [region.name],
                    "closed": True,
                },
            }
            for order, (region, ring) in enumerate(_polygons(regions, tolerance))
        ]
        predictions = [{"model_version": "iccld", "result": results}]
        yield before + json.dumps({"data": {"image": prefix + quote(name)}, "predictions": predictions})
        before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


def _coco(images: _Images, space: LabelSpace, tolerance: float, prefix: str) -> Iterator[str]:
    """Yields the parts of a COCO data set. The masks are run lengths."""
    listed, number, before = [], 0, ""
    yield '{"annotations": ['
    for image_id, (name, size, regions) in enumerate(images, 1):
        one = to_coco(regions, space.names, size, name)
        listed.append(one["images"][0] | {"id": image_id})
        for annotation in one["annotations"]:
            number += 1
            yield before + json.dumps(annotation | {"id": number, "image_id": image_id})
            before = ",\n"
    categories = [{"id": index, "name": name} for index, name in enumerate(space.names, 1)]
    yield f'], "images": {json.dumps(listed)}, "categories": {json.dumps(categories)}}}\n'


def _polygons(regions: Sequence[Region], tolerance: float) -> Iterator[tuple[Region, Ring]]:
    """Yields each region with its outline, simplified up to the tolerance (Douglas and Peucker)."""
    for region in outer_first(regions):
        ring = region.outline
        if tolerance:
            simple = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0]
            ring = simple.astype(np.float64) if len(simple) >= _CORNERS else ring
        yield region, ring


def pair_labels(predictions: Path, names: Sequence[str]) -> list[LabeledImage]:
    """Finds the label map of each image in a folder of predictions. ``names`` are relative paths of the images.

    Raises ``InputError`` if an image has no label map.
    """
    found = []
    for name in names:
        labels = predictions / "labels" / Path(name).with_suffix(".png")
        if not labels.is_file():
            raise InputError(f"{labels}: is missing, so {name} has no prediction; predict this image first")
        try:
            is_text = not re.search(r"[\x00-\x1f\x7f]", name) and bool(name.encode())
        except UnicodeEncodeError:
            is_text = False
        if not is_text:
            raise InputError(
                f"{printable(name)}: this name cannot be written to annotations; rename the image"
            )
        found.append(LabeledImage(name, labels))
    return found
