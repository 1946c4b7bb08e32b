"""Records of the images that a shard has predicted, so that a killed process continues, and tables of results.

The images of a shard are recorded in blocks. For each finished block, a JSON file in ``OUT/_done/<shard>`` lists the
images. It is written after all outputs of the block, so a listed image is complete even if the process is killed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch

from iccld import __version__
from iccld.data.datasets import file_facts
from iccld.data.inputs import InputImage
from iccld.documents import Length, build, read_json
from iccld.errors import InputError, how_to_install
from iccld.files import names_in, remove, replacing, write_json
from iccld.inference.exported import ExportedSegmenter
from iccld.inference.mapping import MappedSegmenter
from iccld.labels import LabelSpace
from iccld.models.prediction import Prediction
from iccld.shards import Shard

DONE = "_done"
"""Name of the folder of records in an output folder."""
TABLE = "table"
_BLOCK = 100
_LARGEST_RECORD = 4_000_000


@dataclasses.dataclass(frozen=True)
class _Done:
    identity: str
    images: Annotated[Mapping[str, str], Length(100_000)]


class Blocks:
    """Images of a shard that are still to be predicted, and records of those that are finished.

    An image counts as finished if a record of the same ``identity`` lists its name, size and time of modification. If
    an image of a block has changed or is missing, all images of the block are predicted again.

    Args:
        out: Output folder.
        shard: Shard of this process. All processes of a folder must have the same number of shards.
        images: Images of all shards. The images of other shards are left out.
        identity: Text that is equal if and only if the outputs are equal (see ``identity_of``).
        resume: Whether records of earlier calls are read. Otherwise, these records are removed.
        has_table: Whether ``OUT/table/<shard>`` gets a Parquet file with one row per image for each block.

    Attributes:
        todo: Images to predict.
        num_done: Number of images of the shard that are finished already.

    Raises:
        InputError: The folder has records for another number of shards.
    """

    def __init__(
        self,
        out: Path,
        shard: Shard,
        images: Iterable[InputImage],
        identity: str,
        *,
        resume: bool = True,
        has_table: bool = False,
    ) -> None:
        _refuse_other_counts(out, shard)
        self._records, self._tables = out / DONE / shard.folder, out / TABLE / shard.folder
        self._identity, self._has_table = identity, has_table
        own = {image.name: image for image in images if shard.takes(image.name)}
        self._stamps = {name: _stamp(image) for name, image in own.items()}
        finished, self._next = self._read(resume)
        self.todo = [image for name, image in own.items() if name not in finished]
        self.num_done = len(own) - len(self.todo)
        self._block_of = {image.name: place // _BLOCK for place, image in enumerate(self.todo)}
        self._left = {b: min(_BLOCK, len(self.todo) - b * _BLOCK) for b in self._block_of.values()}
        self._rows: dict[int, dict[str, Mapping[str, Any]]] = {b: {} for b in self._left}
        self._lock = threading.Lock()

    def finish(self, image: InputImage, row: Mapping[str, Any] | None) -> None:
        """Records an image. ``row`` is its row of the table, or ``None`` if the image could not be predicted.

        The record of a block is written when this method has been called for all images of the block.
        """
        with self._lock:
            block = self._block_of[image.name]
            self._left[block] -= 1
            if row is not None:
                self._rows[block][image.name] = row
            if not self._left[block] and (rows := self._rows.pop(block)):
                self._write(rows)

    def _write(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        name, self._next = f"{self._next:06d}", self._next + 1
        names = [image for image in self._block_of if image in rows]  # in the order of the inputs
        if self._has_table:
            write_table(self._tables / f"{name}.parquet", [rows[image] for image in names])
        stamps = {image: self._stamps[image] for image in names}
        write_json(self._records / f"{name}.json", {"identity": self._identity, "images": stamps})

    def _read(self, resume: bool) -> tuple[set[str], int]:
        """Returns the names of finished images and the number of the next block. Removes records that do not apply."""
        finished: set[str] = set()
        last = -1
        tables = {Path(name).stem for name in names_in(self._tables) if name.endswith(".parquet")}
        known = set()
        for name in names_in(self._records):
            path = self._records / name
            if path.suffix != ".json":
                continue
            images = self._images_of(path, tables) if resume else None
            if images is None or finished.intersection(images):
                remove(path)
                continue
            finished.update(images)
            known.add(path.stem)
            last = int(path.stem)
        for stem in tables - known:  # of a removed record, or the process was killed between table and record
            remove(self._tables / f"{stem}.parquet")
        return finished, last + 1

    def _images_of(self, path: Path, tables: set[str]) -> set[str] | None:
        """Returns the images of a record, or ``None`` if the record does not apply to the present images."""
        try:
            record = build(_Done, read_json(path, limit=_LARGEST_RECORD), str(path))
        except InputError:
            return None
        has_table = path.stem in tables or not self._has_table
        same = all(self._stamps.get(name) == stamp for name, stamp in record.images.items())
        is_number = path.stem.isascii() and path.stem.isdigit()
        applies = record.identity == self._identity and same and has_table and is_number
        return set(record.images) if applies else None


def _refuse_other_counts(out: Path, shard: Shard) -> None:
    found = [name for name in names_in(out / DONE) if "-of-" in name]
    other = next((name for name in found if name.partition("-of-")[2] != str(shard.count)), None)
    if other:
        count = other.partition("-of-")[2]
        raise InputError(
            f"{out}: was begun with {count} shards, not {shard.count}; give --shard I/{count}, or another --out"
        )


def _stamp(image: InputImage) -> str:
    """Returns a text that changes when the file is replaced: size and time of modification, or the storage's tag."""
    try:
        facts = None if image.stamp else file_facts(image.path)
        return image.stamp if facts is None else f"{facts.st_size} {facts.st_mtime_ns}"
    except InputError:  # reported when the image is read
        return ""


def row_of(image: InputImage, prediction: Prediction, space: LabelSpace, mask: str | None) -> dict[str, Any]:
    """Returns the row of an image for the table: path, size, uncertainty, path of the mask, and shares of the classes.

    ``uncertainty`` is the mean relative entropy, and ``confidence`` the mean highest probability, both from 0 to 1.
    """
    labels = prediction.labels
    counts = torch.bincount(torch.from_numpy(labels).flatten().long(), minlength=len(space)).tolist()
    return {
        "frame": image.address,
        "name": image.name,
        "height": labels.shape[0],
        "width": labels.shape[1],
        "uncertainty": float(prediction.relative_uncertainty.mean(dtype="float64")),
        "confidence": float(prediction.probabilities.max(axis=0).mean(dtype="float64")),
        "mask": mask,
        "shares": {name: count / labels.size for name, count in zip(space.names, counts, strict=True)},
    }


def require_tables() -> None:
    """Raises ``InputError`` if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        needs = "--write table needs pyarrow, which is not installed"
        raise InputError(f"{needs}; {how_to_install('cloud')}") from error


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows to a Parquet file, atomically."""
    import pyarrow
    from pyarrow import parquet

    with replacing(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), temporary, compression="zstd")


def identity_of(model: Any, **options: Any) -> str:
    """Returns a hash of the version of ``iccld``, of the weights of a model, and of options.

    ``options`` are plain values, such as the settings of the prediction.
    """
    digest = hashlib.sha256(json.dumps([__version__, options], sort_keys=True, default=str).encode())
    if isinstance(model, MappedSegmenter):
        digest.update(json.dumps(model.label_space.names).encode() + model.matrix.tobytes())
        model = model.model
    if isinstance(model, ExportedSegmenter):
        for path in (model.path, model.path.with_suffix(".bin")):
            if path.is_file():
                digest.update(path.read_bytes())
    else:
        digest.update(json.dumps([dataclasses.asdict(model.spec), model.label_space.names]).encode())
        for name, value in model.state_dict().items():
            digest.update(
                name.encode() + value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()
