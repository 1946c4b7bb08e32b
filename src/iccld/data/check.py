"""Checks a data set before training: finds missing and invalid files, and ids without a class in label maps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from iccld.data.check_report import CheckReport, ClassShare
from iccld.data.datasets import describe, native_space
from iccld.data.description import Description
from iccld.data.identity import shared_files
from iccld.data.image_files import image_size, read_label
from iccld.data.interface import UNMAPPED, remap_table
from iccld.data.layouts import TRAIN_IDS, FilePair, list_split, match_split
from iccld.data.picture_header import check_ending, is_other_picture
from iccld.data.softness import REMEDY, judge
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.labels import CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, LabelSpace
from iccld.progress import track
from iccld.shards import WHOLE, Shard

_MANY_IDS = 200
_FEW_JUDGED = 32
"""Minimum number of label maps to check for compression and interpolation. Smaller splits are checked completely."""
_FEW_SOFT = 5
_BINARY_MASK_TRAP = (
    "all label maps hold only 0 and 255, as black-and-white masks do; 255 means 'ignore', so the white class "
    'would never be learned; in dataset.toml write your two names as classes = ["background", "thing"], '
    'ignore = [], ids = {0 = "background", 255 = "thing"} (\'iccld data init\' writes that)'
)

_Maps = list[tuple[FilePair, dict[int, int]]]
"""List with one entry per label map that was read: the files and a dict of raw id → number of pixels."""


def check_dataset(
    name: str,
    root: AnyPath,
    *,
    split: str = "train",
    label_space: LabelSpace | None = None,
    limit: int | None = None,
    images_only: bool = False,
    description: Description | None = None,
    shard: Shard = WHOLE,
) -> CheckReport:
    """Checks the files of one split of a data set, with a progress bar.

    The header and the end of each image are read. Label maps are read completely. Raises ``InputError`` if ``name`` is
    unknown, ``limit`` is less than 1, or a folder is missing or empty.

    Args:
        name: Name of the data set, one of ``iccld.data.layouts.DATASET_NAMES`` except ``street_scenes``.
        root: Folder of the data set.
        split: Name of the split.
        label_space: Label space (set of classes) of the pixel counts. ``None`` means the data set's own label space.
        limit: Maximum number of label maps to read. The label maps are selected evenly over the split. With ``None``,
            all label maps are read.
        images_only: Whether only images are checked and label maps are skipped, as for an unlabeled target data set.
        description: Description of the data set, for a folder without ``dataset.toml``. With ``None``, the
            description is determined from ``name`` and ``root``.
        shard: Part of the images to check. Label files without an image are reported in the first part.

    Returns:
        The report. If ``errors`` in the report is empty, the data set can be used for training.
    """
    if name == "street_scenes":
        raise InputError("street_scenes are generated and have no files to check; see 'iccld data scenes'")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give the number of label maps to read, 1 or more")
    descriptions = describe(name, root) if description is None else [description]
    layout = list_split(descriptions, split, False)
    if shard != WHOLE:
        part = tuple(pair for pair in layout.pairs if shard.takes(pair.name))
        layout = replace(layout, pairs=part, stray_labels=layout.stray_labels if shard.index == 0 else ())
    space = label_space or native_space(layout)
    report = CheckReport(layout.name, str(root), split, space.name, layout, len(layout.pairs))
    sizes = _check_images(report)
    for other in descriptions[0].globs:
        _check_overlap(other, descriptions, report)
    labeled = [pair for pair in layout.pairs if pair.label is not None]
    if images_only or (layout.role == "target" and not labeled):
        return report
    _check_pairing(descriptions, report)
    report.num_labels = len(labeled)
    if limit is not None and limit < len(labeled):
        labeled = [labeled[i * len(labeled) // limit] for i in range(limit)]
    if labeled:
        maps, soft = _read_labels(labeled, sizes, report)
        _count_classes(space, maps, soft, report)
    return report


def _check_images(report: CheckReport) -> dict[str, tuple[int, int]]:
    """Returns image name → (height, width) in pixels. The report gets findings about pictures that cannot be read."""
    sizes: dict[str, tuple[int, int]] = {}
    broken: dict[str, str] = {}
    pairs = report.layout.pairs
    for pair in track(pairs, len(pairs), "checking images"):
        try:
            check_ending(pair.image)
            sizes[pair.name] = image_size(pair.image)
        except InputError as error:
            broken[str(pair.image)] = str(error)
    report.note_broken("unreadable_images", "images", broken)
    report.sizes = dict(Counter(f"{width}×{height}" for height, width in sizes.values()))
    parents = {file.parent for pair in pairs for file in (pair.image, pair.label) if file}
    folders = [parent for parent in sorted(parents) if parent.is_dir()]  # a tar archive is none
    beside = (path for folder in folders for path in sorted(folder.iterdir()))
    others = [str(path) for path in beside if is_other_picture(path.name)]
    report.note("other_formats", others, "pictures are in formats that are not read", "save them as PNG")
    return sizes


def _check_overlap(other: str, descriptions: Sequence[Description], report: CheckReport) -> None:
    """Adds a warning about images of the checked split that are also in the split ``other``."""
    if match_split(report.split, [other]) is not None:
        return
    try:
        pairs = list_split(descriptions, other, False).pairs
    except InputError:
        return  # the error is reported when the split ``other`` itself is checked
    images = [[(pair.name, pair.image) for pair in some] for some in (report.layout.pairs, pairs)]
    lines = [name if name == twin else f"{name} is {twin}" for name, twin in shared_files(*images)]
    report.note(f"also_in_{other}", lines, f"of {report.num_images} images are in split {other} too")


def _check_pairing(descriptions: Sequence[Description], report: CheckReport) -> None:
    bare = [str(pair.image) for pair in report.layout.pairs if pair.label is None]
    if not report.layout.has_labels:
        try:
            list_split(descriptions, report.split, True)
        except InputError as error:  # the message names the faulty folder or key of dataset.toml
            report.files["images_without_label"] = bare
            report.errors.append(f"there are no labels: {error} (or check it as a target with --images-only)")
            return
    what, remedy = f"of {report.num_images} images have no label", "add the label maps or remove the images"
    report.note("images_without_label", bare, what, remedy, is_error=True)
    stray = [str(path) for path in report.layout.stray_labels]
    report.note("labels_without_image", stray, "label files belong to no image")


def _read_labels(
    pairs: list[FilePair], sizes: Mapping[str, tuple[int, int]], report: CheckReport
) -> tuple[_Maps, dict[str, str]]:
    """Reads label maps and counts the pixels of each raw id.

    Returns the counts, and path → reason for each label map that seems to be compressed or interpolated.
    """
    layout = report.layout
    maps: _Maps = []
    soft: dict[str, str] = {}
    broken: dict[str, str] = {}
    unlike: list[str] = []
    # If a layout has many ids, they come from ranges in dataset.toml. Such ranges accept interpolated values on
    # purpose, so soft edges are not judged.
    can_judge = len(layout.ids) <= _MANY_IDS and layout.colors is None
    every = max(1, len(pairs) // _FEW_JUDGED)
    for number, pair in enumerate(track(pairs, len(pairs), "reading label maps")):
        path = str(pair.label)
        try:
            raw = read_label(path, layout.colors)
        except InputError as error:
            broken[path] = str(error)
            continue
        size = sizes.get(pair.name, raw.shape)
        if size != raw.shape:
            unlike.append(f"{path} ({raw.shape[1]}×{raw.shape[0]}, image {size[1]}×{size[0]})")
        counts = np.bincount(raw.ravel())
        maps.append((pair, {i: int(counts[i]) for i in np.flatnonzero(counts).tolist()}))
        is_strange = len(soft) < _FEW_SOFT and not layout.ids.keys() >= maps[-1][1].keys()
        if can_judge and (number % every == 0 or is_strange):
            report.num_judged += 1
            softness = judge(raw)
            soft |= {path: softness.text} if softness is not None else {}
    report.num_read = len(maps)
    report.note_broken("unreadable_labels", "label maps", broken)
    remedy = f"known of {layout.name}, they are resized" if layout.resize_labels else "replace or remove them"
    what = "label maps differ in size from their image"
    report.note("sizes_disagree", unlike, what, remedy, is_error=not layout.resize_labels)
    return maps, soft


def _count_classes(space: LabelSpace, maps: _Maps, soft: Mapping[str, str], report: CheckReport) -> None:
    """Fills ``report.classes``, and adds errors and warnings about the ids in the label maps."""
    layout = report.layout
    table = remap_table(layout.ids, layout.space, space)
    pixels: Counter[int] = Counter()  # label → number of pixels
    images: Counter[int] = Counter()
    ids: Counter[int] = Counter()  # raw id → number of pixels
    paths: defaultdict[int, list[str]] = defaultdict(list)
    blank: list[str] = []
    for pair, counts in maps:
        labels: Counter[int] = Counter()  # several ids may belong to one class
        for raw, count in counts.items():
            labels[int(table[raw])] += count
            paths[raw].append(str(pair.label))
        pixels.update(labels)
        images.update(labels.keys())
        ids.update(counts)
        blank += [str(pair.label)] if labels.keys() == {IGNORE} else []
        report.shown[pair.name] = {label: count for label, count in labels.items() if label < len(space)}
    report.classes = [ClassShare(name, pixels[i], images[i]) for i, name in enumerate(space.names)]
    report.ignored_pixels = pixels[IGNORE]
    if not ids:
        return
    unknown = [
        f"id {i} ({ids[i]} pixels in {len(paths[i])} label maps, first {paths[i][0]})"
        for i in sorted(ids)
        if table[i] == UNMAPPED
    ]
    if ids.keys() == {0, 255} and table[255] in (IGNORE, UNMAPPED) and len(layout.space) > 1:
        report.errors.append(_BINARY_MASK_TRAP)
    elif unknown:
        hint = layout.mend_ids
        if soft:
            report.files["soft_labels"] = list(soft)
            hint = f"{': '.join(next(iter(soft.items())))}; {REMEDY}"
        elif layout.ids == TRAIN_IDS and ids.keys() <= {*CITYSCAPES_ID_TO_TRAIN_ID, IGNORE}:
            hint = f"these look like Cityscapes labelIds, but trainIds are expected: {hint}"
        report.errors.append(f"no class for {report.name_files('unknown_ids', unknown)}; {hint}")
    else:
        what = f"of {report.num_judged} label maps that were judged are not as they were drawn"
        report.note("soft_labels", list(soft), what, f"{next(iter(soft.values()), '')}; {REMEDY}")
    if len(blank) < len(maps):
        report.note("labels_all_ignored", blank, "label maps are ignored as a whole")
    else:
        report.files["labels_all_ignored"] = blank
        held = ", ".join(map(str, sorted(ids)[:5]))
        report.errors.append(
            f"all pixels of all label maps are ignored (they hold {held}), so nothing can be learned from them; "
            "use a split that has labels"
        )
    never = [c.name for c in report.classes if not c.pixels]
    if never and len(never) < len(space):
        seen = "" if report.num_read == report.num_labels else " in the label maps that were read"
        report.warnings.append(f"never seen{seen}: {', '.join(never)}")
