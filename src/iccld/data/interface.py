"""Interface of data sets, and the conversion of raw ids to labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from iccld.labels import IGNORE, LabelSpace

UNMAPPED = 254
"""Value in id tables for ids without a class. Label spaces have at most 254 classes, so labels are at most 253."""


@runtime_checkable
class SegmentationDataset(Protocol):
    """Interface of a data set.

    The labels in label maps belong to ``label_space``. ``label`` may only be called if ``has_labels`` is true.
    """

    name: str
    label_space: LabelSpace
    has_labels: bool

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the RGB image."""

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Returns the label map, with the size of the image and 255 for ignored pixels."""

    def file_name(self, index: int) -> str:
        """Returns the name of the image for messages and output files. The name is unique within the data set."""


def remap_table(ids: Mapping[int, int], native: LabelSpace, wanted: LabelSpace) -> UInt8[np.ndarray, "65536"]:
    """Builds a table of raw id → label in ``wanted``. Raw ids of classes that ``wanted`` lacks get the label 255.

    ``ids`` maps raw ids to labels in ``native`` or to 255. Raw ids that are not in ``ids`` get the label ``UNMAPPED``.
    """
    to_wanted = native.lut_to(wanted)
    table = np.full(65536, UNMAPPED, dtype=np.uint8)
    for raw, label in ids.items():
        table[raw] = IGNORE if label == IGNORE else to_wanted[label]
    return table
