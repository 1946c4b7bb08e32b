"""Drawing of predictions as images, and the ids and colors of classes: id tables, ``classes.json``, ``legend.png``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from iccld.data.datasets import remap_table
from iccld.data.description import Description
from iccld.data.image_files import write_png
from iccld.documents import read_json
from iccld.errors import InputError
from iccld.files import AnyPath, write_json
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace

Image = UInt8[np.ndarray, "h w 3"]
LabelMap = UInt8[np.ndarray, "h w"]
Table = UInt8[np.ndarray, "256"]
IdKind = Literal["train", "index", "cityscapes"]
"""Kind of ids in label files. ``train`` means Cityscapes trainIds, or class indices if a class has no trainId.
``index`` means the model's class indices. ``cityscapes`` means Cityscapes labelIds, which the benchmark server
requires."""
CLASSES, LEGEND = "classes.json", "legend.png"

_MOST_ROWS, _LONGEST_NAME = 20, 40
_EDGE, _SWATCH, _ROW, _GAP = 10, (28, 18), 26, 24  # margin, color box, row height and column gap in pixels


def colorize(labels: LabelMap, space: LabelSpace) -> Image:
    """Returns an RGB image in which each pixel has the color of its class, and pixels without a class are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(space)] = space.palette
    return table[labels]


def overlay(image: Image, labels: LabelMap, space: LabelSpace, *, opacity: float = 0.5) -> Image:
    """Blends class colors with weight ``opacity`` (0 to 1) over an RGB image. Pixels without a class stay unchanged."""
    assert image.shape[:2] == labels.shape, (image.shape, labels.shape)
    blended = cv2.addWeighted(image, 1 - opacity, colorize(labels, space), opacity, 0)
    return np.where((labels < len(space))[..., None], blended, image)


def heat_map(uncertainty: Float32[np.ndarray, "h w"]) -> Image:
    """Maps uncertainty in [0, 1] to colors from black over violet to pale yellow, on the same scale for all images."""
    return paint_levels(to_levels(uncertainty))


def to_levels(uncertainty: Float32[np.ndarray, "h w"]) -> LabelMap:
    """Quantizes uncertainty in [0, 1] to 256 levels, which suffice for images and need less memory than floats."""
    return (np.clip(uncertainty, 0, 1) * 255).round().astype(np.uint8)


def paint_levels(levels: LabelMap) -> Image:
    """Maps uncertainty levels from 0 to 255 to the colors of ``heat_map``."""
    heat = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)
    return np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def holds_train_ids(space: LabelSpace) -> bool:
    """Checks whether every class of a space has a trainId. If so, label files hold trainIds by default."""
    return all(c.train_ids for c in space.classes)


def index_to_id(space: LabelSpace, kind: IdKind | Description) -> Table:
    """Returns the table from class index to the id in label files, of the given kind or as a description defines them.

    Pixels without a class get 0 (unlabeled) if ``kind`` is ``cityscapes``, and 255 otherwise. Raises ``InputError`` if
    a class has no id of this kind.
    """
    table = np.full(256, 0 if kind == "cityscapes" else IGNORE, np.uint8)
    if isinstance(kind, Description):
        table[: len(space)] = _own_ids(space, kind)
    elif kind == "index" or (kind == "train" and not holds_train_ids(space)):
        table[: len(space)] = np.arange(len(space))
    else:
        strange = [c.name for c in space.classes if not c.train_ids]
        if strange:
            raise InputError(f"class {strange[0]!r} of {space.name} has no Cityscapes id; give '--ids index'")
        to_label_id = {train_id: label_id for label_id, train_id in CITYSCAPES_ID_TO_TRAIN_ID.items()}
        train_ids = [c.train_ids[0] for c in space.classes]
        table[: len(space)] = train_ids if kind == "train" else [to_label_id[i] for i in train_ids]
    return table


def _own_ids(space: LabelSpace, description: Description) -> list[int]:
    if description.colors is not None:
        raise InputError(f"{description.path}: its label files hold colors, not ids; give '--ids index'")
    first = {label: raw for raw, label in [*description.ids.items()][::-1] if label != IGNORE}
    found = []
    for name, label in zip(space.names, space.lut_to(description.space), strict=False):
        raw = first.get(label)
        if raw is None:
            raise InputError(f"{description.path}: has no id for the model's class {name!r}; add one")
        if raw > IGNORE:
            raise InputError(f"{description.path}: id {raw} of {name!r} does not fit into 8 bits")
        found.append(raw)
    return found


def file_to_index(space: LabelSpace, *, label_ids: bool = False) -> UInt8[np.ndarray, "65536"]:
    """Returns the table from ids in label files to class indices; see ``iccld.data.datasets.remap_table``.

    Files hold Cityscapes labelIds if ``label_ids`` is true, otherwise trainIds, or class indices if a class has no
    trainId. Raises ``InputError`` if a class has no Cityscapes id for ``label_ids``.
    """
    held = CITYSCAPES19 if holds_train_ids(space) else space
    if label_ids and not holds_train_ids(space):
        what = f"label space {space.name} has classes without a Cityscapes id"
        raise InputError(f"{what}, but the files hold labelIds")
    ids = CITYSCAPES_ID_TO_TRAIN_ID if label_ids else {index: index for index in range(len(held))}
    return remap_table({**ids, IGNORE: IGNORE}, held, space)


def write_class_key(out: AnyPath, space: LabelSpace, table: Table) -> None:
    """Writes ``classes.json`` and ``legend.png`` to the folder ``out``; see ``index_to_id`` for ``table``."""
    write_json(Path(out) / CLASSES, class_list(space, table))
    write_png(Path(out) / LEGEND, draw_legend(space))


def refuse_other_classes(out: AnyPath, space: LabelSpace, table: Table) -> None:
    """Raises ``InputError`` if the folder ``out`` has a ``classes.json`` with other classes or ids."""
    path = Path(out) / CLASSES
    if path.is_file() and read_json(path) != class_list(space, table):
        raise InputError(f"{path}: is of predictions with other classes or ids; choose another folder")


def class_list(space: LabelSpace, table: Table) -> list[dict[str, Any]]:
    """Returns ``id`` (in label files), ``name`` and RGB ``color`` of each class, in the order of the label space."""
    return [
        {"id": int(table[index]), "name": c.name, "color": list(c.color)}
        for index, c in enumerate(space.classes)
    ]


def draw_legend(space: LabelSpace) -> Image:
    """Draws a legend: the class names beside their colors, in columns of up to 20 rows."""
    font = ImageFont.load_default(16)
    names = [n if len(n) <= _LONGEST_NAME else f"{n[: _LONGEST_NAME - 1]}…" for n in space.names]
    num_columns = max(1, math.ceil(len(names) / _MOST_ROWS))
    num_rows = math.ceil(len(names) / num_columns)
    width = _SWATCH[0] + 8 + math.ceil(max(map(font.getlength, names), default=0))
    size = (2 * _EDGE + num_columns * width + (num_columns - 1) * _GAP, 2 * _EDGE + max(1, num_rows) * _ROW)
    picture = PillowImage.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for index, (name, color) in enumerate(zip(names, space.palette, strict=True)):
        left = _EDGE + index // num_rows * (width + _GAP)
        middle = _EDGE + index % num_rows * _ROW + _ROW // 2
        top = middle - _SWATCH[1] // 2
        box = (left, top, left + _SWATCH[0] - 1, top + _SWATCH[1] - 1)
        pen.rectangle(box, fill=color, outline="gray")
        pen.text((left + _SWATCH[0] + 8, middle), name, fill="black", font=font, anchor="lm")
    return np.array(picture)
