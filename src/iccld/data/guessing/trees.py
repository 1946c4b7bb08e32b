"""Folders of people's own: which trees hold images, which hold label maps, and how the names pair."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from iccld.data.guessing.guess import SplitGlobs
from iccld.data.guessing.survey import Survey
from iccld.data.plain_folder import IMAGE_WORDS, LABEL_WORDS, SPLIT_WORDS
from iccld.errors import InputError

Role = Literal["image", "label"]

# Endings of maps that are for people's eyes, or of instances: taken where there is nothing else.
_NOT_CLASSES = re.compile(r"(color|colour|vis|overlay|blend|instance|instanceids)s?$", re.IGNORECASE)


@dataclass(frozen=True)
class Tree:
    """Files of one role in one folder.

    Attributes:
        base: the folder, empty for the data set's own.
        split: the split that its path names, None if it names none.
        role: what its path or its files' names say.
        files: relative to ``base``.
    """

    base: str
    split: str | None
    role: Role | None
    files: tuple[str, ...]


def find_trees(survey: Survey) -> list[Tree]:
    """Sorts the image files into trees by the words in their paths.

    Files whose folders say nothing are one tree: of the only folder that holds them, else of the whole.
    """
    groups: defaultdict[tuple[str, str | None, Role | None], list[str]] = defaultdict(list)
    places: dict[str, tuple[str, str | None, Role | None]] = {}
    silent: list[str] = []
    for name in survey.images:
        folder, _, file = name.rpartition("/")
        if folder not in places:
            places[folder] = _place(folder)
        base, split, role = places[folder]
        if role != "label" and _last_word(file) in LABEL_WORDS:
            role = "label"
        if role is None and split is None:
            silent.append(name)
        else:
            groups[base, split, role].append(name)
    tops = {name.split("/")[0] if "/" in name else "" for name in silent}
    trees = [tree_of(base, split, role, names) for (base, split, role), names in groups.items()]
    if silent:
        trees.append(tree_of(tops.pop() if len(tops) == 1 else "", None, None, silent))
    return trees


def tree_of(base: str, split: str | None, role: Role | None, names: Iterable[str]) -> Tree:
    """Makes a tree of files that are named relative to the data set's folder."""
    start = base + "/" if base else ""
    return Tree(base, split, role, tuple(name.removeprefix(start) for name in names))


def _place(folder: str) -> tuple[str, str | None, Role | None]:
    """The base, split and role of a folder, by the words in its path; the last word that tells wins."""
    parts = folder.split("/") if folder else []
    split: str | None = None
    role: Role | None = None
    end = 0
    for place, part in enumerate(parts, start=1):
        for word in re.split(r"[^a-z0-9]+", part.lower()):
            if word in SPLIT_WORDS:
                split, end = SPLIT_WORDS[word], place
            elif word in LABEL_WORDS or word.endswith("annot"):
                role, end = "label", place
                split = SPLIT_WORDS.get(word.removesuffix("annot"), split)
            elif word in IMAGE_WORDS:
                role, end = "image", place
    return "/".join(parts[:end]), split, role


def _last_word(file: str) -> str:
    stem = os.path.splitext(file)[0]
    return re.split(r"[^a-z0-9]+", stem.lower())[-1] if re.search(r"[^A-Za-z0-9]", stem) else ""


def pair_trees(survey: Survey, trees: Sequence[Tree]) -> tuple[dict[str, SplitGlobs], list[str]]:
    """Pairs image trees with label trees and words them as globs, by split.

    Returns:
        The splits, and a sentence for each tree that was left out.

    Raises:
        InputError: no glob tells the images from the label maps.
    """
    labels = [tree for tree in trees if tree.role == "label"]
    splits: dict[str, SplitGlobs] = {}
    notes: list[str] = []
    for split in ("train", "val", "test"):
        own = [tree for tree in trees if tree.role != "label" and (tree.split or "train") == split]
        if not own:
            continue
        near = [tree for tree in labels if (tree.split or "train") == split]
        near = near or [tree for tree in labels if tree.split is None]
        if len(own) > 1 and not near:
            own = [_merge(own)]
        tried = [(tree, _pair(survey, tree, near)) for tree in own]
        used, splits[split] = max(tried, key=lambda item: (item[1].num_labels, item[1].num_images))
        notes += [f"Images in {tree.base or '.'}/ were left out." for tree, _ in tried if tree is not used]
        _refuse_overlap(survey, splits[split], labels)
        _refuse_twins(survey, splits[split])
    return splits, notes


def _merge(trees: Sequence[Tree]) -> Tree:
    base = os.path.commonpath([tree.base or "." for tree in trees]) if all(t.base for t in trees) else ""
    names = [f"{tree.base}/{file}" if tree.base else file for tree in trees for file in tree.files]
    return tree_of(base, trees[0].split, trees[0].role, names)


def _refuse_twins(survey: Survey, entry: SplitGlobs) -> None:
    for glob in filter(None, (entry.images, entry.labels)):
        twins = survey.twins(glob)
        if twins is not None:
            raise InputError(
                f"{survey.root}: {twins[0]} and {twins[1]} have the same name, so it is not plain which is meant; "
                "remove one of each such pair, or write a dataset.toml with one ending in its globs"
            )


def _refuse_overlap(survey: Survey, entry: SplitGlobs, labels: Sequence[Tree]) -> None:
    label_files = {f"{tree.base}/{file}" if tree.base else file for tree in labels for file in tree.files}
    both = sorted(label_files.intersection(survey.match(entry.images).values()))
    if both:
        raise InputError(
            f"{survey.root}: no pattern tells the images from label maps such as {both[0]}; "
            "put images into images/ and label maps into labels/"
        )


@dataclass(frozen=True)
class _Names:
    """Names of a tree's files: what all of them begin and end with, and the rest, which pairs them."""

    prefix: str
    suffix: str
    keys: frozenset[str]


def _pair(survey: Survey, images: Tree, near: Sequence[Tree]) -> SplitGlobs:
    """Finds the label tree and the globs that pair the most images."""
    deep = any("/" in file for tree in (images, *near) for file in tree.files)
    every = _glob(images.base, any("/" in file for file in images.files), "", "", images.files)
    best = SplitGlobs(every, None, len(images.files), 0)
    for tree in near:
        for names, prefix, ending in _pairings(images, tree):
            used = [file for file in tree.files if os.path.splitext(file)[0].endswith(ending)]
            image_glob = _glob(images.base, deep, names.prefix, names.suffix, images.files)
            label_glob = _glob(tree.base, deep, prefix, ending, used)
            matched = survey.match(image_glob)
            count = len(matched.keys() & survey.match(label_glob).keys())
            if count > best.num_labels:
                best = SplitGlobs(image_glob, label_glob, len(matched), count)
    return best


def _pairings(images: Tree, labels: Tree) -> Iterable[tuple[_Names, str, str]]:
    """Ways to pair: image names, prefix and ending of the label names; the better ones first."""
    stems = _stems(labels.files)
    names = _names(images.files)
    for image_names in (_names(images.files, prefix=False), _names(images.files, prefix=False, suffix=False)):
        endings: Counter[str] = Counter()
        for stem in stems:
            cut = _cut(stem, image_names.keys)
            if cut is not None:
                endings[stem[cut:]] += 1
        for ending in sorted(endings, key=lambda e: (bool(_NOT_CLASSES.search(e)), -endings[e], e))[:1]:
            yield image_names, "", ending
    own = _names(labels.files)
    if names.prefix or own.prefix:
        yield names, own.prefix, own.suffix


def _cut(stem: str, keys: frozenset[str]) -> int | None:
    """Where the image's name ends in a label's name, at the end or before a separator."""
    if stem in keys:
        return len(stem)
    for match in reversed(list(re.finditer(r"[_.\- ]", stem))):
        if stem[: match.start()] in keys:
            return match.start()
    return None


def _names(files: Sequence[str], *, prefix: bool = True, suffix: bool = True) -> _Names:
    """Takes off what all names begin with (letters and a separator) and end with (a separator and letters)."""
    stems = _stems(files)
    bare = [stem.rpartition("/")[2] for stem in stems]
    begin = end = ""
    if len(set(bare)) > 1:
        start = re.match(r"[A-Za-z]+[_\-]", _common_start(bare)) if prefix else None
        backwards = _common_start([name[::-1] for name in bare])
        stop = re.search(r"[_\-][A-Za-z][A-Za-z0-9]*$", backwards[::-1]) if suffix else None
        begin, end = start[0] if start else "", stop[0] if stop else ""
    keys = frozenset(
        stem[: len(stem) - len(name)] + name[len(begin) : len(name) - len(end)]
        for stem, name in zip(stems, bare, strict=True)
    )
    return _Names(begin, end, keys)


def _stems(files: Iterable[str]) -> list[str]:
    """Names without endings, letters with accents in one form."""
    return [unicodedata.normalize("NFC", os.path.splitext(file)[0]) for file in files]


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)  # all others lie between them
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[:same]


def _glob(base: str, deep: bool, prefix: str, suffix: str, files: Sequence[str]) -> str:
    fixed = base + prefix + suffix
    if re.search(r"[*?{}]", fixed):
        raise InputError(f"{base or prefix + suffix}: globs cannot name the characters * ? {{ }}; rename it")
    endings = sorted(_extensions(files))
    ending = endings[0] if len(endings) == 1 else "{" + ",".join(endings) + "}"
    return f"{base}/" * bool(base) + "**/" * deep + f"{prefix}*{suffix}.{ending}"


def _extensions(files: Iterable[str]) -> set[str]:
    return {os.path.splitext(file)[1].removeprefix(".") for file in files}
