"""Types that all steps of the detection share: the image files of a folder, and the detected data set."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from iccld.data.autodetect.evidence import Evidence
from iccld.data.autodetect.meaning import Meaning
from iccld.data.description import Description
from iccld.data.folders import data_key
from iccld.data.layouts import described_folder, list_images
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19


@dataclass(frozen=True)
class Survey:
    """The sorted paths of all image files in ``root``, label maps included, as relative paths with ``/`` separators."""

    root: Path
    images: tuple[str, ...]

    def match(self, glob: str) -> dict[tuple[str, ...], str]:
        """Returns (texts that the wildcards of ``glob`` match) → file, for all image files that match ``glob``."""
        fixed = re.split(r"[*?{]", glob, maxsplit=1)[0]
        keys = ((data_key(glob, name), name) for name in self.images if name.startswith(fixed))
        return {key: name for key, name in keys if key is not None}


def survey(root: Path) -> Survey:
    """Lists the image files of a folder and its subfolders. Links are followed, and hidden files are skipped."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the data set")
    images = tuple(path.relative_to(root).as_posix() for path in list_images(root))
    for name in (str(root.resolve()), *images):
        if re.search("[\ud800-\udfff]", name):
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            raise InputError(f"{shown}: this name is not UTF-8; rename the file or folder")
    return Survey(root, images)


@dataclass(frozen=True)
class SplitGlobs:
    """The glob patterns of one split, and the numbers of matching files.

    Attributes:
        images: Glob pattern of the images.
        labels: Glob pattern of the label maps, or ``None`` if there are no label maps.
        list: Text file with the names of the split's images, or ``None`` if each split has its own folders.
        num_images: Number of images.
        num_labels: Number of label maps that belong to an image.
    """

    images: str
    labels: str | None = None
    list: str | None = None
    num_images: int = 0
    num_labels: int = 0


@dataclass(frozen=True)
class Guess:
    """The detected layout of a folder and the label encoding: which ids or colors stand for which classes.

    Attributes:
        layout: Name of the layout for messages.
        meaning: Label encoding, or ``None`` if there are no label maps.
        evidence: Statistics of the label maps that were read, or ``None`` if there are no label maps.
        builtin: Name of the built-in data set, or ``None`` if the folder does not contain a built-in data set.
        resize_labels: Whether some label maps of the layout differ in size from their image.
        role: Role in domain adaptation, ``source`` or ``target``, or ``None`` if the role is uncertain.
        notes: Further findings, one sentence each.
    """

    root: Path
    layout: str
    splits: Mapping[str, SplitGlobs]
    meaning: Meaning | None = None
    evidence: Evidence | None = None
    builtin: str | None = None
    resize_labels: bool = False
    role: str | None = None
    notes: tuple[str, ...] = ()

    def document(self, role: str | None = None, start: str = "") -> dict[str, Any]:
        """Returns the content of ``dataset.toml``. ``role`` replaces the detected role. Paths begin with ``start``."""
        splits = {
            name: {key: start + path for key, path in asdict(entry).items() if isinstance(path, str)}
            for name, entry in self.splits.items()
        }
        train = splits.pop("train", {})
        keys = {} if self.meaning is None else self.meaning.keys
        role = role or self.role or ("target" if train and "labels" not in train else None)
        sizes = {"resize_labels": True} if self.resize_labels else {}
        more = {"role": role, "splits": splits}
        value = {"name": self.root.resolve().name, **train, **sizes, **keys}
        return value | {key: item for key, item in more.items() if item}


def count_pairs(root: Path, splits: Mapping[str, SplitGlobs]) -> tuple[dict[str, SplitGlobs], list[Path]]:
    """Counts the images and label maps that match glob patterns, and removes label patterns that match no file.

    Returns:
        The splits with counts, and the sorted list of label maps that belong to an image.

    Raises:
        InputError: A file matches as image and as label map, or ``described_folder`` refuses a split.
    """
    counted: dict[str, SplitGlobs] = {}
    labels: set[Path] = set()
    for name, entry in splits.items():
        lists = {name: entry.list} if entry.list else {}
        globs = {name: (entry.images, entry.labels)}
        description = Description(root, name, globs, CITYSCAPES19, {}, None, None, lists, is_file=False)
        pairs = described_folder(description, name, False).pairs
        of_split = {pair.label for pair in pairs if pair.label is not None}
        both = sorted(of_split.intersection(pair.image for pair in pairs))
        if both:
            raise InputError(
                f"{root}: no pattern tells the images from label maps such as {both[0].name}; "
                "put images into images/ and label maps into labels/"
            )
        labels |= of_split
        glob = entry.labels if of_split else None
        counted[name] = replace(entry, labels=glob, num_images=len(pairs), num_labels=len(of_split))
    return counted, sorted(labels)
