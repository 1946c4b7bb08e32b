"""From a folder to a guess of what it is: public layouts first, then folders of people's own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from iccld.data.annotations import find_annotations
from iccld.data.guessing.evidence import Evidence, read_evidence
from iccld.data.guessing.guess import Guess, paired_labels
from iccld.data.guessing.known import CAMVID_STEMS, known_title, match_known, why_no_labels
from iccld.data.guessing.meaning import CAMVID_TRAIN_IDS, LABEL_IDS, TRAIN_IDS, Meaning, guess_meaning, rename
from iccld.data.guessing.survey import Survey, survey
from iccld.data.guessing.trees import Tree, find_trees, pair_trees, tree_of
from iccld.errors import InputError

_LOOKED_FOR = (
    "looked for Cityscapes, GTA5, SYNTHIA, CamVid, Pascal VOC, BDD100K, Mapillary Vistas, IDD, ACDC, "
    "images/ with labels/, or images alone"
)
_FEW = 4
_MOST_CLASSES = 64
_MOST_FOLDERS = 30
_MOSTLY = 0.6
"""Share of the pixels that have flat values in soft label maps, and do not in photographs."""


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
        near = f"there are only other files ({found.endings()})" if found.others else "it is empty"
        annotations = find_annotations(root)
        near = near if annotations is None else annotations.text
        raise InputError(f"{root}: holds no image, {near}; {_LOOKED_FOR}")
    guess = match_known(found)
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
        title = known_title(found.below(folder))
        if title is not None:
            place = found.root / folder
            raise InputError(f"{found.root}: {title} lies in {place}; call 'iccld data init {place}'")


def _own_folder(found: Survey) -> Guess:
    trees = find_trees(found)
    if not any(tree.role == "label" for tree in trees):
        trees = _told_by_content(found, trees)
    if not any(tree.role == "label" for tree in trees):
        trees = _told_by_ending(found, trees)
    if all(tree.role == "label" for tree in trees):
        folders = ", ".join(f"{tree.base or '.'}/" for tree in trees)
        raise InputError(f"{found.root}: holds label maps ({folders}) but no images; {_LOOKED_FOR}")
    splits, notes = pair_trees(found, trees)
    labeled = paired_labels(found, splits.values())
    if not labeled:
        _refuse_unpaired(found, trees)
        notes += why_no_labels(found)
        return Guess(found.root, "images without labels", splits, role="target", notes=tuple(notes))
    evidence = read_evidence([found.root / name for name in labeled])
    globs = " ".join(entry.labels or "" for entry in splits.values())
    try:
        meaning = guess_meaning(evidence, says=globs.lower().replace("_", ""))
    except InputError as error:
        raise InputError(f"{found.root}: {globs} are no label maps that can be used: {error}") from error
    return _with_title(
        found, Guess(found.root, "images and label maps", splits, meaning, evidence, notes=tuple(notes))
    )


def _refuse_unpaired(found: Survey, trees: Sequence[Tree]) -> None:
    labels = next((tree for tree in trees if tree.role == "label"), None)
    if labels is None:
        return
    images = next(tree for tree in trees if tree.role != "label")
    raise InputError(
        f"{found.root}: images ({images.base or '.'}/{images.files[0]}) and label maps "
        f"({labels.base or '.'}/{labels.files[0]}) do not share their names; give pairs the same name"
    )


def _told_by_content(found: Survey, trees: list[Tree]) -> list[Tree]:
    """Tells folders of label maps from folders of images by looking into a few files of each."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for tree in trees:
        for file in tree.files if tree.role is None else ():
            base = "/".join(
                part for part in (tree.base, file.partition("/")[0] if "/" in file else "") if part
            )
            groups.setdefault((base, tree.split), []).append(f"{tree.base}/{file}" if tree.base else file)
    told = [tree for tree in trees if tree.role is not None]
    if not 1 < len(groups) + bool(told) <= _MOST_FOLDERS:
        return trees
    masks = {key for key, names in groups.items() if _hold_masks(found, names)}
    if not masks or (len(masks) == len(groups) and not told):
        return trees
    stems = {False: {Path(file).stem for tree in told for file in tree.files}, True: set[str]()}
    for key, names in groups.items():
        stems[key in masks].update(Path(name).stem for name in names)
    if not any(mask[:end] in stems[False] for mask in stems[True] for end in range(1, len(mask) + 1)):
        return trees  # pictures in few colors among others
    return told + [
        tree_of(base, split, "label" if (base, split) in masks else "image", names)
        for (base, split), names in groups.items()
    ]


def _told_by_ending(found: Survey, trees: list[Tree]) -> list[Tree]:
    """Tells label maps from images that lie in one folder under the same names with another ending."""
    sorted_out: list[Tree] = []
    for tree in trees:
        endings: dict[str, list[str]] = {}
        for file in tree.files:
            name = f"{tree.base}/{file}" if tree.base else file
            endings.setdefault(os.path.splitext(file)[1], []).append(name)
        stems = [os.path.splitext(file)[0] for file in tree.files]
        masks = set()
        if len(set(stems)) < len(stems):
            masks = {ending for ending, names in endings.items() if _hold_masks(found, names)}
        if not masks or len(masks) == len(endings):
            sorted_out.append(tree)
            continue
        for is_label in (False, True):
            names = [n for ending, of in endings.items() if (ending in masks) == is_label for n in of]
            sorted_out.append(tree_of(tree.base, tree.split, "label" if is_label else "image", names))
    return sorted_out


def _hold_masks(found: Survey, names: Sequence[str]) -> bool:
    return _are_masks(read_evidence([found.root / name for name in names], _FEW))


def _are_masks(evidence: Evidence) -> bool:
    if evidence.soft and evidence.num_read:
        kinds = [softness for _, softness in evidence.soft]
        return all(0 < len(s.levels) <= _MOST_CLASSES and s.share > _MOSTLY for s in kinds)
    found = evidence.colors or evidence.ids
    return not evidence.fault and 0 < len(found) <= _MOST_CLASSES


def _with_title(found: Survey, guess: Guess) -> Guess:
    """Recognizes GTA5 and CamVid, whose folders could be anyone's, by file names and what labels hold."""
    meaning, evidence, train = guess.meaning, guess.evidence, next(iter(guess.splits.values()))
    assert meaning is not None
    assert evidence is not None
    files = (name for entry in guess.splits.values() for name in found.match(entry.images).values())
    names = {Path(name).stem for name in files}
    is_gta5 = train.images == "images/*.png" and train.labels == "labels/*.png" and len(guess.splits) == 1
    if is_gta5 and all(re.fullmatch(r"\d{5}", stem) for stem in names) and _may_be(LABEL_IDS, evidence):
        note = "A few label maps of GTA5 have another size than their image: resize_labels scales them."
        return replace(
            guess,
            layout="GTA5",
            meaning=LABEL_IDS,
            builtin="gta5",
            role="source",
            resize_labels=True,
            notes=(*guess.notes, note),
        )
    if meaning.classes == TRAIN_IDS.classes and all(re.match(CAMVID_STEMS, stem) for stem in names):
        is_split = all(entry.images.startswith(f"{split}/images/") for split, entry in guess.splits.items())
        builtin = "camvid" if is_split else None
        return replace(guess, layout="CamVid (trainIds)", meaning=CAMVID_TRAIN_IDS, builtin=builtin)
    return guess


def _may_be(meaning: Meaning, evidence: Evidence) -> bool:
    """Whether a palette's ids all stand in a table, with some beyond trainIds."""
    ids = set(evidence.ids)
    return bool(evidence.palette) and ids <= {*(meaning.ids or ()), *(meaning.ignore or ())} and max(ids) > 18
