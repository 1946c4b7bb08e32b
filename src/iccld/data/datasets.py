"""Segmentation data sets that return images and label maps by index. Labels belong to a given label space."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from iccld import archives, remote
from iccld.data.description import Description
from iccld.data.image_files import RawLabel, image_size, read_image, read_label
from iccld.data.interface import UNMAPPED, SegmentationDataset, remap_table
from iccld.data.layouts import (
    DATASET_NAMES,
    FilePair,
    Layout,
    built_in,
    list_split,
    manifest_layout,
    own_description,
)
from iccld.data.manifest import SUFFIX as MANIFEST
from iccld.data.outside import open_outside
from iccld.data.softness import advise
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.labels import CITYSCAPES19, IGNORE, LabelSpace, suggest
from iccld.mirrors import local_copy
from iccld.plugins import is_outside
from iccld.resizing import resize_label

_SCENE_SPLITS = ("train", "val", "test")
_log = logging.getLogger(__name__)


class FileDataset:
    """A data set of image files, with or without label files. Files are decoded at each access.

    Args:
        layout: Files of the data set and the classes of the raw ids.
        label_space: Label space that labels are converted to.
        needs_labels: Whether labels will be read. If true, ``InputError`` is raised if an image has no label map, or if
            no class of ``layout`` is in ``label_space``. If false, label files need not exist and are not opened.
    """

    def __init__(self, layout: Layout, label_space: LabelSpace, needs_labels: bool = True) -> None:
        self.name, self.label_space, self.has_labels = layout.name, label_space, needs_labels
        self.layout = layout
        self._table = remap_table(layout.ids, layout.space, label_space)
        self._resized: set[int] = set()
        if needs_labels:
            _require_labels(layout, label_space)

    def __len__(self) -> int:
        return len(self.layout.pairs)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads the RGB image."""
        return read_image(self.layout.pairs[index].image)

    def raw_label(self, index: int) -> RawLabel:
        """Reads the label map with the raw ids and the size of the file. Colors are converted to raw ids."""
        assert self.has_labels, f"{self.name} was opened without labels"
        path = self.layout.pairs[index].label
        assert path is not None
        return read_label(path, self.layout.colors)

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Reads the label map and converts the raw ids to labels of ``label_space``.

        A label map that differs in size from the image is scaled if ``layout.resize_labels`` is true. Otherwise, such a
        label map raises ``InputError``. An unreadable file or an unknown id also raises ``InputError``.
        """
        pair = self.layout.pairs[index]
        label = self._remap(pair, self.raw_label(index))
        size = image_size(pair.image)
        if size == label.shape:
            return label
        sizes = f"label map is {label.shape[1]}×{label.shape[0]} pixels, image {size[1]}×{size[0]}"
        if not self.layout.resize_labels:
            raise InputError(f"{pair.label}: {sizes}; replace the one that is wrong or remove both files")
        if index not in self._resized:
            self._resized.add(index)
            _log.warning("%s: %s; the label map is resized", pair.label, sizes)
        return resize_label(label, size)

    def file_name(self, index: int) -> str:
        """Returns the image's path relative to the image folder, with ``/`` as the separator."""
        return self.layout.pairs[index].name

    def fingerprint(self) -> str:
        """Returns a hash of the files (absolute paths, sizes, modification times), the id table and the classes.

        For images in object storage, the hash of their manifest is used instead of size and time.

        If the data set was opened without labels, the hash does not depend on label files, ids and classes.
        """
        digest = hashlib.sha256(repr(self.name).encode())
        if self.has_labels:
            space = (self.label_space.name, self.label_space.names)
            colors = sorted((self.layout.colors or {}).items())
            digest.update(json.dumps([space, colors]).encode() + self._table.tobytes())
        for pair in self.layout.pairs:
            for path in filter(None, (pair.image, pair.label if self.has_labels else None)):
                if remote.url_of(path):  # only manifests list such images
                    digest.update(repr((self.layout.digest, str(path))).encode())
                    continue
                digest.update(repr((os.path.abspath(path), *file_facts(path))).encode())
        return digest.hexdigest()

    def _remap(self, pair: FilePair, raw: RawLabel) -> UInt8[np.ndarray, "h w"]:
        if raw.dtype != np.uint8 and raw.max(initial=0) < 256:  # cv2.LUT is faster than NumPy and needs bytes
            raw = raw.astype(np.uint8)
        label = cv2.LUT(raw, self._table[:256]) if raw.dtype == np.uint8 else self._table[raw]
        unknown = label == UNMAPPED
        if unknown.any():
            found, counts = np.unique(raw[unknown], return_counts=True)
            first, more = int(found[0]), f" and {len(found) - 1} other ids" if len(found) > 1 else ""
            raise InputError(
                f"{pair.label}: id {first} ({int(counts[0])} pixels){more} has no class in {self.name}; "
                + advise(raw, self.layout.mend_ids)
            )
        return np.asarray(label, dtype=np.uint8)


def file_facts(path: Path) -> tuple[int, int]:
    """Returns a file's size in bytes and the time of its last change in nanoseconds.

    Raises ``InputError`` if the file cannot be read.
    """
    if member := archives.find(path):
        return member.size, member.mtime_ns
    try:
        facts = os.stat(path)
        return facts.st_size, facts.st_mtime_ns
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def find_files(name: str, root: AnyPath, split: str, needs_labels: bool) -> Layout:
    """Lists the image and label files of a split without opening them.

    The ``root`` of a ``folder`` may be a manifest of unlabeled images.
    """
    if name == "folder" and _is_manifest(root):
        return manifest_layout(Path(root), split, needs_labels)
    return list_split(describe(name, root), split, needs_labels)


def _is_manifest(root: AnyPath) -> bool:
    return Path(root).suffix == MANIFEST and not os.path.isdir(root)


def describe(name: str, root: AnyPath) -> list[Description]:
    """Returns the descriptions of a data set that consists of files, one for each possible label encoding."""
    root = local_copy(root)
    return [own_description(root)] if name == "folder" else built_in(name, root)


def list_splits(name: str, root: AnyPath) -> tuple[str, ...]:
    """Lists the names of a data set's splits. Text files that define a split of GTA5 or SYNTHIA are not listed."""
    if name == "street_scenes":
        return _SCENE_SPLITS
    return ("train",) if _is_manifest(root) else tuple(describe(name, root)[0].globs)


def choose_split(name: str, root: AnyPath | None, split: str | None, usual: str) -> str:
    """Returns the name of the split to open.

    If ``split`` is given, ``split`` is returned. Otherwise, if the data set has only one split, this split is returned.
    Without a ``root`` or with several splits, ``usual`` is returned.
    """
    if split is not None or root is None or (name not in DATASET_NAMES and is_outside("dataset", name)):
        return split or usual
    names = list_splits(name, root)
    return names[0] if len(names) == 1 else usual


def native_space(layout: Layout) -> LabelSpace:
    """Returns a data set's default label space, for example the 11 classes of CamVid."""
    return layout.native or layout.space


def open_dataset(
    name: str,
    root: AnyPath | None = None,
    *,
    split: str = "train",
    label_space: LabelSpace | None = None,
    needs_labels: bool = True,
    look: str = "game",
    count: int = 1000,
    height: int = 256,
    width: int = 512,
    seed: int = 0,
    scene_cache: str | None = None,
) -> SegmentationDataset:
    """Opens a data set by name.

    Raises ``InputError`` if ``name`` or ``split`` is unknown, a folder is missing or empty, or a needed label map is
    missing.

    Args:
        name: Name of the data set: one of ``DATASET_NAMES``, or a class of another package (``iccld.plugins``).
        root: Folder of the data set. Only ``street_scenes`` needs no folder.
        split: Name of the split. A data set without splits accepts ``train`` or a text file of image names.
            ``street_scenes`` accepts ``train``, ``val`` and ``test``, which give the same scenes for the same ``seed``.
        label_space: Label space of the label maps. ``None`` means the data set's default (``native_space``).
        needs_labels: Whether labels will be read. If false, label files need not exist.
        look: Look of the scenes, such as ``game``. Only ``street_scenes`` uses this and the following parameters.
        count: Number of scenes.
        height: Height of a scene in pixels.
        width: Width of a scene in pixels.
        seed: Seed of the scenes.
        scene_cache: Folder in which rendered scenes are stored. With ``None``, nothing is stored.
    """
    if name == "street_scenes":
        if split not in _SCENE_SPLITS:
            raise InputError(f"street_scenes have no split {split!r}; {suggest(split, _SCENE_SPLITS)}")
        from iccld.data.street_scenes import StreetScenes

        scenes = StreetScenes(look, count, height, width, seed, label_space or CITYSCAPES19, scene_cache)
        scenes.require_memory()
        return scenes
    if name not in DATASET_NAMES and is_outside("dataset", name):
        return open_outside(name, root, split, label_space, needs_labels)
    if name in DATASET_NAMES and root is None:
        raise InputError(
            f"data set {name!r} needs its root folder; give the folder that holds it "
            "(--data.source-root and --data.target-root of iccld train, --root of iccld evaluate)"
        )
    layout = find_files(name, root or "", split, needs_labels)
    return FileDataset(layout, label_space or native_space(layout), needs_labels)


def _require_labels(layout: Layout, wanted: LabelSpace) -> None:
    """Raises ``InputError`` if an image has no label map, or no class of the data set is in ``wanted``."""
    bare = [pair for pair in layout.pairs if pair.label is None]
    if bare:
        fault = f" ({len(bare)} of {len(layout.pairs)} images have none)"
        remedy = "add the missing labels or remove the images"
        if len(bare) == len(layout.pairs) and layout.stray_labels:
            example = layout.stray_labels[0].name
            fault = f", nor has any other image, but there are label files (for example {example})"
            remedy = "give images and labels the same names"
        raise InputError(f"{bare[0].image}: has no label{fault}; {remedy}")
    if set(layout.space.lut_to(wanted)) == {IGNORE}:  # all pixels would be ignored
        spaces = (layout.space, wanted)
        own, others = (", ".join(space.names[:3]) + ", …" * (len(space) > 3) for space in spaces)
        raise InputError(
            f"{layout.root}: none of its classes ({own}) is one of {wanted.name} ({others}); "
            "give both the same names, or train with --data.label-space source"
        )
