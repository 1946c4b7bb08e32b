"""What a data set is, wherever it lies: its classes in order, and its files by relative name and size."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from iccld.data.datasets import FileDataset, SegmentationDataset
from iccld.data.street_scenes import StreetScenes, generator_digest
from iccld.errors import InputError

ROLES = {"labeled": "labeled images", "target": "target images", "val": "validation images"}
"""The data sets of a run."""


def describe_data(dataset: SegmentationDataset) -> dict[str, Any]:
    """Describes a data set in plain values; two of the same description train the same model.

    Files count by their names below the data set's folders and by their sizes, not by their times: a copy elsewhere is
    the same data set. Of one that was opened without labels, label files and classes do not count.

    Returns:
        ``name``; ``root``, where it lies; ``images``, their number; ``classes``, their names in order; ``files``, a
        hash of the list of files and of what the numbers in label files mean.

    Raises:
        InputError: a file is gone.
    """
    digest = hashlib.sha256()
    root: str | None = None
    if isinstance(dataset, StreetScenes):
        facts = (dataset.look, dataset.height, dataset.width, dataset.seed, generator_digest())
        digest.update(json.dumps(facts).encode())
    elif isinstance(dataset, FileDataset):
        root = os.path.abspath(dataset.layout.root)
        _add_files(digest, dataset)
    else:
        digest.update(json.dumps([dataset.file_name(index) for index in range(len(dataset))]).encode())
    return {
        "name": dataset.name,
        "root": root,
        "images": len(dataset),
        "classes": list(dataset.label_space.names) if dataset.has_labels else [],
        "files": digest.hexdigest()[:16],
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Says in a few words how one description differs from another; None if not at all.

    Where the data lie does not count, nor does the name, which may be that of the folder.
    """
    if before.get("images") != now.get("images"):
        return f"there were {before.get('images')} images, now {now.get('images')}"
    if before.get("classes") != now.get("classes"):
        return f"classes were {_some(before.get('classes'))}, now {_some(now.get('classes'))}"
    if before.get("files") != now.get("files"):
        return "the names or sizes of its files, or the meaning of its label ids, are others"
    return None


def first_difference(before: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Says how the data sets of a run differ from others, by role; None if none does that is in both."""
    for role, facts in now.items():
        earlier = before.get(role)
        what = difference(earlier, facts) if isinstance(earlier, Mapping) else None
        if what is not None:
            return f"of the {ROLES[role]} ({facts['root'] or facts['name']}) {what}"
    return None


def _some(names: Any) -> str:
    listed = [str(name) for name in names or ()]
    return ", ".join(listed[:4]) + (f", … ({len(listed)})" if len(listed) > 4 else "") if listed else "none"


def _add_files(digest: Any, dataset: FileDataset) -> None:
    layout = dataset.layout
    if dataset.has_labels:
        colors = sorted((layout.colors or {}).items())
        digest.update(json.dumps([sorted(layout.ids.items()), colors, layout.space.names]).encode())
    for pair in layout.pairs:
        sizes = []
        for path in (pair.image, pair.label if dataset.has_labels else None):
            try:
                sizes.append(None if path is None else os.stat(path).st_size)
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        label = os.path.basename(pair.label) if pair.label is not None and dataset.has_labels else None
        digest.update(json.dumps([pair.name, label, sizes]).encode())
