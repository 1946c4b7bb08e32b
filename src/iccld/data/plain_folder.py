"""Folders without a description: which splits they have, and where images and label maps lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from iccld.data.image_files import is_image_name
from iccld.data.layouts import list_images
from iccld.errors import InputError
from iccld.labels import suggest

SPLIT_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""What folders of splits are called, in lower case, and which split that is."""
IMAGE_WORDS = frozenset(
    (
        "images", "image", "imgs", "img", "rgb", "photos", "photo", "frames", "pictures", "jpegimages",
        "leftimg8bit", "camera", "color", "input",
    )
)  # fmt: skip
"""Words, in lower case, that name folders of images."""
LABEL_WORDS = frozenset(
    (
        "labels", "label", "lab", "masks", "mask", "gt", "groundtruth", "annotations", "annotation", "annotated",
        "annot", "anns", "ann", "seg", "segmentation", "segmentations", "segmented", "segmentationclass", "segmaps",
        "semantic", "gtfine", "labelids", "labeltrainids", "labeled", "labelled", "trainid", "target", "targets",
    )
)  # fmt: skip
"""Words, in lower case, that name folders of label maps."""


@dataclass(frozen=True)
class Place:
    """Where a split lies.

    Attributes:
        images: the folder of its images.
        labels: the folder of its label maps; None if there is none, or if it is not plain which.
    """

    images: Path
    labels: Path | None


def find_splits(root: Path) -> dict[str, Place]:
    """Finds the splits of a folder.

    They are the folders that hold a folder of images (``<split>/images``), the folders below ``images/`` that are
    named as splits (``images/<split>``), or the folders of images that are named so themselves. A folder without any
    of these is one split, ``train``.
    """
    splits: dict[str, Place] = {}
    for folder in _folders(root):
        word = folder.name.lower()
        images, labels = _roles(folder)
        if images is not None and word not in LABEL_WORDS:
            splits[folder.name] = Place(images, labels)
        elif word in SPLIT_WORDS and labels is None and list_images(folder, root):
            splits[folder.name] = Place(folder, None)
    images, labels = _roles(root)
    if images is not None:
        inner = _folders(images)
        if inner and all(folder.name.lower() in SPLIT_WORDS for folder in inner) and not _has_files(images):
            for folder in inner:
                beside = None if labels is None else labels / folder.name
                splits[folder.name] = Place(
                    folder, beside if beside is not None and beside.is_dir() else None
                )
        else:
            splits.setdefault("train", Place(images, labels))
    return splits or {"train": Place(root, None)}


def match_split(wanted: str, names: Collection[str]) -> str | None:
    """Finds a split by its name, or by another word for the same (``val`` for ``validation``); None if there is none.

    ``all`` is the only split that there is.
    """
    if wanted in names:
        return wanted
    if wanted == "all" and len(names) == 1:
        return next(iter(names))
    meant = SPLIT_WORDS.get(wanted.lower())
    return next((name for name in names if meant and SPLIT_WORDS.get(name.lower()) == meant), None)


def require_split(where: Path, wanted: str, names: Collection[str]) -> str:
    """Finds a split as ``match_split`` does.

    Raises:
        InputError: there is no such split; the message lists those that there are.
    """
    found = match_split(wanted, names)
    if found is None:
        raise InputError(f"{where}: has no split {wanted!r}; {suggest(wanted, sorted(names))}")
    return found


def _roles(folder: Path) -> tuple[Path | None, Path | None]:
    """The folders of images and of label maps in a folder; None where there is none or several could be meant."""
    inner = {path.name.lower(): path for path in _folders(folder)}
    labels = _only(inner, "labels", LABEL_WORDS)
    images = _only(inner, "images", IMAGE_WORDS)
    named_otherwise = images is not None and images.name.lower() != "images"
    if named_otherwise and labels is None and folder.name.lower() not in SPLIT_WORDS:
        images = None  # "camera" beside "lidar" is no folder of images with all else left out
    return images, labels


def _only(inner: Mapping[str, Path], usual: str, words: frozenset[str]) -> Path | None:
    named = [inner[usual]] if usual in inner else [path for word, path in inner.items() if word in words]
    return named[0] if len(named) == 1 else None


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _has_files(folder: Path) -> bool:
    return any(is_image_name(path.name) and path.is_file() for path in folder.iterdir())
