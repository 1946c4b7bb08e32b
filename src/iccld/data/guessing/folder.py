"""From a folder to a guess of what it is: public layouts first, then folders of people's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from iccld.data.guessing.evidence import Evidence, read_evidence
from iccld.data.guessing.guess import Guess, paired_labels
from iccld.data.guessing.known import CAMVID_STEMS, known_title, match_known
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
    if all(tree.role == "label" for tree in trees):
        folders = ", ".join(f"{tree.base or '.'}/" for tree in trees)
        raise InputError(f"{found.root}: holds label maps ({folders}) but no images; {_LOOKED_FOR}")
    splits, notes = pair_trees(found, trees)
    labeled = paired_labels(found, splits.values())
    if not labeled:
        _refuse_unpaired(found, trees)
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
    silent = [tree for tree in trees if tree.role is None and tree.split is None and not tree.base]
    tops: dict[str, list[str]] = {}
    for name in (name for tree in silent for name in tree.files):
        tops.setdefault(name.split("/")[0] if "/" in name else "", []).append(name)
    if not 1 < len(tops) <= _MOST_FOLDERS or "" in tops:
        return trees
    masks = {
        top for top, names in tops.items() if _are_masks(read_evidence([found.root / n for n in names], _FEW))
    }
    if not masks or len(masks) == len(tops):
        return trees
    others = [tree for tree in trees if tree not in silent]
    return [
        *others,
        *(tree_of(t, None, "label" if t in masks else "image", names) for t, names in tops.items()),
    ]


def _are_masks(evidence: Evidence) -> bool:
    kinds = evidence.colors or evidence.ids
    return not evidence.fault and 0 < len(kinds) <= _MOST_CLASSES


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
