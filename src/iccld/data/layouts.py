"""Lists the files of a built-in data set or of a user's own folder as pairs of image and label map."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from iccld.data.annotations import find_annotations
from iccld.data.description import DESCRIPTION, Description, parse_description, read_description
from iccld.data.folders import files_below, fixed_folders, require_below
from iccld.data.image_files import is_image_name
from iccld.data.manifest import file_hash, read_manifest
from iccld.data.matching import list_images, match_glob
from iccld.data.picture_header import is_other_picture
from iccld.documents import read_toml
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import read_bounded
from iccld.labels import CITYSCAPES19, IGNORE, get_label_space, suggest

_MOST_OF_LIST = 256 << 20  # largest size in bytes of a text file with image names
_PUBLISHED = "use the label files as they were published"
_OWN = "write a dataset.toml with classes and [ids] ('iccld data init' begins one)"

TRAIN_IDS: Mapping[int, int] = {**{i: i for i in range(len(CITYSCAPES19))}, IGNORE: IGNORE}
"""Id table (raw id → label) of label maps that hold Cityscapes trainIds."""


@dataclass(frozen=True)
class FilePair:
    """An image and its label map (``None`` if missing). ``name`` is the image's path relative to the image folder."""

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Layout(Description):
    """A data set's description and the files of one split.

    Attributes:
        pairs: Images and label maps.
        stray_labels: Label files without an image.
        digest: Hash of the manifest that lists the images, or ``None`` if the images were found in a folder.
    """

    pairs: tuple[FilePair, ...] = ()
    stray_labels: tuple[Path, ...] = ()
    digest: str | None = None

    @property
    def has_labels(self) -> bool:
        """Whether there are label files, with or without an image."""
        return bool(self.stray_labels) or any(pair.label for pair in self.pairs)


@lru_cache(maxsize=1)
def tables() -> Mapping[str, Any]:
    """Returns the contents of ``layouts.toml``, the table of known public data sets."""
    return read_toml(Path(__file__).with_name("layouts.toml"))


SPLIT_WORDS = {word: split for split, words in tables()["words"]["splits"].items() for word in words}
"""Usual name of a split folder (in lower case) → name of the split. For example, ``validation`` → ``val``."""
IMAGE_WORDS = frozenset(tables()["words"]["images"])
"""Usual words in the names of image folders, in lower case."""
LABEL_WORDS = frozenset(tables()["words"]["labels"])
"""Usual words in the names of label folders, in lower case."""
DATASET_NAMES = (*tables()["builtin"], "folder", "street_scenes")
"""Names that ``iccld.data.datasets.open_dataset`` accepts."""


def meaning_keys(name: str) -> dict[str, Any]:
    """Returns a label encoding in ``[meanings]`` of ``layouts.toml``, in the form of keys of a ``dataset.toml``."""
    return {key: item for key, item in tables()["meanings"][name].items() if key not in ("text", "checks")}


def built_in(name: str, root: Path) -> list[Description]:
    """Returns the descriptions of a built-in data set, one for each label encoding that the data set can have."""
    if name not in tables()["builtin"]:
        raise InputError(f"unknown data set {name!r}; {suggest(name, DATASET_NAMES)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds {name}")
    entry = tables()["builtin"][name]
    images, splits = entry["images"], ["train"]
    if "{split}" in images:
        top, folder = root / images.partition("{split}")[0], "/".join(fixed_folders(images, "*")[0])
        names = [path.name for path in _folders(top)] if top.is_dir() else []
        splits = [split for split in names if (root / folder.replace("{split}", split)).is_dir()]
    if not splits:
        there = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
        listing = (", ".join(there[:5]) or "nothing") + ", …" * (len(there) > 5)
        problem = f"{name} has its images in {images}, but there is only {listing}"
        raise InputError(f"{root}: {problem}; docs/data.md shows the tree")
    native = get_label_space(entry["native"]) if "native" in entry else None
    found = []
    for labels, meaning in entry["labels"]:
        globs = {"images": images, "labels": labels}
        of_split = {s: {key: glob.replace("{split}", s) for key, glob in globs.items()} for s in splits}
        keys = {"name": name, "splits": of_split, "resize_labels": entry.get("resize_labels", False)}
        description = parse_description(root, meaning_keys(meaning) | keys)
        found.append(replace(description, mend_ids=_PUBLISHED, is_file=False, native=native))
    return found


def own_description(root: Path) -> Description:
    """Returns the description of a user's own folder.

    If the folder has a ``dataset.toml`` (see docs/data.md), this file is read. Otherwise, the splits are found by the
    names of folders: ``<split>/images``, ``images/<split>``, or ``<split>`` with images and without labels. If there
    are no such folders, all images are in the split ``train``. Label maps lie in ``labels`` beside ``images``, have
    the names of the images and contain Cityscapes trainIds.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the images")
    if (root / DESCRIPTION).is_file():
        return read_description(root / DESCRIPTION)

    def place(images: Path, labels: Path | None = None) -> dict[str, str]:
        folders = {"images": images} | ({"labels": labels} if labels else {})
        return {key: (folder / "**/*.*").relative_to(root).as_posix() for key, folder in folders.items()}

    splits: dict[str, dict[str, str]] = {}
    for folder in _folders(root):
        word = folder.name.lower()
        images, labels = _roles(folder)
        if images is not None and word not in LABEL_WORDS:
            splits[folder.name] = place(images, labels)
        elif word in SPLIT_WORDS and labels is None and list_images(folder, root):
            splits[folder.name] = place(folder)
    images, labels = _roles(root)
    if images is not None:
        inner = _folders(images)
        has_files = any(is_image_name(path.name) and path.is_file() for path in images.iterdir())
        if inner and not has_files and all(folder.name.lower() in SPLIT_WORDS for folder in inner):
            for folder in inner:
                beside = labels / folder.name if labels else None
                splits[folder.name] = place(folder, beside if beside and beside.is_dir() else None)
        else:
            splits.setdefault("train", place(images, labels))
    value = {"name": "folder", "classes": CITYSCAPES19.name, "splits": splits or {"train": place(root)}}
    return replace(parse_description(root, value), mend_ids=_OWN, is_file=False)


def _roles(folder: Path) -> tuple[Path | None, Path | None]:
    """Returns the image folder and the label folder in ``folder``. A missing or ambiguous folder is ``None``."""
    inner = {path.name.lower(): path for path in _folders(folder)}

    def only(usual: str, words: frozenset[str]) -> Path | None:
        named = [inner[usual]] if usual in inner else [inner[word] for word in inner if word in words]
        return named[0] if len(named) == 1 else None

    images, labels = only("images", IMAGE_WORDS), only("labels", LABEL_WORDS)
    # Without a label folder, an image folder is used only if it is named "images" or if its parent has the name of a
    # split. Other names, such as "camera", are too uncertain, because a folder "lidar" beside it can hold images too.
    if labels is None and "images" not in inner and folder.name.lower() not in SPLIT_WORDS:
        return None, None
    return images, labels


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def list_split(descriptions: Sequence[Description], split: str, needs_labels: bool) -> Layout:
    """Lists the images and label maps of a split.

    Args:
        descriptions: Descriptions of one data set, one for each label encoding that the data set can have (Cityscapes:
            labelIds and trainIds). The first description for which label maps exist is used.
        split: Name of the split. A data set without splits accepts ``train`` or a text file of image names.
        needs_labels: Whether ``InputError`` is raised if there are no label maps.
    """
    description = descriptions[0]
    is_list = split.endswith(".txt") and list(description.globs) == ["train"]
    wanted = "train" if is_list else split
    layout = described_folder(description, wanted, False)
    for other in descriptions[1:]:
        layout = layout if layout.has_labels else described_folder(other, wanted, False)
    if needs_labels and not layout.has_labels:
        described_folder(description, wanted, True)  # raises the error about the missing labels
    for pair in () if description.is_file or layout.has_labels else layout.pairs:
        if LABEL_WORDS.intersection(pair.name.lower().split("/")[:-1]):
            raise InputError(
                f"{pair.image}: seems to be a label map among the images; name the folder of the images, or let "
                f"'iccld data init {description.root}' write a {DESCRIPTION}"
            )
    if not is_list:
        return layout
    list_file = Path(split) if Path(split).is_file() else description.root / split
    return replace(layout, pairs=_listed(layout.pairs, list_file, str(description.root)), stray_labels=())


def described_folder(description: Description, split: str, needs_labels: bool) -> Layout:
    """Lists the files of a described split. Raises ``InputError`` if images or needed label maps are missing."""
    path, root = description.path, description.root
    found = match_split(split, description.globs)
    if found is None:
        raise InputError(f"{path}: has no split {split!r}; {suggest(split, sorted(description.globs))}")
    image_glob, label_glob = description.globs[found]
    images = match_glob(root, image_glob)
    if not images:
        raise InputError(f"{path}: images = {image_glob!r} matches no image; {_example(root)}")
    labels = {} if label_glob is None else match_glob(root, label_glob)
    if (needs_labels and not labels) or (label_glob is None and description.role == "source"):
        raise InputError(f"{path}: {_no_labels(description, found)}")
    if labels and len(next(iter(images))) != len(next(iter(labels))):
        raise InputError(
            f"{path}: the wildcards of images = {image_glob!r} and labels = {label_glob!r} pair the files, "
            "so give both the same number of them"
        )
    pairs = [FilePair(name, file, labels.get(key, ("", None))[1]) for key, (name, file) in images.items()]
    if found in description.lists:
        list_file = root / description.lists[found]
        require_below(list_file, root)
        pairs = list(dict.fromkeys(_listed(pairs, list_file, repr(image_glob))))
    stray = tuple(file for key, (_, file) in labels.items() if key not in images)
    pairs.sort(key=lambda pair: pair.name)
    return Layout(**vars(description), pairs=tuple(pairs), stray_labels=stray)


def manifest_layout(path: Path, split: str, needs_labels: bool) -> Layout:
    """Returns the unlabeled images of a manifest (``iccld data manifest``), in its order.

    The only split is ``train``. Raises ``InputError`` for another split, or if labels are needed.
    """
    if split != "train":
        raise InputError(f"{path}: has no split {split!r}; a manifest has the split train only")
    if needs_labels:
        raise InputError(f"{path}: lists images without labels; name the folder of a data set with labels")
    value = {"name": "folder", "classes": CITYSCAPES19.name, "splits": {"train": {"images": "*"}}}
    pairs = tuple(FilePair(name, Path(place), None) for place, name, _ in read_manifest(path))
    if not pairs:
        raise InputError(f"{path}: lists no image; write it again")
    return Layout(**vars(parse_description(path, value)), pairs=pairs, digest=file_hash(path))


def _no_labels(description: Description, split: str) -> str:
    """Returns an error message with advice, for a split without labels."""
    glob, found = description.globs[split][1], find_annotations(description.root)
    if glob is not None:
        fault, advice = f"labels = {glob!r} matches no file", _example(description.root)
    elif description.is_file:
        why = "is a source, which needs labels, but " if description.role == "source" else ""
        fault, advice = f"{why}has no labels for split {split!r}", 'add labels = "glob" to it'
    else:
        fault = "labels are needed, but there is neither images/ and labels/ nor a dataset.toml"
        advice = "add one of them ('iccld data init' looks at the folder and writes it)"
    return f"{fault}; {advice if found is None else found.text}"


def _example(root: Path) -> str:
    """Returns a clause for the message about a glob without matches. The clause names an image if there is one."""
    files, others = list_images(root), sorted(files_below(root, is_other_picture))
    if files:
        return f"there is, for example, {files[0].relative_to(root).as_posix()}; upper and lower case count"
    more = f" but {len(others)} in formats that are not read, such as {others[0].name}" if others else ""
    return f"there is no image in the folder{more}"


def _listed(pairs: Iterable[FilePair], list_file: Path, source: str) -> tuple[FilePair, ...]:
    """Returns the pairs that a text file lists, in the order of the list. ``source`` names ``pairs`` in messages."""
    by_name = {pair.name: pair for pair in pairs}
    by_name |= {str(Path(name).with_suffix("")): pair for name, pair in by_name.items()}
    try:
        lines = read_bounded(list_file, _MOST_OF_LIST).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{list_file}: is no UTF-8 text; save the list of images as UTF-8") from error
    wanted = [line.strip() for line in lines if line.strip()]
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        fault = f"{shortened(missing[0])} is no image of {source}" if missing else "the list is empty"
        raise InputError(f"{list_file}: {fault}; list image names, with or without ending, one a line")
    return tuple(by_name[name] for name in wanted)


def match_split(wanted: str, names: Collection[str]) -> str | None:
    """Returns the name in ``names`` that equals ``wanted`` or is a synonym of ``wanted``.

    For example, ``validation`` is a synonym of ``val``. If ``names`` has only one entry, ``all`` matches this entry.
    Returns ``None`` if no name matches.
    """
    if wanted in names:
        return wanted
    if wanted == "all" and len(names) == 1:
        return next(iter(names))
    meant = SPLIT_WORDS.get(wanted.lower())
    return next((name for name in names if meant and SPLIT_WORDS.get(name.lower()) == meant), None)
