"""Decoded and resized training data on disk, for epochs and runs after the first.

Decoding a PNG of two megapixels and making it smaller takes far longer than cutting a crop out of it. The cache keeps
what comes out, one plain ``.npy`` file an image and one a label map, and maps it into memory: of a crop only its rows
are read.
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
from iccld.files import as_file_name, free_bytes, replacing
from iccld.progress import track
from iccld.resizing import base_size, resize_image, resize_label

_FORMAT = 2
"""Part of every key: to be raised when decoding, resizing or the files' form changes."""


class CachedDataset:
    """A data set of files that keeps what it has decoded; images and labels come in the base size.

    Where ``iccld.data.transforms.TrainTransform`` scales by 1, samples are the same, bit by bit, with and without the
    cache. A random scale resamples what has been resampled to the base size before.

    Any number of processes may read and fill one cache at once. A data set whose files, classes or base size change
    gets another folder; a damaged file is made anew.

    Args:
        dataset: the files.
        folder: the cache, which several data sets may share.
        size: base height and width in pixels; None keeps each image's own.
        stretch: whether images are brought to exactly that size or keep their shape (``iccld.resizing.base_size``).
    """

    def __init__(
        self,
        dataset: FileDataset,
        folder: str | os.PathLike[str],
        size: tuple[int, int] | None,
        *,
        stretch: bool = False,
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
        """The image's path relative to the folder of images, with ``/``."""
        return self.dataset.file_name(index)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The RGB image in the base size, read only."""
        return self._get(index, "image")

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The label map in the base size, read only."""
        return self._get(index, "label")

    def missing(self) -> list[int]:
        """Indices of what has not been kept yet."""
        kinds = ("image", "label") if self.has_labels else ("image",)
        return [n for n in range(len(self)) if not all(os.path.isfile(self._path(n, kind)) for kind in kinds)]

    def bytes_for(self, num: int) -> int:
        """About how much disk some samples take; where images keep their sizes, as if all had the first one's."""
        first = image_size(self.dataset.layout.pairs[0].image) if len(self) else (0, 0)
        height, width = base_size(first, self.size, stretch=self.stretch) if min(first) else first
        return num * height * width * (4 if self.has_labels else 3)

    def fill(self, jobs: int) -> int:
        """Decodes and keeps what is missing in so many threads, with progress; returns the number of samples.

        Raises:
            InputError: a file cannot be read, or the disk has no room for the rest; what has been written stays.
        """
        check_room([self])
        missing = self.missing()

        def keep(index: int) -> None:
            self.image(index)
            if self.has_labels:
                self.label(index)

        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # the jobs are the parallelism
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
        made.flags.writeable = False  # as what is read from the cache
        write_array(path, made)
        return made


def map_array(path: Path) -> np.ndarray | None:
    """Maps a ``.npy`` file into memory, read only; None if there is none or it is damaged."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError):
        return None


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a ``.npy`` file atomically. ``numpy.save`` does not say that a disk is full.

    Raises:
        RunFailedError: the disk is full or broken.
        InputError: the folder cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, np.lib.format.header_data_from_array_1_0(array))
        handle.write(np.ascontiguousarray(array).data)


def check_room(caches: Sequence[CachedDataset]) -> None:
    """Refuses caches in one folder that would fill its disk, before anything is written.

    Raises:
        RunFailedError: what they lack needs more than is free.
    """
    needed = sum(cache.bytes_for(len(cache.missing())) for cache in caches)
    if not needed:
        return
    folder = caches[0].folder.parent
    free = free_bytes(folder)
    if needed > free:
        raise RunFailedError(
            f"{folder}: needs {needed / 1e9:.1f} GB more and the disk has {free / 1e9:.1f} GB; "
            "free some space, or choose another folder with --data.cache"
        )
