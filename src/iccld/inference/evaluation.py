"""Evaluation: scores a model on a labeled data set, or stored predictions against true label maps."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from iccld.data.datasets import UNMAPPED, SegmentationDataset, remap_table
from iccld.data.description import Description
from iccld.data.image_files import RawLabel, read_label
from iccld.data.softness import advise
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.inference.pairing import holds_label_ids, is_silent, pair_files
from iccld.inference.prefetch import read_ahead
from iccld.inference.rendering import LabelMap, file_to_index, holds_train_ids
from iccld.inference.segmenter import PredictSettings, Segmenter, check_settings, predict_image
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace, Protocol
from iccld.metrics import ConfusionMatrix, Scores, scores_from_confusion
from iccld.models.prediction import Prediction
from iccld.progress import track

_FEW = 32
"""Maximum number of label maps that are read to detect whether a folder holds trainIds or labelIds."""


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
) -> Scores:
    """Segments images of a labeled data set, each at its own size, and returns the scores.

    The classes of the model and of the data set are mapped to the protocol's label space by name and trainId. The
    scores are always computed at the full size of the label maps. ``indices`` selects images of the data set; all
    images if ``None``. ``observe`` is called with each evaluated image.

    Raises:
        InputError: the data set has no labels, an image and its label map differ in size, a file cannot be read, no
            pixel belongs to a class of the protocol, or the model was exported with other settings.
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
            raise InputError(
                f"{dataset.file_name(index)}: the image is {_size(image)}, its label {_size(label)}; "
                "replace one or remove both"
            )
        prediction = predict_image(model, image, settings)
        answer, truth = answer_table[prediction.labels], truth_table[label]
        confusion.update(torch.from_numpy(answer), torch.from_numpy(truth))
        if observe is not None:
            observe(Measured(index, prediction, answer, truth, answer_table[: len(model.label_space)]))
    return _scores(confusion, protocol, len(indices), dataset.name)


def evaluate_folders(
    predictions_dir: AnyPath, labels_dir: AnyPath, protocol: Protocol, *, own: Description | None = None
) -> Scores:
    """Scores a folder of predicted label maps against a folder of true label maps.

    Files are paired by ``iccld.inference.pairing.pair_files``. By default, files are read as Cityscapes trainIds, which
    ``iccld predict`` writes. Files named ``*_labelIds.png`` are read as Cityscapes labelIds. If the names of some files
    end neither in ``labelIds`` nor in ``trainIds``, up to 32 of these files are checked. If a checked file has an id
    above 18 (the largest trainId), all files with such names are read as labelIds. If a class of the protocol has no
    trainId, files are read as the protocol's class indices. All ids are mapped to the protocol's label space. Messages
    on stderr report detected labelIds, skipped predictions without a true label map, and predicted ids without a class
    in the protocol. If the description ``own`` of a user's ``dataset.toml`` is given, files are read with its ids or
    colors, and ``protocol`` must use its classes.

    Raises:
        InputError: no files can be paired, a true label map has no prediction, a file cannot be read or holds undefined
            values, a prediction and its label map differ in size, or no pixel belongs to a class of the protocol.
    """
    pairs, unused = pair_files(Path(predictions_dir), Path(labels_dir))
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
            raise InputError(
                f"{prediction}: is {_size(answer)}, but its label map {label} is {_size(truth)}; "
                "write predictions at the size of the labels"
            )
        confusion.update(torch.from_numpy(answer), torch.from_numpy(truth))
        ids, counts = np.unique(stored[(answer == IGNORE) & (truth != IGNORE)], return_counts=True)
        without.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
    if without:
        share = without.total() / max(1, int(confusion.counts.sum()))
        some = ", ".join(map(str, sorted(without)[:8])) + (", …" if len(without) > 8 else "")
        _note(
            f"warning: {share:.2%} of the labeled pixels are predicted as ids without a class in "
            f"{protocol.name} ({some}); they count as missed"
        )
    return _scores(confusion, protocol, len(pairs), str(labels_dir))


def missing_classes(space: LabelSpace, protocol: Protocol) -> tuple[str, ...]:
    """Returns the names of the protocol's evaluated classes that a model with the given label space cannot predict."""
    reachable = set(space.lut_to(protocol.space)[: len(space)])
    return tuple(protocol.space.names[i] for i in protocol.evaluated if i not in reachable)


def _hold_label_ids(paths: Sequence[Path], what: str) -> bool:
    """Checks whether files with an unknown kind of ids hold Cityscapes labelIds. If so, a message is printed."""
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
        value = int(strange.min())
        raise InputError(
            f"{path}: holds the value {value}, which is none of the {known}; {advise(stored, usual)}"
        )
    return folded, stored


def _note(text: str) -> None:
    print(f"iccld: {text}", file=sys.stderr)


def _scores(confusion: ConfusionMatrix, protocol: Protocol, num_images: int, source: str) -> Scores:
    if not confusion.counts[list(protocol.evaluated)].any():
        raise InputError(
            f"{source}: no labeled pixel in {num_images} images belongs to a class of protocol "
            f"{protocol.name}; choose another --protocol or check the labels"
        )
    return scores_from_confusion(confusion, protocol, num_images=num_images)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]} pixels"
