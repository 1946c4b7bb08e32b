"""Reads YOLO's segmentation labels: ``data.yaml`` and one text file of polygons per image."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from iccld.data.folders import require_below
from iccld.data.foreign.coco import BOXES
from iccld.data.foreign.reading import REMEDY
from iccld.data.foreign.shapes import AnnotationSet, Polygons, Shape
from iccld.data.foreign.yaml_subset import MOST_OF_YAML, Value, read_yaml
from iccld.data.image_files import image_size
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import printable, read_bounded

NO_FILE = "images without a label file"
_MOST_OF_LABELS = 1 << 27
_MOST_OF_LIST = 1 << 26
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_KEYS = ("path", "names", "kpt_shape", *(key for keys in _SPLITS.values() for key in keys))
_OUTSIDE = 2.0  # coordinates beyond this are pixels and not fractions of the image size


def has_labels(root: Path, names: Iterable[str]) -> bool:
    """Returns whether at least one image has a text file where YOLO expects its labels."""
    return any((root / _label_name(name)).is_file() for name in names)


def find_yaml(root: Path) -> Path | None:
    """Returns the YAML file in a folder that has a key ``names``, or ``None``. ``data.yaml`` is preferred."""
    files = [
        path for path in sorted(root.iterdir()) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()
    ]
    for path in sorted(files, key=lambda path: path.stem.lower() not in ("data", "dataset")):
        require_below(path, root)
        is_small = path.stat().st_size <= MOST_OF_YAML
        if is_small and re.search(rb"^names\s*:", read_bounded(path, MOST_OF_YAML), re.MULTILINE):
            return path
    return None


def read_yolo(root: Path, path: Path, names: Sequence[str]) -> AnnotationSet:
    """Reads the label files of all splits that a ``data.yaml`` names.

    Args:
        root: Folder of the data set.
        path: The YAML file.
        names: All images of the folder, relative to it.

    Raises:
        InputError: The YAML file cannot be read, a path leads out of the folder, or no split has images.
    """
    shown = printable(str(path))
    keys = read_yaml(path, _KEYS)
    if "kpt_shape" in keys:
        raise InputError(f"{shown}: describes key points (kpt_shape), which have no outlines; {REMEDY}")
    if "names" not in keys:
        raise InputError(f"{shown}: names no classes; add names: [road, person]")
    classes = _classes(keys["names"], shown)
    found = AnnotationSet("YOLO's text files", dict.fromkeys(classes))
    for split, words in _SPLITS.items():
        entries = [entry for word in words if word in keys for entry in _texts(keys[word])]
        images = [
            name for entry in entries for name in _images(root, entry, keys.get("path", ""), names, shown)
        ]
        for name in dict.fromkeys(images):
            label = root / _label_name(name)
            require_below(label, root)
            if not label.is_file():
                found.dropped[NO_FILE] += 1
            load = partial(_shapes, root / name, label, classes, found) if label.is_file() else tuple
            found.add(name, split, printable(str(label)), None, load)
    if not found.images:
        raise InputError(f"{shown}: none of its paths train, val and test has images; mend the paths")
    return found


def _classes(value: Value, shown: str) -> list[str]:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [value]
    by_id = {
        int(key): name for key, name in value.items() if key.isascii() and key.isdigit() and len(key) < 6
    }
    if sorted(by_id) != list(range(len(value))):
        raise InputError(f"{shown}: the ids in names are not 0, 1, 2, …; number the classes in order")
    return [by_id[i] for i in range(len(by_id))]


def _texts(value: Value) -> Iterable[str]:
    return [value] if isinstance(value, str) else value


def _images(root: Path, entry: str, base: Value, names: Sequence[str], shown: str) -> list[str]:
    """Returns the images of a split, which a folder or a text file of image names defines.

    ``entry`` is relative to the folder ``base``, which is usually on another machine, or to the data set's folder.
    Roboflow writes ``../train/images`` for the folder ``train/images``, as the programs of YOLO expect it.
    """
    entry = entry.replace("\\", "/").rstrip("/")
    top = base if isinstance(base, str) else ""
    tried = [entry, posixpath.join(top, entry), entry.removeprefix("../")]
    tried += [entry.removeprefix(top.rstrip("/") + "/")] if top else []
    for path in dict.fromkeys(posixpath.normpath(each) for each in tried):
        if path.startswith(("/", "..")):
            continue
        prefix = "" if path == "." else path + "/"
        images = [name for name in names if name.startswith(prefix)]
        if images:
            return images
        if path.endswith(".txt") and (root / path).is_file():
            return _listed(root, root / path, names)
    if posixpath.normpath(tried[2]).startswith(("/", "..")) and not os.path.isabs(top):
        raise InputError(f"{shown}: {shortened(entry)} leads out of the folder; name a folder below it")
    return []


def _listed(root: Path, path: Path, names: Sequence[str]) -> list[str]:
    require_below(path, root)
    lines = read_bounded(path, _MOST_OF_LIST).decode("utf-8", "replace").splitlines()
    known = set(names)
    folder = path.parent.relative_to(root).as_posix()
    images = []
    for line in filter(None, map(str.strip, lines)):
        name = posixpath.normpath(posixpath.join(folder, line.replace("\\", "/")))
        if name.startswith(("/", "..")) or name not in known:
            raise InputError(
                f"{printable(str(path))}: {shortened(line)} is no image of the folder; mend the list"
            )
        images.append(name)
    return images


def _label_name(name: str) -> str:
    """Returns the path of the label file of an image.

    The last folder ``images`` is replaced by ``labels``, and the extension is replaced by ``.txt``.
    """
    before, folder, after = ("/" + name).rpartition("/images/")
    path = f"{before}/labels/{after}" if folder else "/" + name
    return os.path.splitext(path)[0].lstrip("/") + ".txt"


def _shapes(image: Path, label: Path, classes: Sequence[str], found: AnnotationSet) -> Iterator[Shape]:
    shown = printable(str(label))
    height, width = image_size(image)
    for number, line in enumerate(read_bounded(label, _MOST_OF_LABELS).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{shown}: line {number}"
        try:
            values = np.array([float(word) for word in words])
        except ValueError as error:
            raise InputError(f"{where}: has a word that is no number; {REMEDY}") from error
        if not np.isfinite(values).all() or len(values) < 5:
            raise InputError(f"{where}: is no class id with coordinates; {REMEDY}")
        if values[0] not in range(len(classes)):
            raise InputError(
                f"{where}: class {values[0]:g} is not in names ({len(classes)} classes); mend names"
            )
        if len(values) == 5:
            found.dropped[BOXES] += 1
            continue
        if len(values) % 2 == 0 or np.abs(values[1:]).max() > _OUTSIDE:
            fault = "its coordinates are not x y pairs as fractions of the image size"
            raise InputError(f"{where}: {fault}; export the labels as normalized polygons")
        points = values[1:].reshape(-1, 2) * np.array([width, height])
        yield Shape(classes[int(values[0])], Polygons((points,)))
