"""The numbers that predicted label maps hold on disk, and the tables between them and class indices."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import UInt8

from iccld.data.datasets import remap_table
from iccld.data.description import Description
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace

IdKind = Literal["train", "index", "cityscapes"]
"""train: Cityscapes trainIds (or indices, see ``holds_train_ids``); index: the model's own class indices;
cityscapes: Cityscapes labelIds, which the benchmark's server wants."""

Table = UInt8[np.ndarray, "256"]


def holds_train_ids(space: LabelSpace) -> bool:
    """Whether files of this space hold Cityscapes trainIds (every class has one) or its class indices."""
    return all(c.train_ids for c in space.classes)


def index_to_id(space: LabelSpace, kind: IdKind | Description) -> Table:
    """The table from class index to the number in the file; 255 stays 255 (labelIds: 0, unlabeled).

    A user's ``dataset.toml`` in place of a kind stands for the ids of its label files. ``InputError`` if labelIds or
    own ids are asked for and a class has none.
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
    found = [first.get(label) for label in space.lut_to(description.space)[: len(space)]]
    for name, raw in zip(space.names, found, strict=True):
        if raw is None:
            raise InputError(f"{description.path}: has no id for the model's class {name!r}; add one")
        if raw > IGNORE:
            raise InputError(f"{description.path}: id {raw} of {name!r} does not fit into 8 bits")
    return [raw for raw in found if raw is not None]


def file_to_index(space: LabelSpace, *, label_ids: bool = False) -> UInt8[np.ndarray, "65536"]:
    """The table from the number in a file to the class index, as ``iccld.data.datasets.remap_table`` makes it.

    With ``label_ids`` the files hold Cityscapes labelIds (``*_labelIds.png``) instead of what ``index_to_id`` writes by
    default; ``InputError`` if a class has none.
    """
    held = CITYSCAPES19 if holds_train_ids(space) else space
    if label_ids and not holds_train_ids(space):
        raise InputError(
            f"label space {space.name} has classes without a Cityscapes id, but the files hold labelIds"
        )
    ids = CITYSCAPES_ID_TO_TRAIN_ID if label_ids else {index: index for index in range(len(held))}
    return remap_table({**ids, IGNORE: IGNORE}, held, space)
