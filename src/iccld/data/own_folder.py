"""Describes a user's own data set by its ``dataset.toml`` or, without this file, by the names of its folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from iccld.data.description import DESCRIPTION, Description, parse_description, read_description
from iccld.data.image_files import is_image_name
from iccld.data.layouts import IMAGE_WORDS, LABEL_WORDS, SPLIT_WORDS, list_images
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19

_MEND_IDS = "write a dataset.toml with classes and [ids] ('iccld data init' begins one)"


def own_description(root: Path) -> Description:
    """Returns the description of a user's own folder.

    If the folder has a ``dataset.toml`` (see docs/data.md), this file is read. Otherwise, the splits are found by the
    names of folders: ``<split>/images``, ``images/<split>``, or ``<split>`` with images and without labels. If there
    are no such folders, all images are in the split ``train``. Label maps lie in ``labels`` beside ``images``, have
    the names of the images and contain Cityscapes trainIds.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the images")
    if (root / DESCRIPTION).is_file():
        return read_description(root / DESCRIPTION)
    places: dict[str, tuple[Path, Path | None]] = {}
    for folder in _folders(root):
        word = folder.name.lower()
        images, labels = _roles(folder)
        if images is not None and word not in LABEL_WORDS:
            places[folder.name] = images, labels
        elif word in SPLIT_WORDS and labels is None and list_images(folder, root):
            places[folder.name] = folder, None
    images, labels = _roles(root)
    if images is not None:
        inner = _folders(images)
        has_files = any(is_image_name(path.name) and path.is_file() for path in images.iterdir())
        if inner and not has_files and all(folder.name.lower() in SPLIT_WORDS for folder in inner):
            for folder in inner:
                beside = None if labels is None else labels / folder.name
                places[folder.name] = folder, beside if beside is not None and beside.is_dir() else None
        else:
            places.setdefault("train", (images, labels))
    splits = {}
    for name, (images, labels) in (places or {"train": (root, None)}).items():
        folders = {"images": images} | ({} if labels is None else {"labels": labels})
        splits[name] = {
            key: (folder / "**/*.*").relative_to(root).as_posix() for key, folder in folders.items()
        }
    value = {"name": "folder", "classes": CITYSCAPES19.name, "splits": splits}
    return replace(parse_description(root, value), mend_ids=_MEND_IDS, is_file=False)


def _roles(folder: Path) -> tuple[Path | None, Path | None]:
    """Returns the image folder and the label folder in ``folder``. A missing or ambiguous folder is ``None``."""
    inner = {path.name.lower(): path for path in _folders(folder)}

    def only(usual: str, words: frozenset[str]) -> Path | None:
        named = [inner[usual]] if usual in inner else [inner[word] for word in inner if word in words]
        return named[0] if len(named) == 1 else None

    images, labels = only("images", IMAGE_WORDS), only("labels", LABEL_WORDS)
    named_otherwise = images is not None and images.name.lower() != "images"
    if named_otherwise and labels is None and folder.name.lower() not in SPLIT_WORDS:
        # If there is no label folder, a folder such as "camera" is not used as the image folder, because a folder
        # beside it, such as "lidar", can contain images too.
        images = None
    return images, labels


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
