"""Public data sets that are known by their folders and file names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from iccld.data.annotations import find_annotations
from iccld.data.guessing.evidence import Evidence, read_evidence
from iccld.data.guessing.guess import Guess, SplitGlobs, paired_labels
from iccld.data.guessing.meaning import (
    CAMVID_COLORS,
    IDD_LEVEL3,
    LABEL_IDS,
    SEGNET_CAMVID,
    SYNTHIA_IDS,
    TRAIN_IDS,
    Meaning,
    mapillary,
    voc,
)
from iccld.data.guessing.survey import Survey
from iccld.data.layouts import read_list
from iccld.labels import CITYSCAPES19, IGNORE

_SAME = {name: name for name in ("train", "val", "test")}
_FEW = 4

Means = Meaning | Callable[[Survey, Evidence], Meaning]


@dataclass(frozen=True)
class Known:
    """A public layout.

    Attributes:
        title: the data set's name.
        images: glob of the images, ``{split}`` for the split's folder.
        labels: globs of the label maps, and what they hold; the first that fits is taken.
        splits: name → folder.
        needs_labels: whether images alone are not enough to know it.
        list_file: text file of a split's image names, ``{split}`` for the split; for splits without folders.
        stems: regular expression that the name of an image begins with.
        builtin: the name under which ``iccld`` knows it without a file.
        role: what it is for.
        notes: sentences for the file.
    """

    title: str
    images: str
    labels: tuple[tuple[str, Means], ...]
    splits: Mapping[str, str] = field(default_factory=lambda: _SAME)
    needs_labels: bool = False
    list_file: str | None = None
    stems: str = ""
    builtin: str | None = None
    role: str | None = None
    notes: tuple[str, ...] = ()


_LEFT = "leftImg8bit/{split}/**/*_leftImg8bit"
_FINE = "gtFine/{split}/**/*_gtFine_"
CAMVID_STEMS = "0001TP_|0006R0_|0016E5_|Seq05VD_"
"""Regular expression: what the names of CamVid's frames begin with."""
_MAPILLARY_SPLITS = {"train": "training", "val": "validation", "test": "testing"}


def _mapillary(version: str) -> Means:
    return lambda survey, evidence: mapillary(survey.root, version)


def _voc(survey: Survey, evidence: Evidence) -> Meaning:
    return voc(evidence)


KNOWN = (
    Known(
        "ACDC",
        "rgb_anon/*/{split}/*/*_rgb_anon.png",
        (
            ("gt/*/{split}/*/*_gt_labelTrainIds.png", TRAIN_IDS),
            ("gt/*/{split}/*/*_gt_labelIds.png", LABEL_IDS),
        ),
    ),
    Known(
        "IDD",
        _LEFT + ".{png,jpg}",
        ((_FINE + "labelcsTrainIds.png", TRAIN_IDS), (_FINE + "labellevel3Ids.png", IDD_LEVEL3)),
        needs_labels=True,
    ),
    Known(
        "Cityscapes",
        _LEFT + ".png",
        ((_FINE + "labelIds.png", LABEL_IDS), (_FINE + "labelTrainIds.png", TRAIN_IDS)),
        builtin="cityscapes",
    ),
    Known("IDD", _LEFT + ".jpg", ()),
    Known(
        "BDD100K",
        "images/10k/{split}/*.jpg",
        (("labels/sem_seg/masks/{split}/*.png", TRAIN_IDS),),
    ),
    Known(
        "BDD100K (first release)",
        "images/{split}/*.jpg",
        (("labels/{split}/*_train_id.png", TRAIN_IDS),),
        needs_labels=True,
    ),
    Known(
        "Mapillary Vistas",
        "{split}/images/*.jpg",
        (
            ("{split}/v1.2/labels/*.png", _mapillary("v1.2")),
            ("{split}/v2.0/labels/*.png", _mapillary("v2.0")),
            ("{split}/labels/*.png", _mapillary("v1.2")),
        ),
        splits=_MAPILLARY_SPLITS,
        needs_labels=True,
    ),
    Known(
        "SYNTHIA (RAND-CITYSCAPES)",
        "RGB/*.png",
        (("GT/LABELS/*.png", SYNTHIA_IDS),),
        splits={"train": ""},
        needs_labels=True,
        builtin="synthia",
        role="source",
    ),
    Known(
        "CamVid (32 colors)",
        "701_StillsRaw_full/*.png",
        (("LabeledApproved_full/*_L.png", CAMVID_COLORS),),
        splits={"train": ""},
        needs_labels=True,
    ),
    Known(
        "CamVid (32 colors)",
        "{split}/*.png",
        (("{split}_labels/*_L.png", CAMVID_COLORS),),
        needs_labels=True,
        stems=CAMVID_STEMS,
    ),
    Known(
        "CamVid (SegNet split, its own numbers)",
        "{split}/*.png",
        (("{split}annot/*.png", SEGNET_CAMVID),),
        needs_labels=True,
        stems=CAMVID_STEMS,
    ),
    Known(
        "Pascal VOC",
        "JPEGImages/*.jpg",
        (("SegmentationClass/*.png", _voc),),
        needs_labels=True,
        list_file="ImageSets/Segmentation/{split}.txt",
    ),
)


def match_known(survey: Survey) -> Guess | None:
    """Finds the public data set whose folders and names these are, None if it is none of them."""
    if not survey.images:
        return None
    for known in KNOWN:
        guess = _match(survey, known)
        if guess is not None:
            return guess
    return None


def known_title(survey: Survey) -> str | None:
    """The title of the public data set whose names these are, without a look at its files."""
    for known in KNOWN:
        splits, _, _ = _find_splits(survey, known)
        if splits and not (known.title == "Mapillary Vistas" and not _is_mapillary(survey)):
            return known.title
    return None


def _match(survey: Survey, known: Known) -> Guess | None:
    splits, means, notes = _find_splits(survey, known)
    if not splits:
        return None
    if known.title == "Mapillary Vistas" and not _is_mapillary(survey):
        return None
    notes = [*known.notes, *notes]
    splits = _without_blank(survey, splits, means, notes)
    labeled = paired_labels(survey, splits.values())
    if not labeled or means is None:
        if known.title == "Cityscapes" and all(_folder(name).isdigit() for name in survey.images):
            known = replace(
                known, title="IDD", builtin=None
            )  # its drives are numbers, where cities have names
        notes += why_no_labels(survey) or ["There are no label maps: these images can be a target."]
        return Guess(
            survey.root, known.title, splits, builtin=known.builtin, role="target", notes=tuple(notes)
        )
    evidence = read_evidence([survey.root / name for name in labeled])
    meaning = means if isinstance(means, Meaning) else means(survey, evidence)
    return Guess(
        survey.root,
        known.title,
        splits,
        _with_doubts(meaning, evidence),
        evidence,
        builtin=known.builtin,
        role=known.role,
        notes=tuple(notes),
    )


def _find_splits(survey: Survey, known: Known) -> tuple[dict[str, SplitGlobs], Means | None, list[str]]:
    """The splits whose images are there, the kind of label maps that the data set has most of, and notes."""
    images = {
        split: (glob, matched)
        for split, folder in known.splits.items()
        if (matched := survey.match(glob := known.images.replace("{split}", folder)))
    }
    best: tuple[int, str | None, Means | None] = (0, None, None)
    for pattern, means in known.labels if images else ():
        count = sum(
            len(matched.keys() & survey.match(pattern.replace("{split}", known.splits[split])).keys())
            for split, (_, matched) in images.items()
        )
        if count > best[0]:
            best = (count, pattern, means)
    _, chosen, meant = best
    names = [name for _, matched in images.values() for name in matched.values()]
    if not all(re.match(known.stems, name.rpartition("/")[2]) for name in names):
        return {}, None, []
    if known.needs_labels and chosen is None:
        return {}, None, []
    splits = {}
    for split, (glob, matched) in images.items():
        labels = chosen.replace("{split}", known.splits[split]) if chosen else None
        pairs = matched.keys() & survey.match(labels).keys() if labels else set()
        splits[split] = SplitGlobs(glob, labels if pairs else None, len(matched), len(pairs))
    notes: list[str] = []
    return _by_lists(survey, known, splits, notes) if known.list_file else splits, meant, notes


def _by_lists(
    survey: Survey, known: Known, splits: Mapping[str, SplitGlobs], notes: list[str]
) -> dict[str, SplitGlobs]:
    """Splits that text files tell apart: all share the globs; without lists all of it is ``train``."""
    assert known.list_file is not None
    listed: dict[str, SplitGlobs] = {}
    entry = next(iter(splits.values()), None)
    if entry is None:
        return listed
    images, labels = survey.by_name(entry.images), survey.match(entry.labels or "")
    for split in known.splits:
        file = known.list_file.replace("{split}", split)
        if not (survey.root / file).is_file():
            continue
        names = read_list(survey.root / file)
        keys = [images[name] for name in names if name in images]
        if not keys:
            notes.append(f"{file} names no image that is here, so there is no split {split}.")
            continue
        missing = [name for name in names if name not in images]
        if missing:
            count = f"{len(missing)} image{'s' if len(missing) > 1 else ''}"
            notes.append(
                f"{file} names {count} not here, first {missing[0]}: add or take out before training."
            )
        num_labels = sum(key in labels for key in keys)
        listed[split] = SplitGlobs(
            entry.images, entry.labels if num_labels else None, len(keys), num_labels, file
        )
    return listed or {"train": entry}


def _is_mapillary(survey: Survey) -> bool:
    """Folders named training/images and training/labels are common; these are Mapillary's alone."""
    marks = ("training/instances", "training/v1.2", "training/v2.0")
    return any((survey.root / mark).is_dir() for mark in marks) or any(survey.root.glob("config*.json"))


def _folder(name: str) -> str:
    return name.split("/")[-2]


def _without_blank(
    survey: Survey, splits: Mapping[str, SplitGlobs], means: Means | None, notes: list[str]
) -> dict[str, SplitGlobs]:
    """Leaves out the label maps of a test split whose classes are held back: all they hold is ignored."""
    cleaned = dict(splits)
    entry = splits.get("test")
    if entry is None or entry.labels is None or not isinstance(means, Meaning):
        return cleaned
    evidence = read_evidence([survey.root / name for name in paired_labels(survey, [entry])], _FEW)
    ignored = {IGNORE, *(means.ignore or ())}
    if evidence.ids and set(evidence.ids) <= ignored:
        cleaned["test"] = replace(entry, labels=None, num_labels=0)
        notes.append("The label maps of test are blank (its truth is held back), so it is listed without.")
    return cleaned


def why_no_labels(survey: Survey) -> list[str]:
    """A sentence on annotations that are not read, where there are some."""
    annotations = find_annotations(survey.root)
    if annotations is None:
        return []
    text = annotations.worded(annotations.example.relative_to(survey.root).as_posix())
    return [f"{text[0].upper()}{text[1:]}. Until then these images can be a target."]


def _with_doubts(meaning: Meaning, evidence: Evidence) -> Meaning:
    """Adds what speaks against the table that the names promise."""
    doubts: list[str] = []
    if evidence.fault:
        doubts.append(f"Not all label maps can be used: {evidence.fault}.")
    if not meaning.color_coded:
        size = len(meaning.classes) if not isinstance(meaning.classes, str) else len(CITYSCAPES19)
        known = set(meaning.ids or range(size)) | set(meaning.ignore or (IGNORE,))
        strange = sorted(set(evidence.ids) - known)
        if strange:
            doubts.append(
                f"Ids that {meaning.text} do not have were seen: {', '.join(map(str, strange[:8]))}."
            )
        if evidence.colors:
            doubts.append("The label maps are RGB colors, where ids were expected.")
    elif evidence.ids:
        doubts.append("The label maps hold ids, where colors were expected.")
    return replace(meaning, checks=(*meaning.checks, *doubts))
