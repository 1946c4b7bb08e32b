"""From a folder to a guess of what it is: public layouts first, then folders of people's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iccld.data.annotations import find_annotations
from iccld.data.autodetect.evidence import Evidence, read_evidence
from iccld.data.autodetect.guess import (
    Guess,
    SplitGlobs,
    Survey,
    count_pairs,
    survey,
    why_no_labels,
)
from iccld.data.autodetect.meaning import detect_meaning, known_meaning, rename, with_doubts
from iccld.data.autodetect.trees import find_trees, pair_trees
from iccld.data.description import DESCRIPTION, Description, parse_description
from iccld.data.folders import files_below
from iccld.data.layouts import meaning_keys, tables
from iccld.errors import InputError

_LOOKED_FOR = (
    "looked for Cityscapes, GTA5, SYNTHIA, CamVid, Pascal VOC, BDD100K, Mapillary Vistas, IDD, ACDC, "
    "images/ with labels/, or images alone"
)
_MOST_FOLDERS = 30


@dataclass(frozen=True)
class Recognized:
    """What a folder was taken for.

    Attributes:
        name: the data set, one of ``iccld.data.layouts.DATASET_NAMES``.
        text: what it was taken for, in words.
        description: what ``iccld data init`` would write, where the folder has no description and is no data set that
            is known by name; None otherwise.
        notes: what was guessed and should be looked at, a sentence each.
    """

    name: str
    text: str
    description: Description | None = None
    notes: tuple[str, ...] = ()


def recognize(root: Path) -> Recognized:
    """Finds out what a folder holds.

    Raises:
        InputError: it cannot be told; the message says what was looked for.
    """
    if (root / DESCRIPTION).is_file():
        return Recognized("folder", f"a folder that is described by its {DESCRIPTION}")
    guess = guess_folder(root)
    if guess.builtin is not None:
        return Recognized(guess.builtin, f"{guess.layout}, which is built in as {guess.builtin!r}")
    description = parse_description(root / DESCRIPTION, guess.document())
    holds = "" if guess.meaning is None else f", whose label maps hold {guess.meaning.text}"
    checks = () if guess.meaning is None else guess.meaning.checks
    return Recognized("folder", f"{guess.layout}{holds}", description, (*guess.notes, *checks))


def guess_folder(root: Path, *, names: Sequence[str] = ()) -> Guess:
    """Guesses what a folder holds, from names, headers and a sample of its label maps.

    Args:
        root: the folder.
        names: the user's class names, in place of those that would be made up.

    Raises:
        InputError: nothing fits; the message says what was looked for and what comes nearest.
    """
    found = survey(root)
    if not found.images:
        endings = Counter(path.suffix or path.name for path in files_below(root, lambda name: name[0] != "."))
        listing = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(3))
        annotations = find_annotations(root)
        near = f"there are only other files ({listing})" if listing else "it is empty"
        near = near if annotations is None else annotations.text
        raise InputError(f"{root}: holds no image, {near}; {_LOOKED_FOR}")
    guess = _match_known(found)
    if guess is None:
        _point_below(found)
        guess = _own_folder(found)
    if not names:
        return guess
    if guess.meaning is None:
        raise InputError("--classes: there are no label maps to name the classes of; leave it out")
    return replace(guess, meaning=rename(guess.meaning, names))


def _point_below(found: Survey) -> None:
    """Says so if a public data set lies one or two folders deeper."""
    parts = [name.split("/")[:-1] for name in found.images]
    inner = {"/".join(part[:depth]) for part in parts for depth in (1, 2) if len(part) > depth}
    for folder in sorted(inner, key=lambda name: (name.count("/"), name))[:_MOST_FOLDERS]:
        start = folder + "/"
        names = tuple(name.removeprefix(start) for name in found.images if name.startswith(start))
        place = found.root / folder
        for layout, _, _ in _fits(Survey(place, names)):
            if "when" not in layout:
                text = f"{layout['title']} lies in {place}; call 'iccld data init {place}'"
                raise InputError(f"{found.root}: {text}")


def _own_folder(found: Survey) -> Guess:
    trees = find_trees(found)
    label_trees = [tree for tree in trees if tree.role == "label"]
    if len(label_trees) == len(trees):
        folders = ", ".join(f"{tree.base or '.'}/" for tree in trees)
        raise InputError(f"{found.root}: holds label maps ({folders}) but no images; {_LOOKED_FOR}")
    globs, notes = pair_trees(found, trees)
    splits, labels = count_pairs(found.root, globs)
    if not labels and label_trees:
        image = next(tree for tree in trees if tree.role != "label").names[0]
        label = label_trees[0].names[0]
        raise InputError(
            f"{found.root}: images ({image}) and label maps ({label}) do not share their names; "
            "give pairs the same name"
        )
    if not labels:
        notes += why_no_labels(found.root)
        return Guess(found.root, "images without labels", splits, role="target", notes=tuple(notes))
    evidence = read_evidence(labels)
    shown = " ".join(entry.labels or "" for entry in splits.values())
    try:
        meaning = detect_meaning(evidence, says=shown.lower().replace("_", ""))
    except InputError as error:
        raise InputError(f"{found.root}: {shown} are no label maps that can be used: {error}") from error
    return Guess(found.root, "images and label maps", splits, meaning, evidence, notes=tuple(notes))


def _match_known(found: Survey) -> Guess | None:
    """Finds the public data set whose folders and names these are, None if it is none of them."""
    for layout, splits, meaning in _fits(found):
        counted, labels = count_pairs(found.root, splits)
        facts = {key: layout[key] for key in ("builtin", "role", "resize_labels") if key in layout}
        notes = tuple(layout.get("notes", ()))
        guess = Guess(found.root, layout["title"], counted, notes=notes, **facts)
        if not labels:
            why = why_no_labels(found.root) or ["There are no label maps: these images can be a target."]
            return replace(guess, role="target", notes=(*notes, *why))
        evidence = read_evidence(labels)
        if "when" not in layout or _holds(evidence, layout["when"]):
            known = with_doubts(known_meaning(meaning, found.root), evidence)
            return replace(guess, meaning=known, evidence=evidence)
    return None


def _fits(found: Survey) -> Iterator[tuple[Mapping[str, Any], dict[str, SplitGlobs], str]]:
    """The layouts that fit the names, their splits, and what the label maps that there are most of hold."""
    for layout in tables()["layouts"]:
        folders = layout.get("splits", {split: split for split in ("train", "val", "test")})
        images = {
            split: matched
            for split, folder in folders.items()
            if (matched := found.match(layout["images"].replace("{split}", folder)))
        }
        names = [name for matched in images.values() for name in matched.values()]
        is_marked = any((found.root / mark).exists() for mark in layout.get("marks", ["."]))
        if not names or not is_marked or not all(re.search(layout.get("names", ""), name) for name in names):
            continue
        best, pattern, meaning = 0, "", ""
        for glob, meant in layout.get("labels", ()):
            count = sum(
                len(matched.keys() & found.match(glob.replace("{split}", folders[split])).keys())
                for split, matched in images.items()
            )
            if count > best:
                best, pattern, meaning = count, glob, meant
        if not best and layout.get("needs_labels", True):
            continue
        splits = {}
        for split in images:
            list_file = layout.get("list", "").replace("{split}", split)
            if not list_file or (found.root / list_file).is_file():
                globs = [text.replace("{split}", folders[split]) for text in (layout["images"], pattern)]
                splits[split] = SplitGlobs(globs[0], globs[1] or None, list_file or None)
        splits = splits or {"train": SplitGlobs(layout["images"], pattern or None)}  # the lists are missing
        yield layout, splits, meaning


def _holds(evidence: Evidence, meaning: str) -> bool:
    try:
        return detect_meaning(evidence).keys == meaning_keys(meaning)
    except InputError:
        return False
