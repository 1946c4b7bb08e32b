"""Finding, for every true label map of a folder, the prediction that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from iccld.data.folders import files_below
from iccld.errors import InputError

_ENDINGS = re.compile(
    r"_(leftImg8bit|gt(Fine|Coarse)_labelIds|gt(Fine|Coarse)_labelTrainIds|labelIds|labelTrainIds|trainIds)$"
)
# Cityscapes keeps these beside the label maps.
_OTHER_TRUTH = re.compile(r"_gt(Fine|Coarse)_(color|instanceIds|instanceTrainIds)$")


def pair_files(predictions: Path, labels: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pairs the PNG files of two folders by their paths below them.

    The endings ``_leftImg8bit``, ``_gtFine_labelIds``, ``_gtFine_labelTrainIds``, ``_labelTrainIds`` and
    ``_trainIds`` do not count. Where a label map is there in both Cityscapes forms, ``_labelIds`` is taken.

    Returns:
        The pairs (prediction, label) in the order of the label files, and the predictions without a label.

    Raises:
        InputError: a folder is missing or empty, a label has no prediction, or two files claim one place.
    """
    truths = _by_key(labels, truth=True)
    answers = _by_key(predictions, truth=False)
    missing = [key for key in truths if key not in answers]
    if missing:
        first = truths[missing[0]]
        count = "none" if len(missing) == len(truths) else f"{len(truths) - len(missing)}"
        raise InputError(
            f"{first}: has no prediction {predictions / (missing[0] + '.png')} "
            f"({count} of {len(truths)} label maps have one); {_remedy(predictions)}"
        )
    pairs = [(answers[key], truth) for key, truth in truths.items()]
    return pairs, [path for key, path in answers.items() if key not in truths]


def holds_label_ids(path: Path) -> bool:
    """Whether a file is named as one that holds Cityscapes labelIds."""
    return path.stem.endswith("_labelIds")


def _by_key(folder: Path, *, truth: bool) -> dict[str, Path]:
    """Lists the label maps of a folder under their path without ending, sorted."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise InputError(
            f"{folder}: {what}; give the folder of {'true' if truth else 'predicted'} label maps"
        )
    found: dict[str, Path] = {}
    for path in sorted(_png_files(folder)):
        if truth and _OTHER_TRUTH.search(path.stem):
            continue
        key = (path.relative_to(folder).parent / _ENDINGS.sub("", path.stem)).as_posix()
        other = found.get(key)
        if other is not None and truth and holds_label_ids(path) != holds_label_ids(other):
            path = path if holds_label_ids(path) else other
        elif other is not None:
            raise InputError(f"{path}: belongs to the same image as {other}; remove one of them")
        found[key] = path
    if not found:
        raise InputError(f"{folder}: holds no PNG label map; give the folder of label maps")
    return found


def _png_files(folder: Path) -> Iterator[Path]:
    return files_below(folder, lambda name: name.lower().endswith(".png") and not name.startswith("."))


def _remedy(predictions: Path) -> str:
    inner = predictions / "labels"  # where ``iccld predict`` puts them
    if inner.is_dir():
        return f"give --predictions {inner}"
    return "predict these images too, or give the two folders that mirror each other"
