"""Reads COCO's JSON: instances, stuff and panoptic annotations, in one file per split or per folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from iccld.data.foreign.names import ImageIndex, split_of
from iccld.data.foreign.reading import REMEDY, field, load_json
from iccld.data.foreign.rle import coco_runs
from iccld.data.foreign.shapes import AnnotationSet, Area, Patch, Polygons, Shape, to_points, to_size
from iccld.data.image_files import Color, decode_label
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import printable
from iccld.labels import IGNORE

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_")
"""Beginnings of the names of COCO's files that hold no classes of pixels, or only those of ``instances_*.json``."""
BOXES = "boxes without an outline"
NO_POINTS = "polygons with fewer than three points"
CROWDS = "crowd regions, which became 255 (ignore)"
_Classes = dict[int | str, str]


def read_coco(root: Path, files: Sequence[Path], index: ImageIndex) -> AnnotationSet:
    """Reads all COCO files of a folder.

    Crowd regions are drawn first, with the value 255. If several files annotate an image, files of stuff are drawn
    before files of instances. If there are panoptic files with their PNG files, only these are read.

    Raises:
        InputError: A file is damaged, or an annotation has an unknown class or an invalid outline.
    """
    found = AnnotationSet("COCO's JSON")
    main = [path for path in files if not path.name.startswith(_OTHER_TASKS)] or list(files)
    readers: list[_Reader] = []
    panoptic: list[_Reader] = []
    for path in sorted(main, key=lambda path: ("stuff" not in path.name.lower(), path)):
        document = load_json(path)
        if not isinstance(document, dict) or not isinstance(document.get("images"), list):
            continue
        reader = _Reader(root, path, index, found, document)
        (panoptic if reader.is_panoptic else readers).append(reader)
    painted = [reader for reader in panoptic if reader.has_segments()]
    if panoptic and not painted and not readers:
        fault = "its PNG files of segments are missing; unpack them beside the file"
        raise InputError(f"{panoptic[0].where}: {fault}")
    found.title = "COCO's panoptic JSON" if painted else found.title
    for reader in painted or readers:
        reader.add_classes()
        reader.add_images()
    return found


@dataclass
class _Reader:
    """Reader of one COCO file, which adds its classes and images to ``found``."""

    root: Path
    path: Path
    index: ImageIndex
    found: AnnotationSet
    document: dict[str, Any]

    def __post_init__(self) -> None:
        self.where = printable(str(self.path))
        self.folder = self.path.parent.relative_to(self.root).as_posix()
        annotations = self.document.get("annotations", [])
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            raise InputError(f"{self.where}: annotations is not a list of objects; {REMEDY}")
        self.annotations: list[dict[str, Any]] = annotations
        self.is_panoptic = any("segments_info" in annotation for annotation in annotations[:1])
        self.classes: _Classes = {}

    def has_segments(self) -> bool:
        """Returns whether the PNG file with the segments of the first annotation exists."""
        return self._segments(self.annotations[0]) is not None

    def add_classes(self) -> None:
        """Adds the categories of the file to the classes."""
        rows = field(self.document, "categories", list, self.where)
        used = {key for a in self.annotations if isinstance(key := a.get("category_id"), int | str)}
        parents = {row.get("supercategory") for row in rows if isinstance(row, dict)}
        for row in rows:
            name, key = field(row, "name", str, self.where), field(row, "id", (int, str), self.where)
            # Roboflow lists the data set itself as a category without annotations.
            is_parent = row.get("supercategory") == "none" and name in parents
            if is_parent and key not in used and not self.is_panoptic:
                continue
            self.classes[key] = name
            self.found.classes[name] = self.found.classes.get(name) or _color(row.get("color"))

    def add_images(self) -> None:
        """Adds the images of the file with their annotations."""
        by_image = defaultdict(list)
        for annotation in self.annotations:
            by_image[field(annotation, "image_id", (int, str), self.where)].append(annotation)
        split = split_of(self.path.stem) or split_of(self.folder)
        for row in self.document["images"]:
            name = field(row, "file_name", str, self.where)
            own = by_image.pop(field(row, "id", (int, str), self.where), [])
            image = self.index.find(name, self.where, (self.folder, ""), split)
            if image is None:
                self.found.dropped["images that are listed but missing"] += 1
                self.found.dropped["annotations for missing images"] += len(own)
                continue
            size = to_size(row.get("height"), row.get("width"), self.where)
            load = partial(self._painted if self.is_panoptic else self._shapes, own)
            self.found.add(image, split or split_of(image) or "train", self.where, size, load)
        self.found.dropped["annotations for images that are not listed"] += sum(map(len, by_image.values()))

    def _class(self, key: Any, where: str) -> str:
        if not isinstance(key, int | str) or key not in self.classes:
            raise InputError(f"{where}: category_id {shortened(key)} is not in categories; {REMEDY}")
        return self.classes[key]

    def _shapes(self, annotations: list[dict[str, Any]]) -> Iterator[Shape]:
        for annotation in sorted(annotations, key=lambda a: not a.get("iscrowd")):
            where = f"{self.where}: annotation {shortened(annotation.get('id'))}"
            name: str | None = self._class(annotation.get("category_id"), where)
            area = self._area(annotation.get("segmentation"), where)
            if area is None:
                continue
            if annotation.get("iscrowd"):
                self.found.dropped[CROWDS] += 1
                name = None
            yield Shape(name, area)

    def _area(self, value: Any, where: str) -> Area | None:
        if isinstance(value, dict):
            return coco_runs(value, where)
        if not value:
            self.found.dropped[BOXES] += 1
            return None
        if not isinstance(value, list):
            raise InputError(f"{where}: segmentation {shortened(value)} is no polygon and no mask; {REMEDY}")
        nested = value if isinstance(value[0], list) else [value]
        rings = [to_points(ring, where) for ring in nested]
        whole = tuple(ring for ring in rings if len(ring) > 2)
        self.found.dropped[NO_POINTS] += len(rings) - len(whole)
        return Polygons(whole) if whole else None

    def _segments(self, annotation: dict[str, Any]) -> str | None:
        name = field(annotation, "file_name", str, self.where)
        beside = f"{self.folder}/{self.path.stem}"
        return self.index.find(name, self.where, (beside, f"{beside}_masks", self.folder, ""))

    def _painted(self, annotations: list[dict[str, Any]]) -> Iterator[Shape]:
        """Yields the segments of a panoptic PNG, whose ids are R + 256 G + 65536 B. Segment 0 is unlabeled."""
        for annotation in annotations:
            png = self._segments(annotation)
            if png is None:
                self.found.dropped["annotations without their PNG file"] += 1
                continue
            raw, _ = decode_label(self.root / png)
            weights = np.array([1, 256, 65536], dtype=np.uint32)
            ids = raw.astype(np.uint32) @ weights if raw.ndim == 3 else raw.astype(np.uint32)
            present, places = np.unique(ids, return_inverse=True)
            names = self._names_of_segments(annotation)
            labels = [names.get(int(i), None) for i in present]
            self.found.dropped["segments of PNG files that are not listed"] += sum(
                int(i) != 0 and int(i) not in names for i in present
            )
            for name in sorted({name for name in labels if name is not None}):
                chosen = np.array([label == name for label in labels])
                yield Shape(name or None, Patch(chosen[places].reshape(ids.shape)))

    def _names_of_segments(self, annotation: dict[str, Any]) -> dict[int, str]:
        """Returns segment id → class name. The name of crowd segments is empty."""
        names = {}
        for segment in field(annotation, "segments_info", list, self.where):
            where = f"{self.where}: image {shortened(annotation['image_id'])}"
            key, is_crowd = field(segment, "id", int, where), bool(segment.get("iscrowd"))
            name = self._class(segment.get("category_id"), where)
            names[key] = "" if is_crowd else name
            self.found.dropped[CROWDS] += is_crowd
        return names


def _color(value: Any) -> Color | None:
    is_color = isinstance(value, list) and len(value) == 3
    if is_color and all(type(c) is int and 0 <= c <= IGNORE for c in value):
        return (value[0], value[1], value[2])
    return None
