"""Predictions in other classes: the probabilities of a model's classes are summed into the classes of a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from iccld.documents import build, read_toml
from iccld.errors import InputError
from iccld.inference.segmenter import Segmenter, load_segmenter
from iccld.labels import IGNORE, LabelClass, LabelSpace, get_label_space
from iccld.models.predicting import Predicting
from iccld.models.prediction import Prediction
from iccld.models.settings import PredictSettings


@dataclass(frozen=True)
class _MapFile:
    """Content of a map file: new classes with the names of the model's classes, and the model's ignored classes."""

    classes: Mapping[str, tuple[str, ...]]
    ignore: tuple[str, ...] = ()


def read_map(source: str, space: LabelSpace) -> tuple[LabelSpace, Float32[np.ndarray, "k2 k"]]:
    """Reads a map from the classes of a model to other classes.

    Args:
        source: Name of a built-in label space, or path of a TOML file. Its table ``classes`` has the new class names as
            keys, and lists of the model's class names as values. The list ``ignore`` has the other class names.
        space: Classes of the model.

    Returns:
        The new label space, and a matrix of zeros and ones: entry (i, j) is 1 if class j of the model belongs to the
        new class i.

    Raises:
        InputError: The name is unknown, the file is invalid, a class of the model is missing or stands in two lists, or
            no class of the model belongs to a new class.
    """
    if not source.endswith(".toml"):
        target = get_label_space(source)
        return target, map_to(space, target)
    file = build(_MapFile, read_toml(Path(source)), source)
    listed = [name for names in (*file.classes.values(), file.ignore) for name in names]
    for name in listed:
        if name not in space.names:
            raise InputError(f"{source}: {name!r} is no class of the model; its classes are {_some(space)}")
        if listed.count(name) > 1:
            raise InputError(f"{source}: names {name!r} twice; a class belongs to one new class")
    missing = [name for name in space.names if name not in listed]
    if missing:
        raise InputError(f"{source}: has no place for {missing[0]!r}; name it in a class or in 'ignore'")
    by_name = {c.name: c for c in space.classes}
    classes = []
    for new, names in file.classes.items():
        if not names:
            raise InputError(f"{source}: class {new!r} has no classes of the model; remove it")
        members = [by_name[name] for name in names]
        classes.append(LabelClass(new, members[0].color, tuple(t for m in members for t in m.train_ids)))
    target = LabelSpace(Path(source).stem, tuple(classes))
    place = {name: index for index, names in enumerate(file.classes.values()) for name in names}
    return target, _matrix([place.get(name, IGNORE) for name in space.names], target)


def map_to(space: LabelSpace, target: LabelSpace) -> Float32[np.ndarray, "k2 k"]:
    """Returns the matrix of ``read_map`` from the classes of a model to those of another space, by name and trainId.

    Raises ``InputError`` if no class of the model belongs to a class of the other space.
    """
    return _matrix(space.lut_to(target)[: len(space)], target)


def _matrix(table: Sequence[int], target: LabelSpace) -> Float32[np.ndarray, "k2 k"]:
    matrix = (np.arange(len(target))[:, None] == np.array(table)).astype(np.float32)
    if not matrix.any():
        raise InputError(f"no class of the model belongs to one of {_some(target)}; give another map")
    return matrix


def _some(space: LabelSpace) -> str:
    shown = ", ".join(space.names[:12])
    return shown if len(space) <= 12 else f"{shown} and {len(space) - 12} more"


def load_mapped(model: str, source: str | None, *, device: str = "auto", threads: int = 0) -> Segmenter:
    """Loads a model as ``load_segmenter`` does. ``source`` is a map, as for ``read_map``, or ``None`` for no map."""
    loaded = load_segmenter(model, device=device, threads=threads)
    if source is None or not isinstance(loaded, Predicting):
        return loaded
    return MappedSegmenter(loaded, *read_map(source, loaded.label_space))


def coarser_classes(model: Segmenter, space: LabelSpace) -> Segmenter:
    """Maps a model to the classes of a data set if these are fewer, and every one of them is a class of the model.

    A line says so. Otherwise, the model is returned as it is.
    """
    own = model.label_space
    if (
        len(space) >= len(own)
        or not isinstance(model, Predicting)
        or len({*own.lut_to(space)[: len(own)]} - {IGNORE}) < len(space)
    ):
        return model
    print(
        f"the model's {len(own)} classes are mapped to the {len(space)} classes of {space.name}", flush=True
    )
    return MappedSegmenter(model, space, map_to(own, space))


class MappedSegmenter(Predicting):
    """Model whose predictions are in other classes.

    The probability of a new class is the sum of the probabilities of its classes. Ignored classes are left out, and the
    other probabilities are scaled so that their sum is 1. The reported mutual information is that of the model's own
    classes, which is an upper bound of that of the new classes. It is limited to the entropy of the new classes.

    Args:
        model: Model whose classes are mapped.
        label_space: New classes.
        matrix: Matrix from the model's classes to the new classes, as ``read_map`` returns it.
    """

    def __init__(
        self, model: Predicting, label_space: LabelSpace, matrix: Float32[np.ndarray, "k2 k"]
    ) -> None:
        self.model, self.label_space, self._matrix = model, label_space, matrix

    def __getattr__(self, name: str) -> Any:
        """Returns other attributes of the model, such as the settings of an exported file."""
        if name == "model":  # not set yet, as in a copy
            raise AttributeError(name)
        return getattr(self.model, name)

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        own = self.model._predict(batch, settings)
        sums = np.tensordot(own.probabilities, self._matrix, axes=([1], [1])).transpose(0, 3, 1, 2)
        total = sums.sum(axis=1, keepdims=True)
        # Where all classes with a probability are ignored, the new classes are equally probable.
        probabilities = np.where(total > 0, sums / np.maximum(total, 1e-30), 1 / len(self.label_space))
        probabilities = np.ascontiguousarray(probabilities, np.float32)
        labels = probabilities.argmax(axis=1).astype(np.uint8)
        mapped = Prediction(labels, probabilities, own.mutual_information)
        return Prediction(labels, probabilities, np.minimum(own.mutual_information, mapped.uncertainty))
