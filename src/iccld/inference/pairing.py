"""Pairs predicted with true label maps by the names of their files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from posixpath import basename

from iccld.data.folders import files_below
from iccld.data.image_files import LABEL_SUFFIXES, is_label_name
from iccld.errors import InputError

_ENDINGS = re.compile(
    r"(_(leftImg8bit|rightImg8bit|rgb_anon|gt|gtFine|gtCoarse|pred|preds|predicted|prediction|predictions|"
    r"labels?|labelIds|labelTrainIds|trainIds))+$"
)
# Cityscapes stores these files beside the label maps. They are skipped because they do not hold class ids.
_OTHER_TRUTH = re.compile(r"_gt(Fine|Coarse)_(color|instanceIds|instanceTrainIds)$")


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


def is_silent(path: Path) -> bool:
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
