"""Extracts the images and label maps of Parquet files in the layout of Hugging Face ``datasets``.

A column of images is a structure with the field ``bytes``, which contains the whole file.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from iccld.data.folders import files_below
from iccld.data.foreign.names import split_of
from iccld.data.foreign.placing import refuse_links
from iccld.data.picture_header import MOST_BYTES, read_header
from iccld.documents import read_json
from iccld.errors import InputError, RunFailedError, first_line, import_extra
from iccld.escaping import shortened
from iccld.files import free_bytes, open_regular, printable, write_failure
from iccld.progress import track

FOLDER = "iccld_frames"
"""Folder of the extracted files, with ``SPLIT/images`` and ``SPLIT/labels``."""
_IMAGE_WORDS = ("image", "img", "photo", "picture", "pixel_values")
_LABEL_WORDS = ("label", "annotation", "mask", "segmentation", "gt")
_ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
_BATCH = 4


def find_tables(root: Path) -> list[Path]:
    """Returns the Parquet files in a folder and its subfolders."""
    return sorted(files_below(root, lambda name: name[0] != "." and name.lower().endswith(".parquet")))


def read_names(root: Path) -> tuple[str, ...]:
    """Returns the names of classes from ``id2label.json``, which many data sets of the hub contain.

    The names are in the order of their ids. The result is empty if there is no such file in the folder or its
    subfolders, or if the ids are not 0, 1, 2, …

    Raises:
        InputError: The file is damaged.
    """
    paths = sorted(files_below(root, lambda name: name == "id2label.json"))
    content = read_json(paths[0]) if paths else {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        return ()
    names = tuple(content.get(str(index), "") for index in range(len(content)))
    return names if all(names) else ()


def extract(files: Sequence[Path], out: Path) -> dict[str, int]:
    """Writes the images and label maps of Parquet files to ``out/iccld_frames``, and returns split → number of images.

    The split of a file is named in its name or folder, such as ``train-00000-of-00004.parquet``. The folder appears
    when it is complete. If a call is interrupted, the next call begins again.

    Raises:
        InputError: A file is damaged, has no column of images, or does not contain the images themselves.
    """
    refuse_links(out / FOLDER)
    partial = out / f".{FOLDER}"
    shutil.rmtree(partial, ignore_errors=True)
    room = free_bytes(out)
    parquet = import_extra("pyarrow.parquet", "Parquet files need pyarrow", "cloud")
    counts: Counter[str] = Counter()
    try:
        for path in files:
            shown = printable(str(path))
            split = split_of(path.stem) or split_of(path.parent.name) or "train"
            try:
                with open_regular(path) as handle:
                    table = parquet.ParquetFile(handle)
                    columns = _columns(table.schema_arrow, shown)
                    rows = _rows(table, columns)
                    for row in track(rows, table.metadata.num_rows, f"extracting {path.name}"):
                        for kind, column in columns.items():
                            room -= _write(
                                partial / split / kind / f"{counts[split]:06d}", row[column], shown, kind
                            )
                            if room < 0:
                                raise RunFailedError(
                                    f"{out}: has not enough free space for the images of {shown}"
                                )
                        counts[split] += 1
            except InputError:
                raise
            except (ValueError, OSError, KeyError) as error:  # pyarrow's errors are of these types
                raise InputError(
                    f"{shown}: cannot be read ({first_line(error)}); download it again"
                ) from error
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        os.replace(partial, out / FOLDER)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return dict(counts)


def _columns(schema: Any, shown: str) -> dict[str, str]:
    """Returns ``images`` and, if there is one, ``labels`` with the names of their columns."""
    fields = [
        field
        for field in schema
        if str(field.type).startswith("struct<") and "bytes: binary" in str(field.type)
    ]
    names = [field.name for field in fields]
    if not names:
        listing = ", ".join(schema.names[:8])
        raise InputError(
            f"{shown}: has no column of images among {shortened(listing)}; name a folder of images"
        )
    labels = [name for name in names if any(word in name.lower() for word in _LABEL_WORDS)]
    images = [name for name in names if name not in labels]
    named = [name for name in images if any(word in name.lower() for word in _IMAGE_WORDS)] or images
    if len(named) != 1 or len(labels) > 1:
        raise InputError(
            f"{shown}: has several columns of images ({', '.join(names[:8])}); keep one of images and one of labels"
        )
    return {"images": named[0]} | ({"labels": labels[0]} if labels else {})


def _rows(table: Any, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(batch_size=_BATCH, columns=list(columns.values())):
        yield from batch.to_pylist()


def _write(stem: Path, value: Any, shown: str, kind: str) -> int:
    """Writes a file and returns its size in bytes."""
    data = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(data, bytes):
        raise InputError(f"{shown}: row {int(stem.name)} has no {kind}; name a folder of images instead")
    if len(data) > MOST_BYTES:
        raise InputError(f"{shown}: row {int(stem.name)} has {len(data)} bytes; it is too large")
    header = read_header(Path(f"{shown}: row {int(stem.name)}"), BytesIO(data), is_label=kind == "labels")
    stem.parent.mkdir(parents=True, exist_ok=True)
    try:
        stem.with_suffix(f".{_ENDINGS[header.format]}").write_bytes(data)
    except OSError as error:
        raise write_failure(stem, error) from error
    return len(data)
