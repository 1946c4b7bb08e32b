"""Records of the images that a shard has predicted, so that a killed process continues, and tables of results.

The images of a shard are recorded in blocks. For each finished block, a JSON file in ``OUT/_done/<shard>`` lists the
images. It is written after all outputs of the block, so a listed image is complete even if the process is killed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch

from iccld import __version__
from iccld.data.datasets import file_facts
from iccld.data.inputs import InputImage
from iccld.data.manifest import write_rows
from iccld.documents import Length, build, read_json
from iccld.errors import InputError
from iccld.files import names_in, remove, write_json
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


@dataclasses.dataclass
class Block:
    """Up to 100 images that one process predicts, and the place of their record.

    Attributes:
        number: Number of the block in the shard.
        images: Images of the block.
        out: Output folder.
        shard: Shard of the images.
        identity: Hash that is equal if and only if the outputs are equal (see ``identity_of``).
        has_table: Whether ``OUT/table/<shard>`` gets a Parquet file with one row per image.
        rows: Rows of the finished images by name, with ``None`` for images that could not be predicted.
    """

    number: int
    images: tuple[InputImage, ...]
    out: Path
    shard: Shard
    identity: str
    has_table: bool
    rows: dict[str, Mapping[str, Any] | None] = dataclasses.field(default_factory=dict)

    def finish(self, image: InputImage, row: Mapping[str, Any] | None) -> None:
        """Records an image. After the last image, writes the table and then the record of the block.

        Several threads may call this method. If two threads add the last images at once, both write equal files.
        """
        rows = self.rows
        rows[image.name] = row
        if len(rows) < len(self.images):
            return
        self.rows = {}  # the rows of finished blocks would fill the memory; another thread may still read ``rows``
        done = [image for image in self.images if rows.get(image.name) is not None]
        if not done:
            return
        name = f"{self.number:06d}"
        if self.has_table:
            table = self.out / TABLE / self.shard.folder / f"{name}.parquet"
            write_rows(table, [rows[image.name] for image in done])
        stamps = {image.name: image.stamp for image in done}
        record = {"identity": self.identity, "images": stamps}
        write_json(self.out / DONE / self.shard.folder / f"{name}.json", record)


def plan_blocks(
    out: Path,
    shard: Shard,
    images: Iterable[InputImage],
    identity: str,
    *,
    resume: bool = True,
    has_table: bool = False,
) -> tuple[list[Block], int]:
    """Returns the blocks of a shard that are still to be predicted, and the number of images that are finished.

    An image counts as finished if a record of the same ``identity`` lists its name, size and time of modification. If
    an image of a block has changed or is missing, all images of the block are predicted again. Without ``resume``, the
    records of earlier calls are removed. Raises ``InputError`` if the folder has records for another number of shards.
    """
    _refuse_other_counts(out, shard)
    # The stamps are taken before the images are read, so that the next call predicts an image again if it changes now.
    own = {
        image.name: dataclasses.replace(image, stamp=_stamp(image))
        for image in images
        if shard.takes(image.name)
    }
    stamps = {name: image.stamp for name, image in own.items()}
    finished, first = _read_records(out, shard, identity if resume else None, stamps, has_table)
    todo = [image for name, image in own.items() if name not in finished]
    parts = [tuple(todo[start : start + _BLOCK]) for start in range(0, len(todo), _BLOCK)]
    blocks = [Block(n, part, out, shard, identity, has_table) for n, part in enumerate(parts, first)]
    return blocks, len(own) - len(todo)


def _read_records(
    out: Path, shard: Shard, identity: str | None, stamps: Mapping[str, str], has_table: bool
) -> tuple[set[str], int]:
    """Returns the names of finished images and the number of the next block. Removes records that do not apply."""
    records, tables = out / DONE / shard.folder, out / TABLE / shard.folder
    stored = {Path(name).stem for name in names_in(tables) if name.endswith(".parquet")}
    finished: set[str] = set()
    known: set[str] = set()
    for path in (records / name for name in names_in(records) if name.endswith(".json")):
        images = _images_of(path, identity, stamps)
        if images is None or finished.intersection(images) or (has_table and path.stem not in stored):
            remove(path)
            continue
        finished.update(images)
        known.add(path.stem)
    for stem in stored - known:  # of a removed record, or the process was killed between table and record
        remove(tables / f"{stem}.parquet")
    return finished, max(map(int, known), default=-1) + 1


def _images_of(path: Path, identity: str | None, stamps: Mapping[str, str]) -> set[str] | None:
    """Returns the images of a record, or ``None`` if the record does not apply to the present images."""
    try:
        record = build(_Done, read_json(path, limit=_LARGEST_RECORD), str(path))
    except InputError:
        return None
    same = all(stamps.get(name) == stamp for name, stamp in record.images.items())
    is_number = path.stem.isascii() and path.stem.isdigit()
    return set(record.images) if record.identity == identity and same and is_number else None


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
        return image.stamp or "{} {}".format(*file_facts(image.path))
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
