"""Predictions in other classes: the probabilities of a model's classes are summed into the classes of a map."""

from __future__ import annotations

import os
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
    """Content of a map file.

    ``classes`` maps the name of each new class to names of the model's classes. ``ignore`` lists ignored classes.
    """

    classes: Mapping[str, tuple[str, ...]]
    ignore: tuple[str, ...] = ()


def read_map(source: str, space: LabelSpace) -> tuple[LabelSpace, Float32[np.ndarray, "k2 k"]]:
    """Reads a map from the classes of a model to other classes.

    Args:
        source: Name of a built-in label space, or path of a TOML file. The file's table ``classes`` maps the name of
            each new class to a list of class names of the model. The list ``ignore`` contains all other class names.
        space: Classes of the model.

    Returns:
        The new label space, and a matrix of zeros and ones. Entry (i, j) is 1 if class j of the model belongs to the
        new class i.

    Raises:
        InputError: The name is unknown, the file is invalid, a class of the model is missing or is listed twice, or no
            class of the model belongs to a new class.
    """
    if not source.endswith(".toml"):
        if Path(source).is_file():
            raise InputError(f"{source}: a map is a TOML file; give it a name that ends in .toml")
        target = get_label_space(source)
        return target, map_to(space, target)
    file = build(_MapFile, read_toml(Path(source)), source)
    listed = [name for names in (*file.classes.values(), file.ignore) for name in names]
    for name in listed:
        if name not in space.names:
            known = ", ".join(space.names)
            raise InputError(f"{source}: {name!r} is no class of the model; its classes are {known}")
        if listed.count(name) > 1:
            raise InputError(f"{source}: names {name!r} twice; a class belongs to one new class")
    missing = [name for name in space.names if name not in listed]
    if missing:
        places = ", ".join(map(repr, missing))
        raise InputError(f"{source}: has no place for {places}; name each in a class or in 'ignore'")
    by_name = {c.name: c for c in space.classes}
    classes = []
    for new, names in file.classes.items():
        if not names:
            raise InputError(f"{source}: class {new!r} has no classes of the model; remove it")
        # A sum of several classes has no trainId, so that label files hold the indices of the new classes.
        members = [by_name[name] for name in names]
        train_ids = members[0].train_ids if len(members) == 1 else ()
        classes.append(LabelClass(new, members[0].color, train_ids))
    target = LabelSpace(Path(source).stem, tuple(classes))
    place = {name: index for index, names in enumerate(file.classes.values()) for name in names}
    return target, _matrix([place.get(name, IGNORE) for name in space.names], target)


def map_to(space: LabelSpace, target: LabelSpace) -> Float32[np.ndarray, "k2 k"]:
    """Maps the classes of a model to the classes of another label space by name and trainId.

    Returns a matrix as ``read_map`` does. Raises ``InputError`` if no class of the model belongs to a class of the
    other label space.
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
    """Loads a model as ``load_segmenter`` does, and maps the model's classes with ``source`` (see ``read_map``).

    If ``source`` is ``None``, the model keeps its classes.
    """
    return mapped(load_segmenter(model, device=device, threads=threads), source)


def mapped(model: Segmenter, source: str | os.PathLike[str] | None) -> Segmenter:
    """Returns a model whose predictions are converted to other classes.

    ``source`` specifies the class mapping and is passed to ``read_map``. If it is ``None``, the model is returned
    unchanged.
    """
    if source is None or not isinstance(model, Predicting):
        return model
    return MappedSegmenter(model, *read_map(os.fspath(source), model.label_space))


def coarser_classes(model: Segmenter, space: LabelSpace) -> Segmenter:
    """Maps a model to the classes of a data set if the data set has coarser classes.

    The data set must have fewer classes than the model, and each class of the data set must contain at least one class
    of the model. In this case, a message on stdout reports the mapping. Otherwise, the model is returned unchanged.
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
    other probabilities are scaled so that their sum is 1. The mutual information is computed for the model's own
    classes and limited to the entropy of the new classes. If no class is ignored, the mutual information of the new
    classes is never larger than this value.

    Args:
        model: Model whose classes are mapped.
        label_space: New classes.
        matrix: Matrix from the model's classes to the new classes, as ``read_map`` returns it.
    """

    def __init__(
        self, model: Predicting, label_space: LabelSpace, matrix: Float32[np.ndarray, "k2 k"]
    ) -> None:
        self.model, self.label_space, self.matrix = model, label_space, matrix

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the original model, such as a setting of an exported file."""
        if name == "model":  # while a copy is created, ``model`` is not set yet
            raise AttributeError(name)
        return getattr(self.model, name)

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        own = self.model._predict(batch, settings)
        sums = np.tensordot(own.probabilities, self.matrix, axes=([1], [1])).transpose(0, 3, 1, 2)
        total = sums.sum(axis=1, keepdims=True)
        # At a pixel where all probable classes are ignored, all new classes get the same probability.
        probabilities = np.where(total > 0, sums / np.maximum(total, 1e-30), 1 / len(self.label_space))
        probabilities = np.ascontiguousarray(probabilities, np.float32)
        labels = probabilities.argmax(axis=1).astype(np.uint8)
        mapped = Prediction(labels, probabilities, own.mutual_information)
        return Prediction(labels, probabilities, np.minimum(own.mutual_information, mapped.uncertainty))
