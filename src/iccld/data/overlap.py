"""Images that two data sets share: the same file, by whatever path, or copies of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from iccld.data.datasets import FileDataset, SegmentationDataset
from iccld.errors import InputError
from iccld.files import open_regular

_CHUNK = 16384


def shared_images(one: SegmentationDataset, other: SegmentationDataset) -> list[str]:
    """Names the images of ``one`` that ``other`` has too, in order; empty unless both consist of files.

    The same file counts through links and other paths, and so do copies: files of one size whose beginning, middle
    and end are the same bytes.
    """
    if not isinstance(one, FileDataset) or not isinstance(other, FileDataset):
        return []
    return [name for name, _ in shared_files(_images(one), _images(other))]


def shared_files(one: Iterable[tuple[str, Path]], other: Iterable[tuple[str, Path]]) -> list[tuple[str, str]]:
    """Finds the files of ``one`` that ``other`` has too, each given as (name, path).

    Returns:
        The names in ``one`` and in ``other``; files that cannot be read are passed over.
    """
    identities: dict[tuple[int, int], str] = {}
    by_size: dict[int, list[tuple[str, Path]]] = {}
    for name, path in other:
        entry = _stat(path)
        if entry is not None:
            identities.setdefault((entry.st_dev, entry.st_ino), name)
            by_size.setdefault(entry.st_size, []).append((name, path))
    digests: dict[int, dict[bytes, str]] = {}
    found: list[tuple[str, str]] = []
    for name, path in one:
        entry = _stat(path)
        if entry is None:
            continue
        twin = identities.get((entry.st_dev, entry.st_ino))
        if twin is None and entry.st_size in by_size:
            size = entry.st_size
            if size not in digests:
                digests[size] = {_digest(p, size): n for n, p in reversed(by_size[size])}
            twin = digests[size].get(_digest(path, size))
        if twin is not None:
            found.append((name, twin))
    return found


def _images(dataset: FileDataset) -> list[tuple[str, Path]]:
    return [(pair.name, pair.image) for pair in dataset.layout.pairs]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _digest(path: Path, size: int) -> bytes:
    digest = hashlib.blake2b()
    try:
        with open_regular(path) as handle:
            for start in sorted({0, max(0, size // 2 - _CHUNK // 2), max(0, size - _CHUNK)}):
                handle.seek(start)
                digest.update(handle.read(_CHUNK))
    except InputError:
        digest.update(os.fsencode(path))  # what cannot be read equals nothing else
    return digest.digest()
