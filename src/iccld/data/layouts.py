"""Which files make a data set: one function a folder layout, each listing pairs of image and label files."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from iccld.data.folders import files_below
from iccld.data.image_files import Color, is_image_name
from iccld.data.picture_formats import is_other_picture
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import read_bounded
from iccld.labels import (
    CAMVID11,
    CITYSCAPES19,
    CITYSCAPES_ID_TO_TRAIN_ID,
    IGNORE,
    SYNTHIA_ID_TO_TRAIN_ID,
    LabelSpace,
    suggest,
)

_MOST_OF_LIST = 256 << 20  # bytes of a list of images

TRAIN_IDS: Mapping[int, int] = {**{i: i for i in range(len(CITYSCAPES19))}, IGNORE: IGNORE}
"""The id table of label maps that hold Cityscapes trainIds already."""


@dataclass(frozen=True)
class FilePair:
    """An image and its label map.

    Attributes:
        name: the image's path relative to the folder of images, with ``/``.
        image: the image file.
        label: the label file, None if there is none.
    """

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Layout:
    """What was found on disk, and what the numbers in the label files mean.

    Attributes:
        name: the data set's name.
        root: its folder.
        pairs: all images, sorted by name.
        stray_labels: label files that belong to no image.
        space: the label space that ``ids`` leads to.
        ids: raw id of the files → label of ``space`` or 255. Other ids are an error.
        colors: RGB color → raw id, for color-coded label maps.
        resize_labels: whether a label map of another size than its image is scaled (a known fault of the data
            set) instead of refused.
        mend_ids: what a user does about an id that is not in ``ids``.
        role: what the user says the data set is for, ``source`` or ``target``; a target needs no labels.
        native: the label space that labels are folded into unless another is asked for; None for ``space``.
    """

    name: str
    root: Path
    pairs: tuple[FilePair, ...]
    stray_labels: tuple[Path, ...] = ()
    space: LabelSpace = CITYSCAPES19
    ids: Mapping[int, int] = field(default_factory=lambda: TRAIN_IDS)
    colors: Mapping[Color, int] | None = None
    resize_labels: bool = False
    mend_ids: str = "use the label files as they were published"
    role: str | None = None
    native: LabelSpace | None = None


def gta5(root: Path, split: str, needs_labels: bool) -> Layout:
    """GTA5: ``images/*.png`` and ``labels/*.png`` of the same names, palette files with Cityscapes ids."""
    layout = pair_folders("gta5", root, root / "images", root / "labels", needs_labels)
    layout = replace(layout, ids=CITYSCAPES_ID_TO_TRAIN_ID, resize_labels=True)
    return _select(layout, split)


def synthia(root: Path, split: str, needs_labels: bool) -> Layout:
    """SYNTHIA-RAND-CITYSCAPES: ``RGB/*.png`` and 16-bit ``GT/LABELS/*.png`` with SYNTHIA's own ids."""
    layout = pair_folders("synthia", root, root / "RGB", root / "GT" / "LABELS", needs_labels)
    return _select(replace(layout, ids=SYNTHIA_ID_TO_TRAIN_ID), split)


def camvid(root: Path, split: str, needs_labels: bool) -> Layout:
    """CamVid, split as SegNet did: ``<split>/images`` and ``<split>/labels`` with trainIds."""
    folder = split_folder("camvid", root, split)
    layout = pair_folders("camvid", folder, folder / "images", folder / "labels", needs_labels, below=root)
    return replace(layout, native=CAMVID11)


def cityscapes(root: Path, split: str, needs_labels: bool) -> Layout:
    """Cityscapes: ``leftImg8bit/<split>/<city>`` and ``gtFine/<split>/<city>``.

    Labels are the ``*_labelIds.png`` files; where a data set has none at all, ``*_labelTrainIds.png``.
    """
    images_folder = split_folder("cityscapes", need_folder("cityscapes", root, "leftImg8bit"), split)
    labels_folder = root / "gtFine" / split
    images = _by_key(list_images(images_folder, root), images_folder, "_leftImg8bit")
    if not images:
        raise InputError(f"{images_folder}: holds no *_leftImg8bit.png; unpack the images here again")
    if not labels_folder.is_dir():
        if needs_labels:
            raise InputError(
                f"{labels_folder}: no such folder; unpack the labels (gtFine) beside leftImg8bit"
            )
        return _paired("cityscapes", root, images_folder, images, {})
    label_files = list_images(labels_folder, root)
    labels = _by_key(label_files, labels_folder, "_gtFine_labelIds")
    ids = CITYSCAPES_ID_TO_TRAIN_ID
    if not labels:
        labels = _by_key(label_files, labels_folder, "_gtFine_labelTrainIds")
        ids = TRAIN_IDS
    if not labels and needs_labels:
        raise InputError(f"{labels_folder}: holds no *_gtFine_labelIds.png; unpack the labels here again")
    return replace(_paired("cityscapes", root, images_folder, images, labels), ids=ids)


LAYOUTS: Mapping[str, Callable[[Path, str, bool], Layout]] = {
    "gta5": gta5,
    "synthia": synthia,
    "cityscapes": cityscapes,
    "camvid": camvid,
}


def read_list(path: Path) -> list[str]:
    """Reads a text file that names images, one a line; empty lines are left out.

    Raises:
        InputError: it cannot be read or is no UTF-8 text.
    """
    try:
        lines = read_bounded(path, _MOST_OF_LIST).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text; save the list of images as UTF-8") from error
    return [line.strip() for line in lines if line.strip()]


def list_images(folder: Path, below: Path | None = None) -> list[Path]:
    """Lists the image files under a folder, deeply, sorted, hidden ones left out.

    Raises:
        InputError: links lead out of ``below`` (by default the folder itself), or there are too many files.
    """
    return sorted(files_below(folder, is_image_name, below))


def pair_folders(
    name: str, root: Path, images: Path, labels: Path, needs_labels: bool, below: Path | None = None
) -> Layout:
    """Pairs the files of two folders by their relative path without its ending.

    Links must not lead out of ``below``, by default ``root``.

    Raises:
        InputError: a folder is missing or holds no image, or two files share a name.
    """
    if images != root:
        need_folder(name, root, str(images.relative_to(root)))
    image_files = _by_key(list_images(images, below or root), images)
    if not image_files:
        raise InputError(
            f"{images}: holds no image{_others(images)}; put the images there (png, jpg, webp, bmp or tif)"
        )
    label_files: dict[str, Path] = {}
    if labels.is_dir():
        label_files = _by_key(list_images(labels, below or root), labels)
    if needs_labels and not label_files:
        fault = f"holds no label map{_others(labels)}" if labels.is_dir() else "no such folder"
        raise InputError(f"{labels}: {fault}; put one label map (png) there for each image")
    return _paired(name, root, images, image_files, label_files)


def other_pictures(folder: Path) -> list[Path]:
    """Lists the pictures below a folder that are in formats that are not read."""
    return sorted(files_below(folder, is_other_picture))


def _others(folder: Path) -> str:
    others = other_pictures(folder)
    return f" but {len(others)} in formats that are not read, such as {others[0].name}" if others else ""


def need_folder(name: str, root: Path, inner: str) -> Path:
    """Returns ``root/inner``.

    Raises:
        InputError: it is no folder; the message lists what is there instead.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds {name}")
    folder = root / inner
    if not folder.is_dir():
        raise InputError(
            f"{root}: {name} needs the folder {inner}/ in here, but there is only {_listing(root)}; "
            "docs/data.md shows the tree"
        )
    return folder


def folders_of_splits(root: Path, name: str) -> tuple[str, ...]:
    """Lists the folders in a folder, hidden ones left out, as the splits of a data set, sorted.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds {name}")
    return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))


def split_folder(name: str, root: Path, split: str) -> Path:
    """Returns the folder of a split.

    Raises:
        InputError: there is no such folder; the message names those that are there.
    """
    there = folders_of_splits(root, name)
    if split not in there:
        hint = suggest(split, there) if there else "there is no folder at all in it"
        if {"images", "labels"} <= {*there}:
            hint = "its images/ and labels/ belong to no split, so it is a data set of the kind 'folder'"
        raise InputError(f"{root}: {name} has no split {split!r} here; {hint}")
    return root / split


def _listing(folder: Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if not p.name.startswith("."))
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _by_key(files: Iterable[Path], folder: Path, ending: str = "") -> dict[str, Path]:
    """Keys files by relative path without suffix and ``ending``; files without ``ending`` are left out."""
    keyed: dict[str, Path] = {}
    for path in files:
        # Two systems may write one accent in two ways.
        stem = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if not stem.endswith(ending):
            continue
        key = stem.removesuffix(ending)
        if key in keyed:
            raise InputError(
                f"{path}: has the same name as {keyed[key].name} beside it; remove one of them, or, if one is the "
                "label map of the other, let 'iccld data init' write a dataset.toml"
            )
        keyed[key] = path
    return keyed


def _paired(
    name: str, root: Path, images_folder: Path, images: Mapping[str, Path], labels: Mapping[str, Path]
) -> Layout:
    pairs = tuple(
        FilePair(path.relative_to(images_folder).as_posix(), path, labels.get(key))
        for key, path in images.items()
    )
    stray = tuple(path for key, path in labels.items() if key not in images)
    return Layout(name, root, pairs, stray)


def _select(layout: Layout, split: str) -> Layout:
    """Keeps all pairs, or those that a text file names (one image name a line, with or without ending)."""
    if split in ("train", "all"):
        return layout
    if not split.endswith(".txt"):
        raise InputError(
            f"{layout.name} has no split {split!r}; use 'train' for all of it, or name a .txt file that "
            "lists image names"
        )
    list_file = Path(split) if Path(split).is_file() else layout.root / split
    if not list_file.is_file():
        raise InputError(f"{split}: no such file, neither here nor in {layout.root}; name the list of images")
    by_name = {pair.name: pair for pair in layout.pairs}
    by_name.update({str(Path(pair.name).with_suffix("")): pair for pair in layout.pairs})
    wanted = read_list(list_file)
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        fault = f"{shortened(missing[0])} is no image of {layout.root}" if missing else "the list is empty"
        raise InputError(f"{list_file}: {fault}; list image names relative to the image folder, one a line")
    return replace(layout, pairs=tuple(by_name[name] for name in wanted), stray_labels=())
