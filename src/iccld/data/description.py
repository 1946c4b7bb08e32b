"""``dataset.toml``: how a user says what the files of an own data set are and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from iccld.data.image_files import Color
from iccld.documents import read_toml
from iccld.errors import InputError
from iccld.escaping import shortened, visible
from iccld.labels import CITYSCAPES19, IGNORE, LabelSpace, get_label_space, suggest

DESCRIPTION = "dataset.toml"
_KEYS = (
    "name",
    "images",
    "labels",
    "list",
    "resize_labels",
    "classes",
    "colors",
    "more_colors",
    "color_coded",
    "ignore",
    "ignore_colors",
    "ids",
    "role",
    "splits",
)
_SPLIT_KEYS = ("images", "labels", "list")
_ROLES = ("source", "target")
_LONGEST = 4096


@dataclass(frozen=True)
class Description:
    """What a ``dataset.toml`` says, checked.

    Attributes:
        path: the file.
        name: the data set's name.
        globs: split → (glob of images, glob of labels or None), relative to the file's folder.
        space: the classes.
        ids: raw id → label or 255.
        colors: RGB color → raw id for color-coded label maps, else None.
        role: ``source``, ``target`` or None.
        lists: split → text file that names its images, for splits that are not told apart by folders.
        resize_labels: whether label maps of another size than their image are scaled instead of refused.
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


def read_description(path: Path) -> Description:
    """Reads and checks a ``dataset.toml``.

    Raises:
        InputError: it is missing or no TOML, or a key is unknown, missing or has a wrong value.
    """
    return parse_description(path, read_toml(path))


def parse_description(path: Path, value: Mapping[str, Any]) -> Description:
    """Checks the contents of a ``dataset.toml``.

    Args:
        path: where it lies, or would lie.
        value: its tables.

    Raises:
        InputError: a key is unknown, missing or has a wrong value.
    """
    for key in value:
        if key not in _KEYS:
            raise InputError(f"{path}: unknown key {shortened(key)}; {suggest(key[:100], _KEYS)}")
    name = _typed(path, value, "name", str, path.absolute().parent.name)
    role = _typed(path, value, "role", str, None)
    if role is not None and role not in _ROLES:
        raise InputError(f"{path}: role is {shortened(role)}; {suggest(role[:100], _ROLES)}")
    globs, lists = _globs(path, value)
    resize = _typed(path, value, "resize_labels", bool, False)
    space = _space(path, value, name, any(labels for _, labels in globs.values()))
    if _typed(path, value, "color_coded", bool, False):
        ids, colors = _color_ids(path, value, space)
    else:
        if "more_colors" in value:
            raise InputError(f"{path}: more_colors has a meaning with color_coded = true only; add that")
        ids, colors = _ids(path, value, space), None
    return Description(path, name, globs, space, ids, colors, role, lists, resize)


def _typed(path: Path, value: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    found = value.get(key, default)
    if found is not default and (
        not isinstance(found, kind) or (isinstance(found, str) and len(found) > _LONGEST)
    ):
        kinds = {
            str: f"text of at most {_LONGEST} characters",
            bool: "true or false",
            list: "a list",
            dict: "a table",
        }
        raise InputError(f"{path}: {key} = {shortened(found)} must be {kinds[kind]}")
    return found


def _globs(path: Path, value: Mapping[str, Any]) -> tuple[dict[str, tuple[str, str | None]], dict[str, str]]:
    splits: dict[str, Any] = dict(_typed(path, value, "splits", dict, {}))
    if "images" in value:
        splits.setdefault("train", {key: value[key] for key in _SPLIT_KEYS if key in value})
    if not splits:
        raise InputError(f'{path}: names no images; add images = "images/*.png" or [splits.train]')
    globs: dict[str, tuple[str, str | None]] = {}
    lists: dict[str, str] = {}
    for name, entry in splits.items():
        if not isinstance(entry, dict) or "images" not in entry or set(entry) - set(_SPLIT_KEYS):
            raise InputError(
                f"{path}: [splits.{visible(name[:100])}] must have images and may have labels and list, nothing else"
            )
        images, labels = (_typed(path, entry, key, str, None) for key in ("images", "labels"))
        for glob in filter(None, (images, labels)):
            if not _is_balanced(glob):
                raise InputError(
                    f"{path}: {shortened(glob)} has a brace without its partner; close the brace, as in *.{{jpg,png}}"
                )
        globs[name] = (images, labels)
        if "list" in entry:
            lists[name] = _typed(path, entry, "list", str, None)
    return globs, lists


def _is_balanced(glob: str) -> bool:
    """Whether every brace is opened before it is closed, and closed in the end."""
    depth = 0
    for character in glob:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def _space(path: Path, value: Mapping[str, Any], name: str, has_labels: bool) -> LabelSpace:
    classes = value.get("classes")
    if classes is None:
        if has_labels:
            raise InputError(
                f'{path}: has labels but no classes; add classes = ["road", …] or "{CITYSCAPES19.name}"'
            )
        return CITYSCAPES19
    if isinstance(classes, str):
        try:
            space = get_label_space(classes)
        except InputError as error:
            raise InputError(f"{path}: classes: {error}") from error
        if "colors" not in value:
            return space
        colors = _colors_of(path, value, len(space))
        recolored = zip(space.classes, colors, strict=True)
        return LabelSpace(name, tuple(replace(c, color=color) for c, color in recolored))
    if not isinstance(classes, list) or not all(isinstance(c, str) and c for c in classes):
        raise InputError(
            f"{path}: classes = {shortened(classes)} must be a list of names or the name of a label space"
        )
    of_classes = _colors_of(path, value, len(classes)) if "colors" in value else None
    try:
        return LabelSpace.from_names(name, classes, of_classes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _colors_of(path: Path, value: Mapping[str, Any], num_classes: int) -> list[Color]:
    colors = _color_list(path, value, "colors")
    if len(colors) != num_classes:
        raise InputError(f"{path}: {len(colors)} colors for {num_classes} classes; give one a class")
    return colors


def _color_list(path: Path, value: Mapping[str, Any], key: str) -> list[Color]:
    colors: list[Color] = []
    for entry in _typed(path, value, key, list, []):
        if not isinstance(entry, list) or len(entry) != 3 or not all(_is_id(c, 255) for c in entry):
            raise InputError(
                f"{path}: {key} has {shortened(entry)}; write colors as [red, green, blue], each 0 to 255"
            )
        colors.append((entry[0], entry[1], entry[2]))
    return colors


def _is_id(value: object, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _ids(path: Path, value: Mapping[str, Any], space: LabelSpace) -> dict[int, int]:
    ignored = _typed(path, value, "ignore", list, [IGNORE])
    for raw in ignored:
        if not _is_id(raw, 65535):
            raise InputError(f"{path}: ignore has {shortened(raw)}; list ids from 0 to 65535")
    ids = dict.fromkeys(ignored, IGNORE)
    if "ids" not in value:
        return {**{i: i for i in range(len(space))}, **ids}
    for key, class_name in _typed(path, value, "ids", dict, {}).items():
        span = _span(path, key)
        if class_name not in space.names:
            raise InputError(
                f"{path}: [ids] {key} = {shortened(class_name)}; {suggest(str(class_name)[:100], space.names)}"
            )
        for raw in span:
            if raw in ignored and "ignore" in value:
                raise InputError(f"{path}: id {raw} is both in ignore and in [ids]; remove one of them")
            ids[raw] = space.names.index(class_name)
    return ids


def _span(path: Path, key: str) -> range:
    """The ids that a key of [ids] stands for: one, or those from the first to the last of ``1-127``."""
    first, dash, last = key.partition("-")
    last = last if dash else first
    if not all(end.isascii() and end.isdecimal() and len(end) <= 5 for end in (first, last)):
        first, last = "1", "0"
    if not int(first) <= int(last) <= 65535:
        raise InputError(
            f'{path}: [ids] has the key {shortened(key)}; write id = "class" with ids from 0 to 65535, or '
            'first-last = "class"'
        )
    return range(int(first), int(last) + 1)


def _color_ids(
    path: Path, value: Mapping[str, Any], space: LabelSpace
) -> tuple[dict[int, int], dict[Color, int]]:
    for key in ("ids", "ignore"):
        if key in value:
            raise InputError(
                f"{path}: {key} has no meaning with color_coded = true; use colors, ignore_colors"
            )
    if len(set(space.palette)) != len(space):
        raise InputError(f"{path}: two classes have the same color; color-coded labels need different ones")
    colors = {color: label for label, color in enumerate(space.palette)}
    more = _typed(path, value, "more_colors", dict, {})
    for name in more:
        if name not in space.names:
            raise InputError(f"{path}: more_colors has {shortened(name)}; {suggest(name[:100], space.names)}")
        for color in _color_list(path, more, name):
            if color in colors:
                raise InputError(f"{path}: more_colors: {list(color)} stands for a class already; remove one")
            colors[color] = space.names.index(name)
    for color in _color_list(path, value, "ignore_colors"):
        if color in colors:
            raise InputError(
                f"{path}: color {list(color)} is both a class's and in ignore_colors; remove one"
            )
        colors[color] = IGNORE
    return {i: i for i in range(len(space))} | {IGNORE: IGNORE}, colors
