"""Finds the images and label maps in a user's own folder, and glob patterns that pair images and label maps by name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iccld.data.autodetect.evidence import read_evidence
from iccld.data.autodetect.guess import SplitGlobs, Survey
from iccld.data.layouts import IMAGE_WORDS, LABEL_WORDS, SPLIT_WORDS
from iccld.errors import InputError

Role = Literal["image", "label"]

# Name suffixes of visualizations and instance maps. Such files are used only if there are no other label maps.
_NOT_CLASSES = re.compile(r"(color|colour|vis|overlay|blend|instance|instanceids)s?$", re.IGNORECASE)
_FEW = 4
_MOST_CLASSES = 64
_MOST_GROUPS = 30
_MOSTLY = 0.6
"""If more than this fraction of a compressed file's pixels is in flat areas, the file is treated as a label map and not
as a photograph."""


@dataclass(frozen=True)
class Tree:
    """The files of one role (images or label maps) and one split, in the folder ``base`` and its subfolders.

    All paths are relative to the data set's folder. An unknown split or role is ``None``.
    """

    base: str
    split: str | None
    role: Role | None
    names: tuple[str, ...]

    @property
    def stems(self) -> list[str]:
        """Paths relative to ``base`` without extensions, in Unicode form NFC."""
        start = len(self.base) + bool(self.base)
        return [unicodedata.normalize("NFC", os.path.splitext(name)[0][start:]) for name in self.names]


_Place = tuple[str, str | None, Role | None]
"""Base folder, split and role of a ``Tree``."""
_Groups = defaultdict[_Place, list[str]]
_Affix = tuple[str, str]
"""Prefix and suffix that file names share. Neither of the two identifies an image."""


def find_trees(survey: Survey) -> list[Tree]:
    """Groups the image files into ``Tree`` objects by words in their paths, such as ``train`` and ``masks``.

    If no path contains a word for labels, a few files are read to distinguish label maps from images. All files whose
    paths contain no known word form one tree. If these files share a top folder, this folder is the ``base``.
    """
    groups: _Groups = defaultdict(list)
    for name in survey.images:
        folder, _, file = name.rpartition("/")
        base, split, role = _place(folder)
        words = _words(os.path.splitext(file)[0])
        if len(words) > 1 and words[-1] in LABEL_WORDS:
            role = "label"
        groups[base, split, role].append(name)
    if silent := groups.pop(("", None, None), []):
        tops = {name.rpartition("/")[0].partition("/")[0] for name in silent}
        groups[tops.pop() if len(tops) == 1 else "", None, None] = silent
    if not any(role == "label" for _, _, role in groups):
        groups = _told_by_content(survey, groups)
    return [Tree(*place, tuple(names)) for place, names in groups.items()]


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())


def _place(folder: str) -> _Place:
    """Returns base folder, split and role from the words in a folder's path. Words of deeper folders have priority."""
    parts = folder.split("/")
    split: str | None = None
    role: Role | None = None
    end = 0
    for place, part in enumerate(parts, start=1):
        for word in _words(part):
            if word in SPLIT_WORDS:
                split, end = SPLIT_WORDS[word], place
            elif word in LABEL_WORDS or word in IMAGE_WORDS:
                role, end = "label" if word in LABEL_WORDS else "image", place
    return "/".join(parts[:end]), split, role


def _told_by_content(survey: Survey, groups: _Groups) -> _Groups:
    """Separates label maps from images in groups of unknown role. Reads a few files per folder and extension.

    Returns ``groups`` unchanged if label maps cannot be told apart from images.
    """
    told = defaultdict(list, {place: [*names] for place, names in groups.items() if place[2] is not None})
    untold: defaultdict[tuple[str, str | None, str], list[str]] = defaultdict(list)
    for (base, split, role), names in groups.items():
        for name in names if role is None else ():
            inner = name.removeprefix(base).strip("/").rpartition("/")[0].partition("/")[0]
            folder = "/".join(filter(None, (base, inner)))
            untold[folder, split, os.path.splitext(name)[1]].append(name)
    if not 1 < len(untold) + bool(told) <= _MOST_GROUPS:
        return groups
    images = {Path(name).stem for names in told.values() for name in names}
    masks: set[str] = set()
    for (folder, split, _), names in untold.items():
        is_mask = _hold_masks([survey.root / name for name in names])
        (masks if is_mask else images).update(Path(name).stem for name in names)
        told[folder, split, "label" if is_mask else "image"] += names
    if not any(mask[:end] in images for mask in masks for end in range(1, len(mask) + 1)):
        return groups  # if no images have the same names, files that look like masks can be images
    return told


def _hold_masks(files: Sequence[Path]) -> bool:
    evidence = read_evidence(files, _FEW)
    if evidence.soft:
        return all(0 < len(s.levels) <= _MOST_CLASSES and s.share > _MOSTLY for _, s in evidence.soft)
    return not evidence.fault and 0 < len(evidence.colors or evidence.ids) <= _MOST_CLASSES


def pair_trees(
    survey: Survey, images: Sequence[Tree], labels: Sequence[Tree]
) -> tuple[dict[str, SplitGlobs], list[str]]:
    """Pairs each image tree with a label tree. Selects the pair with the most labeled images for each split.

    Returns split → glob patterns of the selected pair, and a sentence for each image tree that was left out.
    """
    splits: dict[str, SplitGlobs] = {}
    notes: list[str] = []
    for split in ("train", "val", "test"):
        own = [tree for tree in images if (tree.split or "train") == split]
        if not own:
            continue
        near = [tree for tree in labels if (tree.split or "train") == split]
        near = near or [tree for tree in labels if tree.split is None]
        if len(own) > 1 and not near:
            base = os.path.commonpath([tree.base for tree in own])
            own = [Tree(base, split, "image", tuple(name for tree in own for name in tree.names))]
        tried = [(tree, _pair(survey, tree, near)) for tree in own]
        used, splits[split] = max(tried, key=lambda item: (item[1].num_labels, item[1].num_images))
        notes += [f"Images in {tree.base or '.'}/ were left out." for tree, _ in tried if tree is not used]
    return splits, notes


def _pair(survey: Survey, images: Tree, near: Sequence[Tree]) -> SplitGlobs:
    """Pairs ``images`` with the tree of ``near`` that labels the most images, and returns the glob patterns of both."""
    deep = any("/" in stem for stem in images.stems)
    best = SplitGlobs(_glob(images, images.names, ("", ""), deep), num_images=len(images.names))
    for tree in near:
        deep = any("/" in stem for stem in (*images.stems, *tree.stems))
        for of_images, of_labels in _affixes(images.stems, tree.stems):
            used = [name for name in tree.names if os.path.splitext(name)[0].endswith(of_labels[1])]
            image_glob = _glob(images, images.names, of_images, deep)
            label_glob = _glob(tree, used, of_labels, deep)
            matched = survey.match(image_glob)
            count = len(matched.keys() & survey.match(label_glob).keys())
            if count > best.num_labels:
                best = SplitGlobs(image_glob, label_glob, None, len(matched), count)
    return best


def _affixes(images: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[_Affix, _Affix]]:
    """Yields candidates for the affixes of the image names and of the label names, the most probable first."""
    common = _common_affix(images)
    for ending in dict.fromkeys((common[1], "")):
        keys = {stem.removesuffix(ending) for stem in images}
        rests = Counter(rest for stem in labels if (rest := _rest(stem, keys)) is not None)
        if rests:
            yield ("", ending), ("", min(rests, key=lambda r: (bool(_NOT_CLASSES.search(r)), -rests[r], r)))
    yield common, _common_affix(labels)


def _rest(stem: str, keys: set[str]) -> str | None:
    """Removes the longest image name in ``keys`` from the start of ``stem`` and returns the rest of ``stem``.

    Returns ``None`` if ``stem`` does not start with an image name.
    """
    ends = [len(stem), *(match.start() for match in re.finditer(r"[_.\- ]", stem))]
    return next((stem[end:] for end in sorted(ends, reverse=True) if stem[:end] in keys), None)


def _common_affix(stems: Sequence[str]) -> _Affix:
    """Returns the prefix and the suffix that all file names share.

    A prefix consists of letters and a separator. A suffix consists of a separator and letters or digits.
    """
    names = {stem.rpartition("/")[2] for stem in stems}
    if len(names) < 2:
        return "", ""
    starts = {"".join(re.findall(r"^[A-Za-z]+[_\-]", name)) for name in names}
    ends = {"".join(re.findall(r"[_\-][A-Za-z][A-Za-z0-9]*$", name)) for name in names}
    return starts.pop() if len(starts) == 1 else "", ends.pop() if len(ends) == 1 else ""


def _glob(tree: Tree, names: Sequence[str], affix: _Affix, deep: bool) -> str:
    fixed = tree.base + "".join(affix)
    if re.search(r"[*?{}]", fixed):
        raise InputError(f"{fixed}: globs cannot name the characters * ? {{ }}; rename it")
    endings = sorted({os.path.splitext(name)[1].removeprefix(".") for name in names})
    ending = endings[0] if len(endings) == 1 else "{" + ",".join(endings) + "}"
    return f"{tree.base}/" * bool(tree.base) + "**/" * deep + f"{affix[0]}*{affix[1]}.{ending}"
