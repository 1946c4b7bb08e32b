"""The numbers that predicted label maps hold on disk, and the tables between them and class indices."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import UInt8

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
    """Builds the table from class index to the number in the file; 255 stays 255 (labelIds: 0, unlabeled).

    Args:
        space: the model's classes.
        kind: which numbers, or a user's ``dataset.toml``: those of its label files.

    Raises:
        InputError: labelIds or own ids are asked for and a class has none.
    """
    table = np.full(256, IGNORE, np.uint8)
    if isinstance(kind, Description):
        return _own_ids(space, kind, table)
    indices = np.arange(len(space))
    if kind == "index" or (kind == "train" and not holds_train_ids(space)):
        table[indices] = indices
        return table
    strange = [c.name for c in space.classes if not c.train_ids]
    if strange:
        raise InputError(
            f"class {strange[0]!r} of {space.name} has no Cityscapes id; write '--ids index' instead"
        )
    table[indices] = [c.train_ids[0] for c in space.classes]
    if kind == "train":
        return table
    to_label_id = np.zeros(256, np.uint8)
    for label_id, train_id in CITYSCAPES_ID_TO_TRAIN_ID.items():
        if train_id != IGNORE:
            to_label_id[train_id] = label_id
    return to_label_id[table]


def _own_ids(space: LabelSpace, description: Description, table: Table) -> Table:
    if description.colors is not None:
        raise InputError(
            f"{description.path}: its label files hold colors, not ids; write '--ids index' instead"
        )
    first: dict[int, int] = {}
    for raw, label in description.ids.items():
        if label != IGNORE:
            first.setdefault(label, raw)
    to_own = space.lut_to(description.space)
    for index, name in enumerate(space.names):
        raw_id = first.get(to_own[index])
        if raw_id is None:
            raise InputError(
                f"{description.path}: has no id for the model's class {name!r}; add it to classes"
            )
        if raw_id > IGNORE:
            raise InputError(f"{description.path}: id {raw_id} of {name!r} does not fit into 8 bits")
        table[index] = raw_id
    return table


def file_to_index(space: LabelSpace, *, label_ids: bool = False) -> tuple[Table, frozenset[int]]:
    """Builds the table from the number in a file to the class index, and the set of numbers that may occur.

    Args:
        space: the classes to fold into.
        label_ids: the files hold Cityscapes labelIds (``*_labelIds.png``) instead of what
            ``index_to_id`` writes by default.

    Raises:
        InputError: labelIds for classes that have no Cityscapes counterpart.
    """
    if not holds_train_ids(space):
        if label_ids:
            raise InputError(
                f"label space {space.name} has classes without a Cityscapes id, but the files hold labelIds"
            )
        table = np.full(256, IGNORE, np.uint8)
        table[: len(space)] = np.arange(len(space))
        return table, frozenset([*range(len(space)), IGNORE])
    from_train_id = np.array(CITYSCAPES19.lut_to(space), np.uint8)
    if not label_ids:
        return from_train_id, frozenset([*range(len(CITYSCAPES19)), IGNORE])
    to_train_id = np.full(256, IGNORE, np.uint8)
    for label_id, train_id in CITYSCAPES_ID_TO_TRAIN_ID.items():
        to_train_id[label_id] = train_id
    return from_train_id[to_train_id], frozenset([*CITYSCAPES_ID_TO_TRAIN_ID, IGNORE])
