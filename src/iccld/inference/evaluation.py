"""Evaluation: scores a model on a labeled data set, or compares stored predictions with true label maps."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from iccld.data.description import Description
from iccld.data.image_files import RawLabel, read_label
from iccld.data.interface import UNMAPPED, SegmentationDataset, remap_table
from iccld.data.softness import advise
from iccld.drawing import LabelMap
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.inference.pairing import holds_label_ids, is_silent, pair_files
from iccld.inference.prefetch import read_ahead
from iccld.inference.rendering import file_to_index, holds_train_ids
from iccld.inference.segmenter import PredictSettings, Segmenter, check_settings, predict_image
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace, Protocol
from iccld.metrics import ConfusionMatrix, Scores, scores_from_confusion
from iccld.mirrors import local_copy
from iccld.models.prediction import Prediction
from iccld.progress import track

_FEW = 32  # maximum number of label maps that are read to detect trainIds or labelIds


@dataclass(frozen=True)
class Measured:
    """An evaluated image with its prediction and its true classes.

    ``index`` is the index in the data set. ``prediction`` is in the model's label space. ``answer`` and ``truth`` are
    the predicted and the true classes in the protocol's label space, with 255 for pixels without a class. ``table``
    maps the model's class indices to the protocol's class indices.
    """

    index: int
    prediction: Prediction
    answer: LabelMap
    truth: LabelMap
    table: UInt8[np.ndarray, " k"]

    @property
    def right(self) -> Bool[np.ndarray, "h w"]:
        """Mask of the correct pixels, in which ``answer`` equals ``truth``."""
        return np.asarray(self.answer == self.truth)

    @property
    def counted(self) -> Bool[np.ndarray, "h w"]:
        """Mask of the pixels that are scored because they have a true class."""
        return np.asarray(self.truth != IGNORE)


def evaluate_model(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    *,
    settings: PredictSettings | None = None,
    indices: Sequence[int] | None = None,
    observe: Callable[[Measured], None] | None = None,
    is_part: bool = False,
) -> Scores:
    """Segments the images of a labeled data set at their original sizes and returns the scores.

    The classes of the model and of the data set are mapped to the protocol's label space by name and trainId. The
    scores are always computed at the full size of the label maps. ``indices`` selects images of the data set. ``None``
    selects all images. ``observe`` is called with the measurements of each image. With ``is_part``, the images are one
    part of an evaluation, so it is no error if no pixel belongs to a class of the protocol.

    Raises ``InputError`` if the data set has no labels, an image and its label map differ in size, a file cannot be
    read, no pixel belongs to a class of the protocol, or ``settings`` differ from those of an exported model.
    """
    check_settings(model, settings)
    if not dataset.has_labels:
        raise InputError(f"data set {dataset.name} has no labels to measure against; give a labeled split")
    indices = range(len(dataset)) if indices is None else indices
    answer_table = np.array(model.label_space.lut_to(protocol.space), np.uint8)
    truth_table = np.array(dataset.label_space.lut_to(protocol.space), np.uint8)
    confusion = ConfusionMatrix(len(protocol.space))
    work = read_ahead(indices, lambda index: (dataset.image(index), dataset.label(index)))
    for index, result in track(work, len(indices), "Evaluating"):
        image, label = result()
        if label.shape != image.shape[:2]:
            sizes = f"the image is {_size(image)}, its label {_size(label)}"
            raise InputError(f"{dataset.file_name(index)}: {sizes}; replace one or remove both")
        prediction = predict_image(model, image, settings)
        answer, truth = answer_table[prediction.labels], truth_table[label]
        confusion.update(torch.from_numpy(answer), torch.from_numpy(truth))
        if observe is not None:
            observe(Measured(index, prediction, answer, truth, answer_table[: len(model.label_space)]))
    return _scores(confusion, protocol, len(indices), dataset.name, may_be_empty=is_part)


def evaluate_folders(
    predictions_dir: AnyPath, labels_dir: AnyPath, protocol: Protocol, *, own: Description | None = None
) -> Scores:
    """Scores a folder of predicted label maps against a folder of true label maps.

    Files are paired by ``pair_files``. Files named ``*_labelIds.png`` are read as Cityscapes labelIds. All other files
    are read as Cityscapes trainIds, which ``iccld predict`` writes. If a class of the protocol has no trainId, the
    other files are read as class indices of the protocol. Files with labelIds can also have other names. Therefore, up
    to 32 files per folder with names that end neither in ``labelIds`` nor in ``trainIds`` are checked. If the largest
    id of a checked file is from 19 to 33, all files of the folder with such names are read as labelIds.

    ``own`` is the description of a user's ``dataset.toml``. If ``own`` is given, all files are read with the ids or
    colors of this description instead. ``protocol`` must then use the classes of the description. Messages on stderr
    report detected labelIds, skipped predictions without a true label map, and predicted ids without a class in the
    protocol.

    Raises ``InputError`` if no files can be paired, a true label map has no prediction, a file cannot be read or holds
    undefined values, a prediction and its label map differ in size, or no pixel belongs to a class of the protocol.
    """
    pairs, unused = pair_files(local_copy(predictions_dir), local_copy(labels_dir))
    if unused:
        count = f"{len(unused)} of {len(pairs) + len(unused)}"
        _note(f"{count} predictions have no label map and are left out, for example {unused[0]}")
    guessed = (False, False)
    if own is None and holds_train_ids(protocol.space):
        predictions, labels = zip(*pairs, strict=True)
        guessed = _hold_label_ids(predictions, "predictions"), _hold_label_ids(labels, "label maps")

    def read(pair: tuple[Path, Path]) -> list[tuple[LabelMap, RawLabel]]:
        return [_read(path, guess, protocol.space, own) for path, guess in zip(pair, guessed, strict=True)]

    confusion = ConfusionMatrix(len(protocol.space))
    without: Counter[int] = Counter()
    for (prediction, label), result in track(read_ahead(pairs, read), len(pairs), "Evaluating"):
        (answer, stored), (truth, _) = result()
        if answer.shape != truth.shape:
            sizes = f"is {_size(answer)}, but its label map {label} is {_size(truth)}"
            raise InputError(f"{prediction}: {sizes}; write predictions at the size of the labels")
        confusion.update(torch.from_numpy(answer), torch.from_numpy(truth))
        ids, counts = np.unique(stored[(answer == IGNORE) & (truth != IGNORE)], return_counts=True)
        without.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
    if without:
        share = without.total() / max(1, int(confusion.counts.sum()))
        some = ", ".join(map(str, sorted(without)[:8])) + (", …" if len(without) > 8 else "")
        where = f"predicted as ids without a class in {protocol.name} ({some})"
        _note(f"warning: {share:.2%} of the labeled pixels are {where}; they count as missed")
    return _scores(confusion, protocol, len(pairs), str(labels_dir))


def missing_classes(space: LabelSpace, protocol: Protocol) -> tuple[str, ...]:
    """Returns the names of the protocol's evaluated classes that a model with the given label space cannot predict."""
    reachable = set(space.lut_to(protocol.space)[: len(space)])
    return tuple(protocol.space.names[i] for i in protocol.evaluated if i not in reachable)


def _hold_label_ids(paths: Sequence[Path], what: str) -> bool:
    """Checks whether label maps hold Cityscapes labelIds. If so, a message is printed.

    Only files whose names do not tell the kind of ids are read, up to a maximum of 32.
    """
    silent = [path for path in paths if is_silent(path)]
    for path in silent[:: max(1, len(silent) // _FEW)][:_FEW]:
        stored = read_label(path)
        highest = int(stored[stored != IGNORE].max(initial=0))
        if len(CITYSCAPES19) <= highest <= max(CITYSCAPES_ID_TO_TRAIN_ID):
            evidence = f"{path} has the id {highest}, trainIds end at 18"
            _note(f"the {what} hold Cityscapes labelIds ({evidence}) and are read as such")
            return True
    return False


def _read(
    path: Path, silent_label_ids: bool, space: LabelSpace, own: Description | None
) -> tuple[LabelMap, RawLabel]:
    """Reads a label map and returns two versions: with classes of ``space``, and with the ids of the file."""
    stored = read_label(path, None if own is None else own.colors)
    if own is not None:
        table, known = remap_table(own.ids, own.space, own.space), f"ids of {own.path}"
        usual = f"predictions with its ids are written by 'iccld predict --ids {own.path}'"
    elif holds_label_ids(path) or (silent_label_ids and is_silent(path)):
        table, known = file_to_index(space, label_ids=True), "Cityscapes labelIds"
        usual = "write the label map again"
    else:
        table, known = file_to_index(space), "trainIds" if holds_train_ids(space) else "class indices"
        usual = "files with Cityscapes labelIds must be named *_labelIds.png"
    folded = table[stored]
    strange = stored[folded == UNMAPPED]
    if strange.size:
        problem = f"holds the value {int(strange.min())}, which is none of the {known}"
        raise InputError(f"{path}: {problem}; {advise(stored, usual)}")
    return folded, stored


def _note(text: str) -> None:
    print(f"iccld: {text}", file=sys.stderr)


def _scores(
    confusion: ConfusionMatrix,
    protocol: Protocol,
    num_images: int,
    source: str,
    *,
    may_be_empty: bool = False,
) -> Scores:
    if not may_be_empty and not confusion.counts[list(protocol.evaluated)].any():
        problem = f"{source}: no labeled pixel in {num_images} images belongs to a class of protocol {protocol.name}"
        raise InputError(f"{problem}; choose another --protocol or check the labels")
    return scores_from_confusion(confusion, protocol, num_images=num_images)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]} pixels"
