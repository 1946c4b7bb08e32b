"""Compares the classes and files of data sets in any folder, and finds images that two data sets share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from iccld.data.datasets import FileDataset, file_facts
from iccld.data.interface import SegmentationDataset
from iccld.data.street_scenes import StreetScenes, generator_digest
from iccld.errors import InputError
from iccld.files import open_regular

ROLES = {
    "labeled": "labeled images",
    "target": "target images",
    "target_labeled": "labeled target images",
    "val": "validation images",
}
"""Role of a data set in a run → words for messages."""
_CHUNK = 16384


def role_title(role: str) -> str:
    """Returns the words for a role, such as ``labeled`` or ``labeled_2`` (the second source)."""
    return ROLES.get(role) or f"labeled images of source {role.removeprefix('labeled_')}"


def describe_data(dataset: SegmentationDataset) -> dict[str, Any]:
    """Returns a dict for JSON that identifies a data set, so that ``first_difference`` can detect changes.

    Files are compared by their relative paths and sizes, so a copy in another folder counts as the same data set. If
    the data set was opened without labels, the description does not include label files and classes.

    Returns:
        A dict with the keys ``name``, ``root`` (absolute path of the folder), ``images`` (number of images),
        ``classes`` (class names in label order) and ``files`` (hash of the file list, the id and color tables, and the
        data set's own classes). If a manifest lists the images, ``files`` is derived from the hash of the manifest, and
        ``manifest`` is this hash.
    """
    content = "".join(map(json.dumps, _file_list(dataset)))
    digest = dataset.layout.digest if isinstance(dataset, FileDataset) else None
    return {
        "name": dataset.name,
        "root": os.path.abspath(dataset.layout.root) if isinstance(dataset, FileDataset) else None,
        "images": len(dataset),
        "classes": list(dataset.label_space.names) if dataset.has_labels else [],
        "files": hashlib.sha256(content.encode()).hexdigest()[:16],
    } | ({} if digest is None else {"manifest": digest})


def _file_list(dataset: SegmentationDataset) -> Iterator[Any]:
    """Yields plain values that identify the images and labels of a data set."""
    if isinstance(dataset, StreetScenes):
        yield dataset.look, dataset.height, dataset.width, dataset.seed, generator_digest()
    elif isinstance(dataset, FileDataset):
        layout = dataset.layout
        if dataset.has_labels:
            yield sorted(layout.ids.items()), sorted((layout.colors or {}).items()), layout.space.names
        if layout.digest is not None:
            yield layout.digest
            return
        for pair in layout.pairs:
            label = pair.label if dataset.has_labels else None
            sizes = [path and file_facts(path)[0] for path in (pair.image, label)]
            yield pair.name, label and label.name, sizes
    else:
        yield [dataset.file_name(index) for index in range(len(dataset))]


def first_difference(before: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns a message about the first data set that has changed, or ``None`` if no data set has changed.

    Both arguments map roles to results of ``describe_data``. Only roles in both arguments are compared. Folder and name
    are not compared, because a copy of a data set can lie in a folder with another name.
    """
    for role, facts in now.items():
        earlier = before.get(role)
        if not isinstance(earlier, Mapping):
            continue
        was, classes = earlier.get("images"), earlier.get("classes")
        if was != facts["images"]:
            what = f"there were {was} images, now {facts['images']}"
        elif classes != facts["classes"]:
            what = f"classes were {_some(classes)}, now {_some(facts['classes'])}"
        elif earlier.get("files") != facts["files"]:
            what = "the names or sizes of its files, or the meaning of its label ids, are others"
        else:
            continue
        return f"of the {role_title(role)} ({facts['root'] or facts['name']}) {what}"
    return None


def _some(names: Any) -> str:
    listed = [str(name) for name in names or ()]
    return ", ".join(listed[:4]) + (f", … ({len(listed)})" if len(listed) > 4 else "") if listed else "none"


def shared_images(one: SegmentationDataset, other: SegmentationDataset) -> list[str]:
    """Returns the names of images in ``one`` that are also in ``other``. Data sets without files share no images.

    Images are the same if their files have the same size and the same bytes at the beginning, middle and end. Links
    and copies are found in this way.
    """
    if not isinstance(one, FileDataset) or not isinstance(other, FileDataset):
        return []
    images = [[(pair.name, pair.image) for pair in dataset.layout.pairs] for dataset in (one, other)]
    return [name for name, _ in shared_files(*images)]


def shared_files(one: Sequence[tuple[str, Path]], other: Sequence[tuple[str, Path]]) -> list[tuple[str, str]]:
    """Returns (name in ``one``, name in ``other``) for each file that is in both sequences.

    Both sequences contain (name, path). Files that cannot be read are skipped.
    """
    sizes = {_size(path) for _, path in one} & {_size(path) for _, path in other} - {-1}
    names = {_digest(path): name for name, path in reversed(other) if _size(path) in sizes}
    names.pop(b"", None)
    digests = ((name, _digest(path)) for name, path in one if _size(path) in sizes)
    return [(name, names[digest]) for name, digest in digests if digest in names]


def _size(path: Path) -> int:
    try:
        return file_facts(path)[0]
    except InputError:
        return -1


def _digest(path: Path) -> bytes:
    """Returns a hash of a file's size, beginning, middle and end, or no bytes if the file cannot be read."""
    try:
        with open_regular(path) as handle:
            size = handle.seek(0, os.SEEK_END)
            digest = hashlib.blake2b(str(size).encode())
            for start in sorted({0, max(0, size // 2 - _CHUNK // 2), max(0, size - _CHUNK)}):
                handle.seek(start)
                digest.update(handle.read(_CHUNK))
            return digest.digest()
    except InputError:
        return b""
