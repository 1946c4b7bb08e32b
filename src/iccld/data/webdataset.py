"""Writes data sets as tar archives in the layout of WebDataset (https://github.com/webdataset/webdataset).

A frame has three files with the same key: the image as it is, its labels as indexed PNG, and a JSON file. The key is
the frame's name without its ending, and contains no dot, because WebDataset's keys end at the first dot.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from iccld import archives
from iccld.data.datasets import FileDataset
from iccld.data.description import DESCRIPTION, toml_entry, toml_value
from iccld.data.image_files import image_size, indexed_png
from iccld.data.layouts import FilePair
from iccld.data.picture_header import MOST_BYTES
from iccld.data.workers import threaded_map
from iccld.documents import read_json
from iccld.errors import InputError
from iccld.files import as_file_name, exists, read_bounded, replacing, write_json, write_text
from iccld.labels import IGNORE
from iccld.progress import track

_RECORD = ".iccld-shards.json"  # split → hash of the files and classes of which the archives were made
_THREADS = 4
_AT_ONCE = 32  # frames whose bytes are in memory at the same time


def write_shards(splits: dict[str, FileDataset], out: Path, size: int) -> tuple[int, int]:
    """Writes the splits of a data set as archives of ``size`` frames and a ``dataset.toml``.

    Complete archives of an earlier call are kept if no file and no class has changed. Labels are written as labels of
    the data sets' label space.

    Returns:
        (number of written archives, number of kept archives).

    Raises:
        InputError: A file cannot be read, two frames have the same key, or the folder contains archives of other
            frames.
    """
    folders = [as_file_name(split) for split in splits]
    if len(set(folders)) < len(folders):
        twice = next(name for name in folders if folders.count(name) > 1)
        raise InputError(
            f"{out}: two splits would have the folder {twice}; rename one of them in {DESCRIPTION}"
        )
    shards = [
        (dataset, out / as_file_name(split) / f"{number:06d}{archives.ENDING}", frames)
        for split, dataset in splits.items()
        for number, frames in enumerate(_divided(dataset, size))
    ]
    _refuse_others(out, {path for _, path, _ in shards})
    record = {split: dataset.fingerprint() for split, dataset in splits.items()}
    may_keep = exists(out / _RECORD) and read_json(out / _RECORD) == record
    write_json(out / _RECORD, record)
    written = 0
    for dataset, path, frames in track(shards, len(shards), "writing archives"):
        written += _write_shard(dataset, path, frames, may_keep)
    write_text(out / DESCRIPTION, _description(splits))
    return written, len(shards) - written


def _divided(dataset: FileDataset, size: int) -> Iterator[Sequence[tuple[int, str]]]:
    """Yields the (index, key) of the frames of each archive."""
    first: dict[str, str] = {}
    for pair in dataset.layout.pairs:
        key = _key(pair)
        if key in first:
            raise InputError(
                f"{pair.image}: has the name of {first[key]}, apart from the ending; rename one of them"
            )
        first[key] = pair.name
    frames = [*enumerate(first)]
    yield from (frames[start : start + size] for start in range(0, len(frames), size))


def _key(pair: FilePair) -> str:
    return pair.name.removesuffix(pair.image.suffix).replace(".", "%2E")  # names in manifests have no ending


def _write_shard(dataset: FileDataset, path: Path, frames: Sequence[tuple[int, str]], may_keep: bool) -> bool:
    """Writes an archive. Returns whether it was written, and not kept from an earlier call."""
    names = [name for index, key in frames for name in _names(dataset, index, key)]
    if path.exists():
        if list(archives.members(path)) != names:
            raise InputError(f"{path}: is an archive of other frames; name an empty folder")
        if may_keep:
            return False
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for start in range(0, len(frames), _AT_ONCE):
            chunk = frames[start : start + _AT_ONCE]
            contents = threaded_map(lambda frame: _contents(dataset, frame[0]), chunk, _THREADS)
            for (index, key), files in zip(chunk, contents, strict=True):
                for name, data in zip(_names(dataset, index, key), files, strict=True):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return True


def _names(dataset: FileDataset, index: int, key: str) -> list[str]:
    pair = dataset.layout.pairs[index]
    labels = [f"{key}.label.png"] if dataset.has_labels and pair.label is not None else []
    return [f"{key}.image{pair.image.suffix.lower()}", *labels, f"{key}.json"]


def _contents(dataset: FileDataset, index: int) -> list[bytes]:
    pair = dataset.layout.pairs[index]
    height, width = image_size(pair.image)
    contents = [read_bounded(pair.image, MOST_BYTES)]
    if dataset.has_labels and pair.label is not None:
        contents.append(indexed_png(dataset.label(index), dataset.label_space.palette))
    return [*contents, json.dumps({"name": pair.name, "height": height, "width": width}).encode()]


def _refuse_others(out: Path, expected: set[Path]) -> None:
    others = sorted(set(out.glob(f"*/*{archives.ENDING}")) - expected)
    if others:
        raise InputError(f"{others[0]}: is not an archive of this data set; name an empty folder")


def _description(splits: dict[str, FileDataset]) -> str:
    """Returns the text of the ``dataset.toml`` of the archives."""
    first = next(iter(splits.values()))
    values = {
        "name": first.name,
        "classes": list(first.label_space.names),
        "colors": [list(color) for color in first.label_space.palette],
        "ignore": [IGNORE],
    }
    if first.layout.role:
        values["role"] = first.layout.role
    lines = ["# Written by 'iccld data shards'."]
    lines += [line for item in values.items() for line in toml_entry(*item)]
    for split, dataset in splits.items():
        start = f"{as_file_name(split)}/*{archives.ENDING}/**/*"
        lines += ["", f"[splits.{toml_value(split)}]", *toml_entry("images", f"{start}.image.*")]
        lines += toml_entry("labels", f"{start}.label.png") if dataset.has_labels else []
    return "\n".join(lines) + "\n"
