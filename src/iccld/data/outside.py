"""Data sets of other packages, with checks of what they return and labels in the label space of the run."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from iccld.data.interface import UNMAPPED, SegmentationDataset, remap_table
from iccld.errors import InputError, first_line
from iccld.files import AnyPath
from iccld.labels import IGNORE, LabelSpace
from iccld.plugins import find_class


class OutsideDataset:
    """A data set of another package. Labels are converted to ``label_space``.

    ``inner`` has the interface of ``SegmentationDataset``. Images and label maps of another shape or type, and labels
    that are no class, raise ``InputError``.
    """

    def __init__(self, inner: SegmentationDataset, label_space: LabelSpace, needs_labels: bool) -> None:
        self.inner, self.name, self.label_space = inner, str(inner.name), label_space
        self.has_labels = needs_labels
        own = {**{label: label for label in range(len(inner.label_space))}, IGNORE: IGNORE}
        self._table = remap_table(own, inner.label_space, label_space)

    def __len__(self) -> int:
        return len(self.inner)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the RGB image."""
        return self._checked(index, "image", self.inner.image(index), 3)

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Returns the label map in ``label_space``."""
        raw = self._checked(index, "label map", self.inner.label(index), 2)
        if raw.shape != self.image(index).shape[:2]:
            raise InputError(
                f"{self._title(index)}: its label map has another size than the image; return equal sizes"
            )
        label = self._table[raw]
        if (label == UNMAPPED).any():
            classes = len(self.inner.label_space)
            raise InputError(
                f"{self._title(index)}: its label map has a label that is none of the {classes} classes"
            )
        return label

    def file_name(self, index: int) -> str:
        """Returns the name of the image. The name is unique within the data set."""
        return str(self.inner.file_name(index))

    def _title(self, index: int) -> str:
        return f"{self.name}, image {self.file_name(index)}"

    def _checked(self, index: int, what: str, value: Any, ndim: int) -> UInt8[np.ndarray, "..."]:
        fits = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == ndim and value.size
        if not fits or (ndim == 3 and value.shape[2] != 3):
            shape = "(h, w, 3)" if ndim == 3 else "(h, w)"
            found = f"{getattr(value, 'dtype', type(value).__name__)} of shape {getattr(value, 'shape', '?')}"
            raise InputError(f"{self._title(index)}: its {what} is {found}; return uint8 of shape {shape}")
        return value


def open_outside(
    name: str, root: AnyPath | None, split: str, label_space: LabelSpace | None, needs_labels: bool
) -> OutsideDataset:
    """Makes the data set ``CLASS(root=root, split=split)`` of another package.

    Raises ``InputError`` if the class is not imported, cannot be called, returns no data set, or has no images or, if
    they are needed, no labels.
    """
    make = find_class("dataset", name, object)
    try:
        inner: Any = make(root=root, split=split)  # type: ignore[call-arg]
    except TypeError as error:
        raise InputError(
            f"dataset {name}: cannot be called with root and split ({first_line(error)})"
        ) from error
    if not isinstance(inner, SegmentationDataset):
        needed = "name, label_space, has_labels, __len__, image, label and file_name"
        raise InputError(f"dataset {name}: is no data set; it needs {needed} (docs/extending.md)")
    if not len(inner) or (needs_labels and not inner.has_labels):
        raise InputError(f"dataset {name}: has no {'labels' if len(inner) else 'image'} in split {split!r}")
    return OutsideDataset(inner, label_space or inner.label_space, needs_labels)
