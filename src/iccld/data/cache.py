"""Cache of decoded and resized training data on disk, for later epochs and runs.

A PNG of two megapixels takes far longer to decode and resize than to crop. The cache stores each resized image and
label map in an uncompressed ``.npy`` file. Files are mapped into memory, so only the rows of a crop are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tokenize
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from iccld.data.datasets import FileDataset
from iccld.data.image_files import image_size
from iccld.data.workers import threaded_map
from iccld.errors import RunFailedError
from iccld.files import AnyPath, as_file_name, free_bytes, replacing
from iccld.progress import track
from iccld.resizing import base_size, resize_image, resize_label
from iccld.shards import WHOLE, Shard

_FORMAT = 2
"""Version of the cached files. The version must be raised if decoding, resizing or the file format changes."""


class CachedDataset:
    """A data set of files that stores decoded images and labels on disk, resized to a base size (``size``).

    If ``iccld.data.transforms.TrainTransform`` scales by 1, samples are bitwise equal with and without the cache. If
    images are cached and scaled randomly, they are resampled twice: to the base size and then to the random size.

    Several processes can read and fill one cache at the same time. If the files, classes or base size of a data set
    change, a new subfolder of ``folder`` is used. A damaged cache file is written again.

    Args:
        dataset: Data set that decodes the files.
        folder: Folder of the cache. Several data sets can share this folder, since each uses its own subfolder.
        size: Base height and width in pixels. With ``None``, images keep their size.
        stretch: Whether images are resized to exactly ``size``. If false, images keep their aspect ratio
            (``iccld.resizing.base_size``).
    """

    def __init__(
        self, dataset: FileDataset, folder: AnyPath, size: tuple[int, int] | None, *, stretch: bool = False
    ) -> None:
        self.name, self.label_space, self.has_labels = dataset.name, dataset.label_space, dataset.has_labels
        self.dataset, self.size, self.stretch = dataset, size, stretch
        about = {"data set": dataset.name, "files": dataset.fingerprint(), "size": size, "format": _FORMAT}
        about |= {"stretch": stretch} if size is not None else {}
        key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"{as_file_name(dataset.name)}-{key}"

    def __len__(self) -> int:
        return len(self.dataset)

    def file_name(self, index: int) -> str:
        """Returns the image's path relative to the image folder, with ``/`` as the separator."""
        return self.dataset.file_name(index)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the resized RGB image as a read-only array. If the cache lacks the image, the image is stored."""
        return self._get(index, "image")

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Returns the resized label map as a read-only array. If the cache lacks the map, the map is stored."""
        return self._get(index, "label")

    def missing(self, shard: Shard = WHOLE) -> list[int]:
        """Returns the indices of the shard's samples that are not in the cache."""
        kinds = ("image", "label") if self.has_labels else ("image",)
        wanted = (n for n in range(len(self)) if shard.takes(self.file_name(n)))
        return [n for n in wanted if not all(os.path.isfile(self._path(n, kind)) for kind in kinds)]

    def bytes_for(self, num: int) -> int:
        """Estimates the disk space of ``num`` samples in bytes, from the size of the first image after resizing."""
        first = image_size(self.dataset.layout.pairs[0].image) if len(self) else (0, 0)
        height, width = base_size(first, self.size, stretch=self.stretch) if min(first) else first
        return num * height * width * (4 if self.has_labels else 3)

    def fill(self, jobs: int, shard: Shard = WHOLE) -> int:
        """Decodes and stores the shard's missing samples in ``jobs`` threads. Returns the number of stored samples.

        Raises ``InputError`` if a file cannot be read, and ``RunFailedError`` if the disk has not enough free space.
        After an error, the samples that were stored before the error remain.
        """
        check_room([self], shard)
        missing = self.missing(shard)

        def keep(index: int) -> None:
            self.image(index)
            if self.has_labels:
                self.label(index)

        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # decoding already runs in several threads, so OpenCV must not start more
        try:
            done = threaded_map(keep, missing, jobs)
            return sum(1 for _ in track(done, len(missing), f"decoding {self.name}"))
        finally:
            cv2.setNumThreads(threads)

    def _path(self, index: int, kind: str) -> Path:
        return self.folder / f"{index:06d}.{kind}.npy"

    def _get(self, index: int, kind: str) -> np.ndarray:
        path, is_image = self._path(index, kind), kind == "image"
        kept = map_array(path)
        if kept is not None and kept.dtype == np.uint8 and kept.ndim == (3 if is_image else 2):
            return kept
        array = self.dataset.image(index) if is_image else self.dataset.label(index)
        size = base_size((array.shape[0], array.shape[1]), self.size, stretch=self.stretch)
        made = resize_image(array, size) if is_image else resize_label(array, size)
        made.flags.writeable = False  # like arrays that are read from the cache
        write_array(path, made)
        return made


def map_array(path: Path) -> np.ndarray | None:
    """Maps a ``.npy`` file into memory as a read-only array. Returns ``None`` if the file is missing or damaged."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError):
        return None


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a ``.npy`` file atomically. Raises the same errors as ``replacing``.

    ``numpy.save`` is not used, because its error message does not say that the disk is full.
    """
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, np.lib.format.header_data_from_array_1_0(array))
        handle.write(np.ascontiguousarray(array).data)


def check_room(caches: Sequence[CachedDataset], shard: Shard = WHOLE) -> None:
    """Raises ``RunFailedError`` if the disk lacks space for the shard's missing samples.

    All ``caches`` are in one folder.
    """
    needed = sum(cache.bytes_for(len(cache.missing(shard))) for cache in caches)
    if not needed:
        return
    folder = caches[0].folder.parent
    free = free_bytes(folder)
    if needed > free:
        raise RunFailedError(
            f"{folder}: needs {needed / 1e9:.1f} GB more and the disk has {free / 1e9:.1f} GB; "
            "free some space, or choose another folder with --data.cache"
        )
