"""Evaluation: scores a model on a labeled data set, or compares stored predictions with true label maps."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from iccld.data.datasets import UNMAPPED, SegmentationDataset, remap_table
from iccld.data.description import Description
from iccld.data.folders import files_below
from iccld.data.image_files import LABEL_SUFFIXES, RawLabel, is_label_name, read_label
from iccld.data.softness import advise
from iccld.drawing import LabelMap
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.inference.prefetch import read_ahead
from iccld.inference.rendering import file_to_index, holds_train_ids
from iccld.inference.segmenter import PredictSettings, Segmenter, check_settings, predict_image
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace, Protocol
from iccld.metrics import ConfusionMatrix, Scores, scores_from_confusion
from iccld.models.prediction import Prediction
from iccld.progress import track

_FEW = 32  # maximum number of label maps that are read to detect trainIds or labelIds
_ENDINGS = re.compile(
    r"(_(leftImg8bit|rightImg8bit|rgb_anon|gt|gtFine|gtCoarse|pred|preds|predicted|prediction|predictions|"
    r"labels?|labelIds|labelTrainIds|trainIds))+$"
)
# Cityscapes stores these files beside the label maps. They are skipped because they do not hold class ids.
_OTHER_TRUTH = re.compile(r"_gt(Fine|Coarse)_(color|instanceIds|instanceTrainIds)$")


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
    selects all images. ``observe`` is called with each image. With ``is_part``, labeled pixels may be missing.

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
    silent = [path for path in paths if _is_silent(path)]
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
    elif holds_label_ids(path) or (silent_label_ids and _is_silent(path)):
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


def pair_files(predictions: Path, labels: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pairs predicted with true label maps by relative path, or by file name alone if the name is unique.

    Suffixes such as ``_leftImg8bit``, ``_gtFine_labelIds``, ``_pred_labelTrainIds`` and ``_trainIds`` are ignored. A
    prediction can have a longer name than its label map, for example ``a_blend.png`` for ``a.png``. If an image has a
    true label map with labelIds and another true label map with trainIds, the label map with labelIds is used. Returns
    the pairs (prediction, label map) in the order of the true label maps, and the predictions without a label map.

    Raises ``InputError`` if a folder is missing or empty, a label map has no prediction, or two files belong to the
    same image.
    """
    truths = _by_key(labels, "true")
    answers = _by_key(predictions, "predicted")
    chosen = {key: key for key in truths if key in answers}
    names = Counter(map(basename, truths))
    chosen |= _by_name(truths.keys() - chosen.keys(), names, answers.keys() - truths.keys())
    missing = [key for key in truths if key not in chosen]
    if missing:
        count = len(chosen) or "none"
        inner = predictions / "labels"  # ``iccld predict`` writes label maps to this folder
        remedy = "predict these images too, or give the two folders that mirror each other"
        raise InputError(
            f"{truths[missing[0]]}: has no prediction {predictions / (missing[0] + '.png')} "
            f"({count} of {len(truths)} label maps have one); "
            + (f"give --predictions {inner}" if inner.is_dir() else remedy)
        )
    used = set(chosen.values())
    unused = [path for key, path in answers.items() if key not in used]
    return [(answers[chosen[key]], path) for key, path in truths.items()], unused


def _by_name(wanted: Iterable[str], names: Counter[str], free: Iterable[str]) -> dict[str, str]:
    """Matches label maps with predictions by file name alone. ``names`` counts each file name among the label maps."""
    named: dict[str, list[str]] = defaultdict(list)
    for key in free:
        name = basename(key)
        # If a label map has exactly this name, the prediction belongs to that label map only.
        ends = [] if names[name] else [match.start() for match in re.finditer(r"[_.\- ]", name)]
        for start in {name, *(name[:end] for end in ends)}:
            named[start].append(key)
    found: dict[str, str] = {}
    for key in wanted:
        name = basename(key)
        fits = [other for other in named[name] if basename(other) == name] or named[name]
        if len(fits) == 1 and names[name] == 1:
            found[key] = fits[0]
    return found


def holds_label_ids(path: Path) -> bool:
    """Checks whether a file name ends in ``_labelIds``, which marks Cityscapes labelIds."""
    return path.stem.endswith("_labelIds")


def _is_silent(path: Path) -> bool:
    """Checks whether a file name does not tell which kind of ids the file holds."""
    return not re.search(r"(labelIds|rainIds)$", path.stem)


def _by_key(folder: Path, kind: str) -> dict[str, Path]:
    """Finds the label maps of a folder, sorted by path.

    The keys are relative paths without the file extension and without suffixes such as ``_gtFine_labelIds``.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; give the folder of {kind} label maps")
    found: dict[str, Path] = {}
    for path in sorted(files_below(folder, is_label_name)):
        if kind == "true" and _OTHER_TRUTH.search(path.stem):
            continue
        name = _ENDINGS.sub("", path.stem) or path.stem
        key = unicodedata.normalize("NFC", (path.relative_to(folder).parent / name).as_posix())
        other = found.get(key)
        if other is not None and kind == "true" and holds_label_ids(path) != holds_label_ids(other):
            path = path if holds_label_ids(path) else other
        elif other is not None:
            raise InputError(f"{path}: belongs to the same image as {other}; remove one of them")
        found[key] = path
    if not found:
        kinds = ", ".join(suffix[1:] for suffix in LABEL_SUFFIXES)
        raise InputError(f"{folder}: holds no label map ({kinds}); give the folder of label maps")
    return found
