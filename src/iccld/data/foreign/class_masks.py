"""Reads one black-and-white mask per image and class, in folders of the classes or with names that end in the class.

Examples are ``masks/road/a.png`` and ``masks/a_road.png`` for the image ``images/a.jpg``.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iccld.data.foreign.names import split_of
from iccld.data.foreign.shapes import AnnotationSet, Patch, Shape
from iccld.data.image_files import image_size, is_label_name, read_label
from iccld.data.layouts import SPLIT_WORDS
from iccld.errors import InputError

TITLE = "one mask per class"
_NUM_SAMPLES = 8
_MOST_TRIED = 8  # folders of images that are compared with a folder of masks
_SEPARATORS = "_-."


class ClassMask(NamedTuple):
    """A mask of one class. ``image`` and ``mask`` are paths relative to the data set's folder."""

    image: str
    mask: str
    name: str


def find_class_masks(root: Path, names: Sequence[str]) -> list[ClassMask]:
    """Returns the masks of each class, sorted by class and image, or an empty list if there are none.

    ``names`` are the paths of all image files, relative to ``root``. A few masks are read: they must be black and
    white, and some image must have masks of several classes.
    """
    folders: defaultdict[str, dict[str, str]] = defaultdict(dict)  # folder → stem → path
    for name in names:
        stem = posixpath.splitext(posixpath.basename(name))[0]
        folders[posixpath.dirname(name)].setdefault(stem, name)
    found = sorted({*_in_folders(folders), *_with_endings(folders)}, key=lambda mask: (mask.name, mask.mask))
    images = [mask.image for mask in found]
    if len(images) == len(set(images)) or len({mask.name for mask in found}) < 2:
        return []
    samples = found[:: max(1, len(found) // _NUM_SAMPLES)]
    return found if all(_is_binary(root / mask.mask) for mask in samples) else []


def _in_folders(folders: dict[str, dict[str, str]]) -> Iterator[ClassMask]:
    """Yields the masks in folders that are named after classes and have a common parent."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for folder in folders:
        if folder:
            children[posixpath.dirname(folder)].append(folder)
    for parent, inner in children.items():
        titles = {posixpath.basename(folder).lower() for folder in inner}
        stems = {stem for folder in inner for stem in folders[folder]}
        if len(inner) < 2 or titles <= SPLIT_WORDS.keys():
            continue
        beside = [folder for folder in folders if not f"{folder}/".startswith(f"{parent}/" if parent else "")]
        # If the images are in folders of the same names, these are names of sequences and not of classes.
        beside = [folder for folder in beside if posixpath.basename(folder).lower() not in titles]
        fitting = [folder for folder in beside if stems <= folders[folder].keys()]
        images = folders[_nearest(parent, fitting)] if fitting else {}
        for folder in inner if images else ():
            for stem, path in folders[folder].items():
                if is_label_name(path):
                    yield ClassMask(images[stem], path, posixpath.basename(folder))


def _with_endings(folders: dict[str, dict[str, str]]) -> Iterator[ClassMask]:
    """Yields the masks whose names are the name of an image, a separator and a class."""
    holders: defaultdict[str, list[str]] = defaultdict(list)  # stem → folders with an image of this name
    for folder, files in folders.items():
        for stem in files:
            holders[stem].append(folder)
    for folder, files in folders.items():
        first = next(iter(files))
        starts = [first[:place] for place, character in enumerate(first) if character in _SEPARATORS]
        others = {each for start in starts for each in holders.get(start, ())} - {folder}
        nearest = sorted(others, key=lambda other: _distance(folder, other))[:_MOST_TRIED]
        fitting = [other for other in nearest if all(_ending(stem, folders[other]) for stem in files)]
        if fitting and all(map(is_label_name, files.values())):
            images = folders[_nearest(folder, fitting)]
            for stem, path in files.items():
                name = _ending(stem, images)
                yield ClassMask(images[stem[: -len(name) - 1]], path, name)


def _nearest(folder: str, others: Sequence[str]) -> str:
    """Returns the folder of the same split, with the most common names in its path."""
    return min(others, key=lambda other: _distance(folder, other))


def _distance(folder: str, other: str) -> tuple[bool, int, str]:
    common = len(set(folder.split("/")).intersection(other.split("/")))
    return split_of(other) != split_of(folder), -common, other


def _ending(stem: str, images: dict[str, str]) -> str:
    """Returns the part of a mask's name after the name of an image, which is as long as possible, or an empty text."""
    for place in range(len(stem) - 1, 0, -1):
        if stem[place] in _SEPARATORS and stem[:place] in images:
            return stem[place + 1 :]
    return ""


def _is_binary(path: Path) -> bool:
    try:
        values = np.unique(read_label(path))
    except InputError:
        return False
    return len(values) <= 2 and (0 in values or len(values) == 1)


def read_class_masks(root: Path, masks: Sequence[ClassMask]) -> AnnotationSet:
    """Returns the masks as annotations. The classes are sorted by name, and later classes are drawn over earlier ones.

    Raises ``InputError`` if a mask cannot be read.
    """
    found = AnnotationSet(TITLE)
    found.classes = dict.fromkeys(mask.name for mask in masks)
    order = ", ".join(list(found.classes)[:20])
    found.notes.append(f"Pixels in masks of several classes get the last of these classes: {order}.")
    for mask in masks:
        path = root / mask.mask
        split = split_of(posixpath.dirname(mask.image)) or "train"
        found.add(mask.image, split, str(path), image_size(path), partial(_shape, path, mask.name))
    return found


def _shape(path: Path, name: str) -> list[Shape]:
    values = read_label(path)
    levels = np.unique(values)
    if len(levels) > 2 or (len(levels) == 2 and levels[0]):
        raise InputError(
            f"{path}: has other values than 0 and one more, and is no mask of {name!r}; save it as black and white"
        )
    return [Shape(name, Patch(values > 0))]
