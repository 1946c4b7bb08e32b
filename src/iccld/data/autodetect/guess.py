"""What a folder was taken for: the common form of all guesses."""

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
from iccld.data.globs import data_key
from iccld.data.layouts import described_folder, list_images
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19


@dataclass(frozen=True)
class Survey:
    """The image files of a folder, label maps among them, relative to it with ``/`` and sorted."""

    root: Path
    images: tuple[str, ...]

    def match(self, glob: str) -> dict[tuple[str, ...], str]:
        """Finds the image files that a glob of ``dataset.toml`` fits, by what its wildcards stand for."""
        fixed = re.split(r"[*?{]", glob, maxsplit=1)[0]
        keys = ((data_key(glob, name), name) for name in self.images if name.startswith(fixed))
        return {key: name for key, name in keys if key is not None}


def survey(root: Path) -> Survey:
    """Lists a folder deeply, following links; hidden files and folders are left out."""
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
    """One split of the data set: its globs, and what they fit.

    Attributes:
        list: text file that names the split's images, None where folders tell the splits apart.
        num_labels: label maps that belong to one of the images.
    """

    images: str
    labels: str | None = None
    list: str | None = None
    num_images: int = 0
    num_labels: int = 0


@dataclass(frozen=True)
class Guess:
    """What a folder was taken for.

    Attributes:
        layout: its layout, as people call it.
        meaning: of the label maps; None without any.
        evidence: what the label maps that were read hold; None without any.
        builtin: name of the data set that ``iccld`` knows without a file, None if there is none.
        resize_labels: whether some label maps are known to have another size than their image.
        role: ``source`` or ``target`` where it is plain which.
        notes: what else was seen, a sentence each.
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
        """The contents of ``dataset.toml`` with the user's role, if any; its paths begin with ``start``."""
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
    """Counts the images and label maps that globs fit, and leaves out globs of label maps that fit none.

    Returns:
        The splits, and the label maps that belong to an image of one of them, sorted.
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
