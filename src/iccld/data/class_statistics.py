"""How many pixels of each class each image has, counted once and kept beside the run."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from iccld.data.datasets import SegmentationDataset
from iccld.files import as_file_name, write_atomic
from iccld.progress import track


@runtime_checkable
class Fingerprinted(Protocol):
    """A data set that can tell whether its files have changed."""

    def fingerprint(self) -> str:
        """A hash of the files and of what their labels mean."""
        ...


def class_counts(
    dataset: SegmentationDataset, cache_dir: str | os.PathLike[str] | None = None, num_threads: int = 4
) -> Int64[np.ndarray, "n k"]:
    """Counts the pixels of each class in each label map, with a progress bar.

    Args:
        dataset: a data set with labels.
        cache_dir: a folder that keeps the counts of file-based data sets. They are counted again when a file,
            its size or its time, the classes or the id table have changed.
        num_threads: threads that read label maps.

    Returns:
        Pixels of class k in image n, ignored pixels not counted.

    Raises:
        InputError: a label map cannot be read.
    """
    assert dataset.has_labels, f"{dataset.name} was opened without labels"
    cache: Path | None = None
    shape = (len(dataset), len(dataset.label_space))
    if cache_dir is not None and isinstance(dataset, Fingerprinted):
        cache = Path(cache_dir, f"class_counts_{as_file_name(dataset.name)}_{dataset.fingerprint()[:16]}.npz")
        kept = _load(cache, shape)
        if kept is not None:
            return kept
    counts = np.zeros(shape, dtype=np.int64)
    rows = _count_all(dataset, num_threads)
    for index, row in enumerate(track(rows, len(dataset), f"counting classes of {dataset.name}")):
        counts[index] = row
    if cache is not None:
        write_atomic(cache, lambda temporary: np.savez_compressed(temporary, counts=counts))
    return counts


def _count_all(dataset: SegmentationDataset, num_threads: int) -> Iterator[Int64[np.ndarray, " k"]]:
    num_classes = len(dataset.label_space)

    def count(index: int) -> Int64[np.ndarray, " k"]:
        return np.bincount(dataset.label(index).ravel(), minlength=256)[:num_classes].astype(np.int64)

    executor = ThreadPoolExecutor(max_workers=num_threads)
    try:
        yield from executor.map(count, range(len(dataset)))
    finally:
        # After an error or Ctrl-C nobody waits for the rest.
        executor.shutdown(wait=True, cancel_futures=True)


def _load(cache: Path, shape: tuple[int, int]) -> Int64[np.ndarray, "n k"] | None:
    """Reads what was kept; None if there is nothing, or something else. No more than is expected is unpacked."""
    size = 8 * shape[0] * shape[1]
    try:
        with zipfile.ZipFile(cache) as archive, archive.open("counts.npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):
                return None
            if np.lib.format.read_array_header_1_0(member) != (shape, False, np.dtype(np.int64)):
                return None
            data = member.read(size + 1)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    return np.frombuffer(data, np.int64).reshape(shape).copy() if len(data) == size else None
