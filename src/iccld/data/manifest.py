"""Manifests: Parquet files that list images, so that large folders and buckets are listed only once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from iccld import remote
from iccld.data.folders import FOLLOW_OUTSIDE
from iccld.data.image_files import image_size
from iccld.data.workers import threaded_map
from iccld.errors import InputError, first_line, import_extra
from iccld.escaping import shortened
from iccld.files import open_regular, replacing
from iccld.progress import track

SUFFIX = ".parquet"
_COLUMNS = ("path", "name", "stamp", "width", "height", "hash")
_CHUNK = 1 << 20
_NEEDS = "Parquet files need pyarrow"
_MOST_ROWS = 20_000_000
_THREADS = 16


def write_manifest(path: Path, images: Sequence[Any], *, hashes: bool = False) -> list[str]:
    """Writes a manifest of images (``InputImage``), in their order.

    For images on disk, width and height are read from the header. With ``hashes``, every file is read and its SHA-256
    is stored. Returns one message for each image that cannot be read. These images are left out.
    """
    pyarrow = import_extra("pyarrow", _NEEDS, "cloud")
    folder = _folder(path)
    failures: list[str] = []

    def describe(image: Any) -> dict[str, Any] | str:
        try:
            size = (None, None) if remote.url_of(image.path) else image_size(image.path)
            digest = file_hash(image.path) if hashes else None
        except InputError as error:
            return str(error)
        values = (_relative(image.address, folder), image.name, image.stamp, size[1], size[0], digest)
        return dict(zip(_COLUMNS, values, strict=True))

    rows = []
    for row in track(threaded_map(describe, images, _THREADS), len(images), "listing images"):
        if isinstance(row, str):
            failures.append(row)
        else:
            rows.append(row)
    types = [pyarrow.string()] * 3 + [pyarrow.int32()] * 2 + [pyarrow.string()]
    write_rows(path, rows, pyarrow.schema(list(zip(_COLUMNS, types, strict=True))))
    return failures


def read_manifest(path: Path) -> Iterable[tuple[str, str, str]]:
    """Yields path or URL, name and stamp of each image of a manifest. Relative paths are relative to the manifest.

    Raises ``InputError`` if the file is no manifest, or if an image's name leads out of the output folder. Also raised
    if an image lies outside of the manifest's folder and ``--follow-outside`` is not set.
    """
    folder, may_leave = _folder(path), os.environ.get(FOLLOW_OUTSIDE) == "1"
    parquet = import_extra("pyarrow.parquet", _NEEDS, "cloud")
    try:
        with open_regular(path) as handle:
            file = parquet.ParquetFile(handle)
            if file.metadata.num_rows > _MOST_ROWS:
                raise InputError(f"{path}: lists more than {_MOST_ROWS:,} images; divide it")
            table = file.read(columns=list(_COLUMNS[:3]))
            columns = [table.column(name).to_pylist() for name in _COLUMNS[:3]]
    except InputError:
        raise
    except (ValueError, OSError, KeyError) as error:  # pyarrow's errors are of these types
        problem = first_line(error)
        raise InputError(f"{path}: is no manifest ({problem}); write one with iccld data manifest") from error
    for place, name, stamp in zip(*columns, strict=True):
        parts = str(name or "").split("/")
        if not place or not name or name.startswith("/") or ".." in parts or "" in parts:
            raise InputError(
                f"{path}: lists an image without a path, or with the name {name!r}; write it again"
            )
        if remote.url_of(folder):
            place = place if remote.url_of(place) or place.startswith("/") else f"{folder}/{place}"
        else:
            place = place if remote.url_of(place) else os.path.join(folder, place)
        if not may_leave and not _is_below(place, folder):
            outside = f"lists {shortened(place)}, which is outside of {folder}"
            raise InputError(f"{path}: {outside}; give --follow-outside if you trust who made it")
        yield place, name, stamp or ""


def _folder(path: Path) -> str:
    """Returns the folder of a manifest: a URL, or an absolute path."""
    url = remote.url_of(path)
    return url.rpartition("/")[0] if url else os.path.dirname(os.path.abspath(path))


def _is_below(place: str, folder: str) -> bool:
    if remote.url_of(place) or remote.url_of(folder):
        return place.startswith(f"{folder}/") and ".." not in place.split("/")
    real, top = os.path.realpath(place), os.path.realpath(folder)
    return real.startswith(os.path.join(top, ""))


def _relative(address: str, folder: str) -> str:
    """Returns the address relative to the folder if it is below the folder, and otherwise a URL or an absolute path."""
    if not remote.url_of(address):
        address = os.path.abspath(address)
    return address.removeprefix(f"{folder}/")


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as handle:
        while data := handle.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def write_rows(path: Path, rows: Sequence[Any], schema: Any = None) -> None:
    """Writes rows, which map columns to values, to a Parquet file, atomically."""
    table = import_extra("pyarrow", _NEEDS, "cloud").Table.from_pylist(list(rows), schema=schema)
    with replacing(path) as temporary:
        import_extra("pyarrow.parquet", _NEEDS, "cloud").write_table(table, temporary, compression="zstd")
