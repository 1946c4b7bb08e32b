"""Checks a data set before hours are spent on it: what is missing or does not fit, what the labels hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from iccld.data.check_report import CheckReport, ClassShare
from iccld.data.datasets import UNMAPPED, find_files, list_splits, native_space, remap_table
from iccld.data.description import Description
from iccld.data.image_files import image_size, read_label
from iccld.data.integrity import check_ending
from iccld.data.layouts import TRAIN_IDS, FilePair, Layout
from iccld.data.overlap import shared_files
from iccld.data.own_folder import described_folder
from iccld.data.picture_formats import is_other_picture
from iccld.data.plain_folder import match_split
from iccld.data.softness import REMEDY, judge
from iccld.errors import InputError
from iccld.labels import CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace
from iccld.progress import track

_NUM_IDS = 65536
_MANY_IDS = 200
_FEW_JUDGED = 32
"""Label maps whose pixels are judged, spread over the set, beside those with ids that no class has."""
_EXAMPLES = 5
_BINARY_MASK_TRAP = (
    "all label maps hold only 0 and 255, as black-and-white masks do; 255 means 'ignore', so the white class "
    'would never be learned; in dataset.toml write your two names as classes = ["background", "thing"], '
    'ignore = [], ids = {0 = "background", 255 = "thing"} (\'iccld data init\' writes that)'
)


def check_dataset(
    name: str,
    root: str | os.PathLike[str],
    *,
    split: str = "train",
    label_space: LabelSpace | None = None,
    limit: int | None = None,
    images_only: bool = False,
    description: Description | None = None,
) -> CheckReport:
    """Checks the files of one split of a data set, with a progress bar.

    Of every image the header and the end are read, of label maps everything.

    Args:
        name: a data set with files, see ``iccld.data.datasets.DATASET_NAMES``.
        root: its folder.
        split: the split.
        label_space: the classes to count in; None for the data set's own.
        limit: the number of label maps to read, spread evenly; None for all.
        images_only: whether labels are left alone, as those of an unlabeled target are in training.
        description: of a folder that has no ``dataset.toml``, what is known of it.

    Returns:
        The findings; ``errors`` is empty if the data set can be trained on.

    Raises:
        InputError: unknown name, or a folder is missing or empty.
    """
    if name == "street_scenes":
        raise InputError("street_scenes are generated and have no files to check; see 'iccld data scenes'")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give the number of label maps to read, 1 or more")

    def find(split: str, needs_labels: bool) -> Layout:
        if description is not None:
            return described_folder(description, split, needs_labels)
        return find_files(name, root, split, needs_labels)

    layout = find(split, False)
    space = label_space or native_space(layout)
    report = CheckReport(layout.name, str(root), split, space.name, num_images=len(layout.pairs))
    report.layout = layout
    sizes = _check_images(layout, report)
    _note_other_formats(layout, report)
    for other in description.globs if description is not None else list_splits(name, root):
        _check_overlap(split, other, layout, find, report)
    if images_only or (layout.role == "target" and not any(pair.label for pair in layout.pairs)):
        return report
    _check_pairing(split, layout, find, report)
    labeled = [pair for pair in layout.pairs if pair.label is not None]
    report.num_labels = len(labeled)
    if limit is not None and limit < len(labeled):
        labeled = [labeled[i * len(labeled) // limit] for i in range(limit)]
    if labeled:
        _judge_labels(layout, space, _read_labels(layout, labeled, sizes, report), report)
    return report


_Find = Callable[[str, bool], Layout]
"""Lists a split's files, given its name and whether labels are needed."""


@dataclass
class _Found:
    """What the label maps hold, by raw id."""

    pixels: Int64[np.ndarray, " ids"] = field(default_factory=lambda: np.zeros(_NUM_IDS, dtype=np.int64))
    images: Int64[np.ndarray, " ids"] = field(default_factory=lambda: np.zeros(_NUM_IDS, dtype=np.int64))
    first: dict[int, str] = field(default_factory=dict)
    ids_of: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    counts_of: dict[str, dict[int, int]] = field(default_factory=dict)  # by the image's name
    soft: dict[str, str] = field(
        default_factory=dict
    )  # label map → why it is soft, of those that were judged
    num_judged: int = 0


def _check_images(layout: Layout, report: CheckReport) -> dict[str, tuple[int, int]]:
    """Reads every image's size; notes those that cannot be read."""
    sizes: dict[str, tuple[int, int]] = {}
    broken: list[str] = []
    first_fault = ""
    for pair in track(layout.pairs, len(layout.pairs), "checking images"):
        try:
            check_ending(pair.image)
            sizes[pair.name] = image_size(pair.image)
        except InputError as error:
            broken.append(str(pair.image))
            first_fault = first_fault or str(error)
    if broken:
        names = report.note_files("unreadable_images", broken)
        report.errors.append(f"{len(broken)} images cannot be read ({names}); the first: {first_fault}")
    report.sizes = dict(Counter(f"{width}×{height}" for height, width in sizes.values()))
    return sizes


def _note_other_formats(layout: Layout, report: CheckReport) -> None:
    """Warns of pictures beside the images and label maps that are passed over for their format."""
    files = [file for pair in layout.pairs for file in (pair.image, pair.label) if file is not None]
    folders = sorted({file.parent for file in files})
    others = [
        str(path) for folder in folders for path in sorted(folder.iterdir()) if is_other_picture(path.name)
    ]
    if others:
        names = report.note_files("other_formats", others)
        report.warnings.append(
            f"{len(others)} pictures are in formats that are not read ({names}); save them as PNG"
        )


def _check_overlap(split: str, other: str, layout: Layout, find: _Find, report: CheckReport) -> None:
    """Notes the images that another split has too."""
    if match_split(split, [other]) is not None:
        return
    try:
        pairs = find(other, False).pairs
    except InputError:
        return  # its own check says why
    images = [[(pair.name, pair.image) for pair in some] for some in (layout.pairs, pairs)]
    twins = shared_files(*images)
    if twins:
        lines = [name if name == twin else f"{name} is {twin}" for name, twin in twins]
        names = report.note_files(f"also_in_{other}", lines)
        report.warnings.append(
            f"{len(twins)} of {len(layout.pairs)} images are in split {other} too ({names})"
        )


def _check_pairing(split: str, layout: Layout, find: _Find, report: CheckReport) -> None:
    bare = [str(pair.image) for pair in layout.pairs if pair.label is None]
    if len(bare) == len(layout.pairs) and not layout.stray_labels:
        try:
            find(split, True)
        except InputError as error:  # it says which folder or which line of the description is at fault
            report.note_files("images_without_label", bare)
            report.errors.append(f"there are no labels: {error} (or check it as a target with --images-only)")
            return
    if bare:
        names = report.note_files("images_without_label", bare)
        remedy = "add the label maps or remove the images"
        report.errors.append(f"{len(bare)} of {len(layout.pairs)} images have no label ({names}); {remedy}")
    if layout.stray_labels:
        names = report.note_files("labels_without_image", [str(path) for path in layout.stray_labels])
        report.warnings.append(f"{len(layout.stray_labels)} label files belong to no image ({names})")


def _read_labels(
    layout: Layout, pairs: list[FilePair], sizes: dict[str, tuple[int, int]], report: CheckReport
) -> _Found:
    """Counts the raw ids of all label maps; notes those that cannot be read or have another size."""
    found = _Found()
    broken: list[str] = []
    unlike: list[str] = []
    first_fault = ""
    are_ranges = len(layout.ids) > _MANY_IDS  # they take in what lies between two values
    every = max(1, len(pairs) // _FEW_JUDGED)
    for number, pair in enumerate(track(pairs, len(pairs), "reading label maps")):
        assert pair.label is not None
        try:
            raw = read_label(pair.label, layout.colors)
        except InputError as error:
            broken.append(str(pair.label))
            first_fault = first_fault or str(error)
            continue
        size = sizes.get(pair.name, raw.shape)
        if size != raw.shape:
            unlike.append(f"{pair.label} ({raw.shape[1]}×{raw.shape[0]}, image {size[1]}×{size[0]})")
        counts = np.bincount(raw.ravel(), minlength=256)
        ids = np.flatnonzero(counts)
        found.pixels[: len(counts)] += counts
        found.images[ids] += 1
        for raw_id in ids.tolist():
            found.first.setdefault(raw_id, str(pair.label))
        is_strange = len(found.soft) < _EXAMPLES and not layout.ids.keys() >= set(ids.tolist())
        if (number % every == 0 or is_strange) and not are_ranges and layout.colors is None:
            softness = judge(raw)
            found.num_judged += 1
            found.soft |= {str(pair.label): softness.text} if softness is not None else {}
        found.ids_of.append((str(pair.label), tuple(ids.tolist())))
        found.counts_of[pair.name] = {i: int(counts[i]) for i in ids.tolist()}
    report.num_read = len(found.ids_of)
    if broken:
        names = report.note_files("unreadable_labels", broken)
        report.errors.append(f"{len(broken)} label maps cannot be read ({names}); the first: {first_fault}")
    if unlike:
        names = report.note_files("sizes_disagree", unlike)
        text = f"{len(unlike)} label maps differ in size from their image: {names}"
        if layout.resize_labels:
            report.warnings.append(f"{text}; known of {layout.name}, they are resized")
        else:
            report.errors.append(f"{text}; replace or remove them")
    return found


def _judge_labels(layout: Layout, space: LabelSpace, found: _Found, report: CheckReport) -> None:
    """Fills in the class table and judges what the label maps hold."""
    table = remap_table(layout.ids, layout.space, space)
    present = [int(i) for i in np.flatnonzero(found.pixels)]
    for label, class_name in enumerate(space.names):
        of_class = {i for i in present if table[i] == label}
        # Several ids may lead to one class, and an image with both shows it once.
        images = sum(1 for _, ids in found.ids_of if not of_class.isdisjoint(ids))
        report.classes.append(ClassShare(class_name, sum(int(found.pixels[i]) for i in of_class), images))
    for name, counts in found.counts_of.items():
        of_labels: Counter[int] = Counter()
        for raw, pixels in counts.items():
            if table[raw] < len(space):
                of_labels[int(table[raw])] += pixels
        report.shown[name] = dict(of_labels)
    ignored = {i for i in present if table[i] == IGNORE}
    report.ignored_pixels = sum(int(found.pixels[i]) for i in ignored)
    unknown = [i for i in present if table[i] == UNMAPPED]
    if not present:
        return
    if present == [0, 255] and table[255] in (IGNORE, UNMAPPED) and len(layout.space) > 1:
        report.errors.append(_BINARY_MASK_TRAP)
    elif unknown:
        _note_unknown(layout, unknown, found, report)
    elif found.soft:
        names, text = report.note_files("soft_labels", list(found.soft)), next(iter(found.soft.values()))
        report.warnings.append(
            f"{len(found.soft)} of {found.num_judged} label maps that were judged are not as they were drawn "
            f"({names}): {text}; {REMEDY}"
        )
    _note_ignored(found, ignored, report)
    never = [c.name for c in report.classes if not c.pixels]
    if never and len(never) < len(space):
        seen = "" if report.num_read == report.num_labels else " in the label maps that were read"
        report.warnings.append(f"never seen{seen}: {', '.join(never)}")


def _note_unknown(layout: Layout, unknown: list[int], found: _Found, report: CheckReport) -> None:
    lines = [
        f"id {i} ({found.pixels[i]} pixels in {found.images[i]} label maps, first {found.first[i]})"
        for i in unknown
    ]
    shown = report.note_files("unknown_ids", lines)
    hint = layout.mend_ids
    if layout.ids == TRAIN_IDS and set(found.first) <= set(CITYSCAPES_ID_TO_TRAIN_ID) | {IGNORE}:
        hint = "these look like Cityscapes labelIds, but trainIds are expected: " + hint
    if found.soft:
        first, text = next(iter(found.soft.items()))
        report.note_files("soft_labels", list(found.soft))
        hint = f"{first}: {text}; {REMEDY}"
    report.errors.append(f"no class for {shown}; {hint}")


def _note_ignored(found: _Found, ignored: set[int], report: CheckReport) -> None:
    blank = [path for path, ids in found.ids_of if ignored.issuperset(ids)]
    if not blank:
        return
    names = report.note_files("labels_all_ignored", blank)
    if len(blank) == len(found.ids_of):
        held = ", ".join(str(i) for i in sorted(ignored)[:5])
        report.errors.append(
            f"all pixels of all label maps are ignored (they hold {held}): nothing can be learned from them; "
            "use a split that has labels"
        )
    else:
        report.warnings.append(f"{len(blank)} label maps are ignored as a whole ({names})")
