"""Detects the data set in a folder. Layouts of public data sets are tried before folders with a user's own data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from iccld.data.annotations import find_annotations
from iccld.data.autodetect.evidence import read_evidence
from iccld.data.autodetect.guess import Guess, SplitGlobs, Survey, count_pairs, survey
from iccld.data.autodetect.meaning import by_table, detect_meaning, known_meaning, rename, with_doubts
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


class Recognized(NamedTuple):
    """The data set that was detected in a folder.

    ``name`` is one of ``iccld.data.layouts.DATASET_NAMES``, and ``text`` is a clause for messages. ``description``
    has the content of the ``dataset.toml`` that ``iccld data init`` would write. ``description`` is ``None`` if the
    folder already has a ``dataset.toml`` or contains a built-in data set. ``notes`` are sentences about points that the
    user should check.
    """

    name: str
    text: str
    description: Description | None = None
    notes: tuple[str, ...] = ()


def recognize(root: Path) -> Recognized:
    """Detects the data set in a folder. If the folder has a ``dataset.toml``, nothing else is examined."""
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
    """Detects the layout and the label encoding of a data set, from file names and sampled label maps.

    The label encoding defines which ids or colors stand for which classes.

    Args:
        root: Folder of the data set.
        names: Class names that replace the placeholder names of the classes. If empty, the placeholders are kept.

    Raises:
        InputError: The folder has no known layout, the label maps cannot be used, or ``names`` is given for known
            classes or has a wrong length.
    """
    found = survey(root)
    if not found.images:
        endings = Counter(path.suffix or path.name for path in files_below(root, lambda name: name[0] != "."))
        listing = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(3))
        others = f"there are only other files ({listing})" if listing else "it is empty"
        annotations = find_annotations(root)
        near = annotations.text if annotations else others
        raise InputError(f"{root}: holds no image, {near}; {_LOOKED_FOR}")
    tried = (_complete(guess, *means) for guess, *means in _fits(found))
    guess = next(filter(None, tried), None) or _own_folder(found)
    if not names:
        return guess
    if guess.meaning is None:
        raise InputError("--classes: there are no label maps to name the classes of; leave it out")
    return replace(guess, meaning=rename(guess.meaning, names))


def _complete(guess: Guess, meaning: str = "", when: str = "") -> Guess | None:
    """Counts the files of a detected layout and adds the label encoding.

    ``meaning`` is the name of the layout's encoding. If ``meaning`` is empty, the encoding is detected from the label
    maps. If ``when`` names an encoding and the label maps have a different encoding, ``None`` is returned.
    """
    splits, labels = count_pairs(guess.root, guess.splits)
    guess = replace(guess, splits=splits)
    if not labels:
        why = "There are no label maps: these images can be a target."
        if annotations := find_annotations(guess.root):
            text = annotations.text
            why = f"{text[0].upper()}{text[1:]}. Until then these images can be a target."
        return replace(guess, role="target", notes=(*guess.notes, why))
    evidence = read_evidence(labels)
    shown = " ".join(entry.labels or "" for entry in splits.values())
    try:
        says = shown.lower().replace("_", "")
        table = None if when else by_table(guess.root, evidence)
        held = table or (detect_meaning(evidence, says=says) if when or not meaning else None)
    except InputError as error:
        if when:
            return None
        raise InputError(f"{guess.root}: {shown} are no label maps that can be used: {error}") from error
    if held is not None and when and held.keys != meaning_keys(when):
        return None
    if meaning and table is None:
        held = with_doubts(known_meaning(meaning, guess.root), evidence)
    return replace(guess, meaning=held, evidence=evidence)


def _own_folder(found: Survey) -> Guess:
    """Detects images and label maps in a folder that does not have the layout of a public data set."""
    parts = [name.split("/")[:-1] for name in found.images]
    inner = {"/".join(part[:depth]) for part in parts for depth in (1, 2) if len(part) > depth}
    for folder in sorted(inner, key=lambda name: (name.count("/"), name))[:_MOST_FOLDERS]:
        start = folder + "/"
        names = tuple(name.removeprefix(start) for name in found.images if name.startswith(start))
        for guess, _, when in _fits(Survey(found.root / folder, names)):
            if not when:
                text = f"{guess.layout} lies in {guess.root}; call 'iccld data init {guess.root}'"
                raise InputError(f"{found.root}: {text}")
    trees = find_trees(found)
    labels = [tree for tree in trees if tree.role == "label"]
    images = [tree for tree in trees if tree.role != "label"]
    if not images:
        folders = ", ".join(f"{tree.base or '.'}/" for tree in trees)
        raise InputError(f"{found.root}: holds label maps ({folders}) but no images; {_LOOKED_FOR}")
    splits, notes = pair_trees(found, images, labels)
    is_paired = any(entry.labels for entry in splits.values())
    if labels and not is_paired:
        both = f"images ({images[0].names[0]}) and label maps ({labels[0].names[0]})"
        raise InputError(f"{found.root}: {both} do not share their names; give pairs the same name")
    title = "images and label maps" if is_paired else "images without labels"
    own = _complete(Guess(found.root, title, splits, notes=tuple(notes)))
    assert own is not None
    return own


def _fits(found: Survey) -> Iterator[tuple[Guess, str, str]]:
    """Yields the arguments of ``_complete`` for each public layout whose patterns match the files."""
    for layout in tables()["layouts"]:
        folders = layout.get("splits", {split: split for split in ("train", "val", "test")})
        images = {split: found.match(layout["images"].replace("{split}", f)) for split, f in folders.items()}
        images = {split: matched for split, matched in images.items() if matched}
        names = [name for matched in images.values() for name in matched.values()]
        is_marked = any((found.root / mark).exists() for mark in layout.get("marks", ["."]))
        if not names or not is_marked or not all(re.search(layout.get("names", ""), name) for name in names):
            continue
        # (pattern, label encoding) → number of labeled images. The entry without a pattern stands for images without
        # labels. If the layout allows such images, the entry is 0.5, which is less than for any pattern that matches.
        counts = {("", ""): 0.5 * (not layout.get("needs_labels", True))}
        for pattern, meaning in layout.get("labels", ()):
            labels = {s: found.match(pattern.replace("{split}", folders[s])) for s in images}
            counts[pattern, meaning] = sum(len(images[s].keys() & labels[s].keys()) for s in images)
        pattern, meaning = max(counts, key=lambda each: counts[each])
        if not counts[pattern, meaning]:
            continue
        splits = {}
        for split in images:
            list_file = layout.get("list", "").replace("{split}", split)
            if not list_file or (found.root / list_file).is_file():
                globs = [text.replace("{split}", folders[split]) for text in (layout["images"], pattern)]
                splits[split] = SplitGlobs(globs[0], globs[1] or None, list_file or None)
        # If all text files with image names are missing, all images are in the split train.
        splits = splits or {"train": SplitGlobs(layout["images"], pattern or None)}
        facts = {key: layout[key] for key in ("builtin", "role", "resize_labels") if key in layout}
        facts["notes"] = tuple(layout.get("notes", ()))
        yield Guess(found.root, layout["title"], splits, **facts), meaning, layout.get("when", "")
