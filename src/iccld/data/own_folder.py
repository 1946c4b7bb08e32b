"""A user's own data set: a folder described by a ``dataset.toml``, or plain folders of images and labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from iccld.data.annotations import find_annotations
from iccld.data.description import DESCRIPTION, Description, read_description
from iccld.data.folders import require_below
from iccld.data.globs import data_key, fixed_folders
from iccld.data.layouts import FilePair, Layout, list_images, pair_folders, read_list
from iccld.data.plain_folder import LABEL_WORDS, find_splits, require_split
from iccld.errors import InputError
from iccld.escaping import shortened

_MEND_IDS = "write a dataset.toml with classes and [ids] ('iccld data init' begins one)"
_Matches = dict[tuple[str, ...], tuple[str, Path]]
"""What ``match_glob`` found."""


def own_folder(root: Path, split: str, needs_labels: bool) -> Layout:
    """Lists the files of a user's own folder.

    With a ``dataset.toml`` in it, that says what is what (docs/data.md is its reference). Without one, the
    folder holds ``<split>/images``, ``images`` or simply images (``find_splits``), and label maps, if there are,
    lie in ``labels`` beside ``images``, have the same names and hold Cityscapes trainIds.

    Raises:
        InputError: the folder, the split, an image or a label is missing, or the description is wrong.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the images")
    if (root / DESCRIPTION).is_file():
        return described_folder(read_description(root / DESCRIPTION), split, needs_labels)
    return _plain(root, split, needs_labels)


def own_splits(root: Path) -> tuple[str, ...]:
    """Lists the splits of a user's own folder by name: those of its ``dataset.toml``, else those of its folders.

    Raises:
        InputError: there is no such folder, or the description is wrong.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the images")
    if (root / DESCRIPTION).is_file():
        return tuple(read_description(root / DESCRIPTION).globs)
    return tuple(find_splits(root))


def described_folder(description: Description, split: str, needs_labels: bool) -> Layout:
    """Lists the files of a split of a folder that is described.

    Raises:
        InputError: the split, an image or a label is missing, or a glob does not fit.
    """
    path, root = description.path, description.path.parent
    split = require_split(path, split, description.globs)
    image_glob, label_glob = description.globs[split]
    images = match_glob(root, image_glob)
    if not images:
        raise InputError(f"{path}: images = {image_glob!r} matches no image; {_mend_glob(root)}")
    every_image = images
    if split in description.lists:
        images = _listed(description, split, images)
    labels: dict[tuple[str, ...], tuple[str, Path]] = {}
    if label_glob is not None:
        labels = match_glob(root, label_glob)
    if label_glob is None and (needs_labels or description.role == "source"):
        why = "is a source, which needs labels, but " if description.role == "source" else ""
        advice = _annotations(root, 'add labels = "glob" to it')
        raise InputError(f"{path}: {why}has no labels for split {split!r}; {advice}")
    if needs_labels and not labels:
        raise InputError(f"{path}: labels = {label_glob!r} matches no file; {_mend_glob(root)}")
    if labels and len(next(iter(images))) != len(next(iter(labels))):
        raise InputError(
            f"{path}: the wildcards of images = {image_glob!r} and labels = {label_glob!r} pair the files, "
            "so give both the same number of them"
        )
    pairs = (FilePair(name, file, labels.get(key, ("", None))[1]) for key, (name, file) in images.items())
    return Layout(
        description.name,
        root,
        tuple(sorted(pairs, key=lambda pair: pair.name)),
        tuple(file for key, (_, file) in labels.items() if key not in every_image),
        description.space,
        description.ids,
        description.colors,
        resize_labels=description.resize_labels,
        mend_ids=f"list it under [ids] or in ignore in {path.name}",
        role=description.role,
    )


def _mend_glob(root: Path) -> str:
    """What to do about a glob that matches nothing, with an example of what there is; letters' case counts."""
    files = list_images(root)
    if not files:
        return "there are no images below the file; mend the glob"
    return f"mend the glob (there is, for example, {files[0].relative_to(root).as_posix()}; upper and lower case count)"


def _listed(description: Description, split: str, images: _Matches) -> _Matches:
    """Keeps the images that the split's list names."""
    file = description.path.parent / description.lists[split]
    if not file.is_file():
        raise InputError(f"{description.path}: list = {description.lists[split]!r} is no file; mend the path")
    require_below(file, description.path.parent)
    by_name = {name: key for key, (name, _) in images.items()}
    by_name |= {str(Path(name).with_suffix("")): key for name, key in by_name.items()}
    wanted = read_list(file)
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        fault = (
            f"{shortened(missing[0])} is no image of {description.globs[split][0]!r}"
            if missing
            else "it is empty"
        )
        raise InputError(f"{file}: {fault}; list image names, with or without ending, one a line")
    return {by_name[name]: images[by_name[name]] for name in wanted}


def _plain(root: Path, split: str, needs_labels: bool) -> Layout:
    splits = find_splits(root)
    place = splits[require_split(root, split, splits)]
    if place.labels is not None or (needs_labels and place.images.name == "images"):
        labels = place.labels or place.images.parent / "labels"
        found = find_annotations(root) if needs_labels and not list_images(labels, root) else None
        if found is not None:
            raise InputError(f"{labels}: holds no label map; {found.text}")
        layout = pair_folders("folder", place.images.parent, place.images, labels, needs_labels, root)
        return replace(layout, mend_ids=_MEND_IDS)
    if needs_labels:
        raise InputError(
            f"{place.images}: labels are needed, but there is neither images/ and labels/ nor a {DESCRIPTION}; "
            + _annotations(root, "add one of them ('iccld data init' looks at the folder and writes it)")
        )
    layout = pair_folders("folder", place.images, place.images, place.images / "labels", needs_labels, root)
    deep = [
        pair.image for pair in layout.pairs if LABEL_WORDS.intersection(pair.name.lower().split("/")[:-1])
    ]
    if deep:
        raise InputError(
            f"{deep[0]}: seems to be a label map among the images; name the folder of the images, or let "
            f"'iccld data init {root}' write a {DESCRIPTION}"
        )
    return layout


def _annotations(root: Path, otherwise: str) -> str:
    """What to do about labels that are missing: convert the annotations that there are, else ``otherwise``."""
    found = find_annotations(root)
    return otherwise if found is None else found.text


def match_glob(root: Path, pattern: str) -> dict[tuple[str, ...], tuple[str, Path]]:
    """Finds the image files that match a glob.

    ``*`` stands for any part of a name, ``?`` for one character, ``**/`` for any folders,
    ``{a,b}`` for a or b.

    Returns:
        What the wildcards stood for (the key by which images and labels are paired) → (path relative to the
        part of the pattern before the first wildcard, file).

    Raises:
        InputError: the pattern or a link leads out of ``root``, or two files have one key.
    """
    folders, rest = fixed_folders(pattern, "*?{")
    base = Path(root, "/" if pattern.startswith("/") else "", *folders)
    found: dict[tuple[str, ...], tuple[str, Path]] = {}
    for path in list_images(base, root):
        name = path.relative_to(base).as_posix()
        key = data_key(rest, name)
        if key is None:
            continue
        if key in found:
            raise InputError(
                f"{path}: pairs by the same name as {found[key][1]}; make the glob {pattern!r} tell"
            )
        found[key] = (name, path)
    return found
