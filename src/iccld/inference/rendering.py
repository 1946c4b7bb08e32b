"""Ids and colors of classes in prediction folders: id tables, ``classes.json`` and ``legend.png``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from iccld.data.description import Description
from iccld.data.image_files import write_png
from iccld.data.interface import remap_table
from iccld.documents import read_json
from iccld.drawing import draw_legend
from iccld.errors import InputError
from iccld.files import AnyPath, exists, write_json
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace

Table = UInt8[np.ndarray, "256"]
IdKind = Literal["train", "index", "cityscapes"]
"""Kind of ids in label files. ``train`` means Cityscapes trainIds, or class indices if any class has no trainId.
``index`` means the model's class indices. ``cityscapes`` means Cityscapes labelIds, which the benchmark server
requires."""
CLASSES, LEGEND = "classes.json", "legend.png"


def holds_train_ids(space: LabelSpace) -> bool:
    """Checks whether every class of a space has a trainId. If so, label files hold trainIds by default."""
    return all(c.train_ids for c in space.classes)


def index_to_id(space: LabelSpace, kind: IdKind | Description) -> Table:
    """Returns the table from class indices to the ids in label files.

    ``kind`` is the kind of ids, or a description of a data set that defines the ids. Pixels without a class get 0
    (unlabeled) if ``kind`` is ``cityscapes``, and 255 otherwise. Raises ``InputError`` if a class has no id of this
    kind, or if an id does not fit into 8 bits.
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

    If ``label_ids`` is true, files hold Cityscapes labelIds. Otherwise, files hold trainIds, or class indices if a
    class has no trainId. Raises ``InputError`` if ``label_ids`` is true and a class has no Cityscapes id.
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
    if exists(path) and read_json(path) != class_list(space, table):
        raise InputError(f"{path}: is of predictions with other classes or ids; choose another folder")


def class_list(space: LabelSpace, table: Table) -> list[dict[str, Any]]:
    """Returns ``id`` (in label files), ``name`` and RGB ``color`` of each class, in the order of the label space."""
    return [
        {"id": int(table[index]), "name": c.name, "color": list(c.color)}
        for index, c in enumerate(space.classes)
    ]
