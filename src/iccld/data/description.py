"""Reads ``dataset.toml``, in which a user lists the files of a data set and the classes with their ids or colors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from iccld.data.folders import data_glob
from iccld.data.image_files import Color
from iccld.documents import Range, build, read_toml
from iccld.errors import InputError
from iccld.escaping import shortened, visible
from iccld.labels import CITYSCAPES19, IGNORE, LabelSpace, get_label_space, suggest

DESCRIPTION = "dataset.toml"
_WIDTH = 100  # longer lists are written with one line per item
_ROLES = ("source", "target")
_Channel = Annotated[int, Range(0, 255)]
_Colors = tuple[tuple[_Channel, _Channel, _Channel], ...]


@dataclass(frozen=True)
class Description:
    """A checked description of a data set, from a ``dataset.toml`` or a built-in layout.

    Attributes:
        globs: Split → (glob pattern of images, glob pattern of labels or ``None``), relative to ``root``.
        space: Label space of the data set's own classes.
        ids: Raw id → label, or 255 for an ignored id.
        colors: RGB color → raw id, for color-coded label maps. ``None`` for label maps of ids.
        role: Role in domain adaptation: ``source``, ``target``, or ``None`` if no role is given.
        lists: Split → text file with the names of the split's images, for splits that share a folder.
        resize_labels: Whether a label map of another size than its image is resized. If false, such a map is refused.
        mend_ids: Advice for messages about an id that is not in ``ids``.
        is_file: Whether ``path`` is a ``dataset.toml``. Otherwise, ``path`` is the data set's folder.
        native: Label space that labels are converted to by default. ``None`` means ``space``.
    """

    path: Path
    name: str
    globs: Mapping[str, tuple[str, str | None]]
    space: LabelSpace
    ids: Mapping[int, int]
    colors: Mapping[Color, int] | None
    role: str | None
    lists: Mapping[str, str] = field(default_factory=dict)
    resize_labels: bool = False
    mend_ids: str = ""
    is_file: bool = True
    native: LabelSpace | None = None

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return self.path.parent if self.is_file else self.path


@dataclass(frozen=True)
class _Split:
    images: str
    labels: str = ""
    list: str = ""


@dataclass(frozen=True)
class _Document(_Split):
    """The keys of a ``dataset.toml``. The file docs/data.md explains the keys."""

    images: str = ""
    name: str = ""
    resize_labels: bool = False
    classes: str | tuple[str, ...] = ()
    colors: _Colors = ()
    more_colors: Mapping[str, _Colors] = field(default_factory=dict)
    color_coded: bool = False
    ignore: tuple[Annotated[int, Range(0, 65535)], ...] = (IGNORE,)
    ignore_colors: _Colors = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    splits: Mapping[str, _Split] = field(default_factory=dict)


def read_description(path: Path) -> Description:
    """Reads and checks a ``dataset.toml``."""
    return parse_description(path, read_toml(path))


def parse_description(path: Path, value: Mapping[str, Any]) -> Description:
    """Builds a description from the parsed content of a ``dataset.toml``. The file at ``path`` need not exist."""
    document = build(_Document, value, str(path))
    try:
        return _checked(path, document, value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _checked(path: Path, document: _Document, value: Mapping[str, Any]) -> Description:
    name = document.name or path.absolute().parent.name
    if document.role and document.role not in _ROLES:
        raise InputError(f"role is {shortened(document.role)}; {suggest(document.role[:100], _ROLES)}")
    splits = dict(document.splits)
    if document.images:
        splits.setdefault("train", document)
    if not splits:
        raise InputError('names no images; add images = "images/*.png" or [splits.train]')
    for split in splits.values():
        for glob in (split.images, split.labels):
            data_glob(glob)
    if "classes" not in value and any(split.labels for split in splits.values()):
        raise InputError(f'has labels but no classes; add classes = ["road", …] or "{CITYSCAPES19.name}"')
    space = _space(document, name) if "classes" in value else CITYSCAPES19
    colors = _colors(document, value, space) if document.color_coded else None
    if document.more_colors and colors is None:
        raise InputError("more_colors has a meaning with color_coded = true only; add that")
    return Description(
        path,
        name,
        {key: (split.images, split.labels or None) for key, split in splits.items()},
        space,
        _ids(document, value, space) if colors is None else {i: i for i in (*range(len(space)), IGNORE)},
        colors,
        document.role or None,
        {key: split.list for key, split in splits.items() if split.list},
        document.resize_labels,
        mend_ids=f"list it under [ids] or in ignore in {path.name}",
    )


def _space(document: _Document, name: str) -> LabelSpace:
    classes, colors = document.classes, document.colors
    known = get_label_space(classes) if isinstance(classes, str) else None
    num_classes = len(classes if known is None else known)
    if colors and len(colors) != num_classes:
        raise InputError(f"{len(colors)} colors for {num_classes} classes; give one a class")
    if known is None:
        return LabelSpace.from_names(name, classes, colors or None)
    if not colors:
        return known
    recolored = zip(known.classes, colors, strict=True)
    return LabelSpace(name, tuple(replace(c, color=color) for c, color in recolored))


def _ids(document: _Document, value: Mapping[str, Any], space: LabelSpace) -> dict[int, int]:
    ids = dict.fromkeys(document.ignore, IGNORE)
    if "ids" not in value:
        return {**{i: i for i in range(len(space))}, **ids}
    for key, class_name in document.ids.items():
        label = _label(f"[ids] {key} =", class_name, space)
        for raw in _span(key):
            if raw in document.ignore and "ignore" in value:
                raise InputError(f"id {raw} is both in ignore and in [ids]; remove one of them")
            ids[raw] = label
    return ids


def _label(where: str, class_name: str, space: LabelSpace) -> int:
    if class_name not in space.names:
        raise InputError(f"{where} {shortened(class_name)}; {suggest(class_name[:100], space.names)}")
    return space.names.index(class_name)


def _span(key: str) -> range:
    """Parses a key of the TOML table ``[ids]``: one id, or a range such as ``1-127`` that includes both ends."""
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", key, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last <= 65535:
        advice = 'write id = "class" with ids from 0 to 65535, or first-last = "class"'
        raise InputError(f"[ids] has the key {shortened(key)}; {advice}")
    return range(first, last + 1)


def _colors(document: _Document, value: Mapping[str, Any], space: LabelSpace) -> dict[Color, int]:
    for key in ("ids", "ignore"):
        if key in value:
            raise InputError(f"{key} has no meaning with color_coded = true; use colors, ignore_colors")
    if len(set(space.palette)) != len(space):
        raise InputError("two classes have the same color; color-coded labels need different ones")
    colors = {color: label for label, color in enumerate(space.palette)}
    for name, more in document.more_colors.items():
        label = _label("more_colors has", name, space)
        for color in more:
            if color in colors:
                raise InputError(f"more_colors: {list(color)} stands for a class already; remove one")
            colors[color] = label
    for color in document.ignore_colors:
        if color in colors:
            raise InputError(f"color {list(color)} is both a class's and in ignore_colors; remove one")
        colors[color] = IGNORE
    return colors


def toml_entry(key: str, item: Any) -> list[str]:
    """Returns the lines of a key and its value. A long list has one line per item."""
    key = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else toml_value(key)
    line = f"{key} = {toml_value(item)}"
    if len(line) <= _WIDTH or not isinstance(item, list):
        return [line]
    return [f"{key} = [", *(f"  {toml_value(each)}," for each in item), "]"]


def toml_value(item: Any) -> str:
    """Returns a string, number, boolean or list in TOML syntax. For these types, TOML and JSON have the same syntax."""
    written = json.dumps(item, ensure_ascii=False)
    return "".join(c if visible(c) == c else f"\\U{ord(c):08x}" for c in written)
