"""Label encodings (which ids or colors stand for which classes), from known tables or from sampled label maps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from iccld.data.autodetect.class_tables import find_class_table
from iccld.data.autodetect.evidence import Evidence
from iccld.data.description import Description, parse_description
from iccld.data.folders import require_below
from iccld.data.layouts import meaning_keys, tables
from iccld.documents import Length, Range, build, read_json, reason
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19, IGNORE

_RISE = 0.1
"""Minimum distance between the mean rows of road (below) and sky (above), as a fraction of the image height."""
_MANY = 4
"""Label maps with at most this number of ids are treated as masks of a few classes, not as street scenes."""
_UNLABELED = ("void", "unlabeled", "unlabelled", "ignore")
"""Names of classes in tables of classes (in lower case) whose pixels are ignored."""
_OFTEN = 0.2
"""If more than this fraction of the pixels is 255, 255 is probably a class and not only an ignored border."""


@dataclass(frozen=True)
class Meaning:
    """A label encoding: which ids or colors of label maps stand for which classes."""

    text: str  # clause that describes the label encoding in messages
    keys: Mapping[str, Any]  # keys of ``dataset.toml`` with their values (classes, ids, colors, …)
    checks: tuple[str, ...] = ()  # points that the user should check, one sentence each
    is_guess: bool = False  # whether the class names are placeholders

    @property
    def description(self) -> Description:
        """Description of a data set whose ``dataset.toml`` contains ``keys``."""
        value = {"name": "data", "images": "*", "labels": "*", **self.keys}
        return parse_description(Path("dataset.toml"), value)


def known_meaning(name: str, root: Path) -> Meaning:
    """Returns a label encoding by name, from ``layouts.toml`` or from a file in ``root`` (Mapillary, nnU-Net)."""
    if name.startswith("mapillary_"):
        return mapillary(root, name.removeprefix("mapillary_"))
    if name == "nnunet":
        return nnunet(root)
    entry = tables()["meanings"][name]
    return Meaning(entry["text"], meaning_keys(name), tuple(entry.get("checks", ())))


_Channel = Annotated[int, Range(0, 255)]


@dataclass(frozen=True)
class _MapillaryLabel:
    readable: Annotated[str, Length(200)]
    color: tuple[_Channel, _Channel, _Channel]


@dataclass(frozen=True)
class _MapillaryConfig:
    labels: Annotated[tuple[_MapillaryLabel, ...], Length(1000)]


def mapillary(root: Path, version: str) -> Meaning:
    """Returns the label encoding of Mapillary Vistas, as read from the data set's config file in ``root``."""
    config = root / f"config_{version}.json"
    config = config if config.is_file() else root / "config.json"
    if not config.is_file():
        raise InputError(f"{root}: Mapillary Vistas {version} needs its config_{version}.json; copy it there")
    try:
        labels = build(_MapillaryConfig, read_json(config), "labels", others=True).labels
    except InputError as error:
        why = reason(error, config)
        raise InputError(f"{config}: is not Mapillary's list of labels ({why}); copy it again") from error
    names = [_mapillary_class(label.readable) for label in labels]
    colors: dict[str, Sequence[int]] = {name: label.color for name, label in zip(names, labels, strict=True)}
    colors |= {c.name: c.color for c in CITYSCAPES19.classes}
    present = set(names) - {"ignore"}
    classes = [name for name in dict.fromkeys((*CITYSCAPES19.names, *names)) if name in present]
    keys = {
        "classes": classes,
        "colors": [list(colors[name]) for name in classes],
        "ignore": [*(raw for raw, name in enumerate(names) if name == "ignore"), IGNORE],
        "ids": {str(raw): name for raw, name in enumerate(names) if name != "ignore"},
    }
    check = "Classes that Cityscapes has too carry its names; curbs became sidewalk, lane markings road."
    return Meaning(f"Mapillary's ids ({config.name})", keys, (check,))


@dataclass(frozen=True)
class _NnunetDataset:
    labels: Annotated[Mapping[str, Any], Length(1000)]


def nnunet(root: Path) -> Meaning:
    """Returns the label encoding of a data set of nnU-Net, as read from its ``dataset.json`` in ``root``.

    Raises ``InputError`` if the images have several channels, or a label stands for several ids (regions).
    """
    path = root / "dataset.json"
    require_below(path, root)
    others = sorted((root / "imagesTr").glob("*_0001.*"))
    if others:
        raise InputError(
            f"{others[0]}: is a second channel, and images are RGB; join the channels to one file"
        )
    try:
        labels = build(_NnunetDataset, read_json(path), "dataset", others=True).labels
    except InputError as error:
        raise InputError(f"{path}: has no list of labels ({reason(error, path)}); copy it again") from error
    ids: dict[int, str] = {}
    for key, value in labels.items():
        # Version 1 maps ids to names, version 2 maps names to ids.
        number, name = (key, value) if re.fullmatch("[0-9]{1,5}", str(key)) else (value, key)
        is_id = re.fullmatch("[0-9]{1,5}", str(number)) is not None and int(number) <= 65535
        if not is_id or not isinstance(name, str) or int(number) in ids:
            raise InputError(f"{path}: label {key!r} is {value!r}; only labels of one id can be used")
        ids[int(number)] = name
    classes = [name for _, name in sorted(ids.items()) if name != "ignore"]
    keys = {
        "classes": classes,
        "ids": {str(raw): name for raw, name in sorted(ids.items()) if name != "ignore"},
        "ignore": [raw for raw, name in ids.items() if name == "ignore"],
    }
    return Meaning("the labels of dataset.json", keys)


def _mapillary_class(title: str) -> str:
    names = (name for pattern, name in tables()["mapillary"].items() if re.fullmatch(pattern, title))
    return next(names, title.lower())


def by_table(root: Path, evidence: Evidence) -> Meaning | None:
    """Returns the encoding by a table of classes in ``root``, or ``None`` if a seen color is not in such a table."""
    found = find_class_table(root)
    if found is None or not evidence.colors or not evidence.colors.keys() <= set(found[1].values()):
        return None
    name, table = found
    ignored = [color for title, color in table.items() if title.lower() in _UNLABELED]
    classes = {title: color for title, color in table.items() if color not in ignored}
    keys = {"classes": [*classes], "color_coded": True, "colors": [list(color) for color in classes.values()]}
    if ignored:
        keys["ignore_colors"] = [list(color) for color in ignored]
    return Meaning(f"the colors of {name}", keys)


def with_doubts(meaning: Meaning, evidence: Evidence) -> Meaning:
    """Compares a label encoding with sampled label maps, and returns the encoding with contradictions in ``checks``."""
    doubts = [f"Not all label maps can be used: {evidence.fault}."] if evidence.fault else []
    description = meaning.description
    if description.colors is not None and evidence.ids:
        doubts.append("The label maps hold ids, where colors were expected.")
    elif description.colors is None and evidence.colors:
        doubts.append("The label maps hold RGB colors, where ids were expected.")
    elif strange := sorted(set(evidence.ids) - set(description.ids)):
        listing = ", ".join(map(str, strange[:8]))
        doubts.append(f"Ids that {meaning.text} do not have were seen: {listing}.")
    return replace(meaning, checks=(*meaning.checks, *doubts))


def detect_meaning(evidence: Evidence, *, says: str = "") -> Meaning:
    """Detects the label encoding from sampled label maps.

    ``says`` contains the glob patterns of the label maps in lower case. If ``says`` contains ``trainid`` and all ids
    are Cityscapes trainIds, the encoding with trainIds is returned. The same applies to ``labelid`` and labelIds.

    Raises:
        InputError: The files cannot be label maps, or mix colors and ids.
    """
    if evidence.fault:
        raise InputError(evidence.fault)
    if evidence.colors:
        return _by_colors(evidence)
    ids = set(evidence.ids) - {IGNORE}
    streets: list[Meaning] = []
    for name, word, road, sky in (("train_ids", "trainid", 0, 10), ("label_ids", "labelid", 7, 23)):
        known = known_meaning(name, Path())
        labels = known.description.ids
        if ids <= labels.keys():
            if word in says or _palette_agrees(evidence, labels):
                return known
            if len(ids) > _MANY and {road, sky} <= evidence.rows.keys():
                streets += [known] * (evidence.rows[road] - evidence.rows[sky] > _RISE)
    if ids == {0} and IGNORE in evidence.ids:
        return _two_classes(evidence, "0 and 255, as black-and-white masks do", IGNORE)
    if len(ids) == 2 and 0 in ids:
        return _two_classes(evidence, f"the ids 0 and {max(ids)}", max(ids))
    check = "The ids might be your own: if so, write your classes and [ids]."
    return replace(streets[0], checks=(check,)) if streets else _numbered(evidence, sorted(ids))


def _palette_agrees(evidence: Evidence, labels: Mapping[int, int]) -> bool:
    """Returns whether the palette agrees with ``labels`` (id → Cityscapes class).

    At least three ids must have a color of Cityscapes, and each of these colors must be the color of the id's class.
    """
    names = {c.color: label for label, c in enumerate(CITYSCAPES19.classes)}
    found = [names[color] == labels.get(i) for i, color in evidence.palette.items() if color in names]
    return len(found) > 2 and all(found)


def _two_classes(evidence: Evidence, text: str, thing: int) -> Meaning:
    keys: dict[str, Any] = {"classes": ["background", "thing"], "colors": [[70, 70, 70], [255, 160, 0]]}
    if thing != 1:
        keys["ids"] = {"0": "background", str(thing): "thing"}
    if thing == IGNORE or evidence.bright:
        keys["ignore"] = []
    name = 'Write your own name for "thing" (in classes and [ids]), or call again with --classes NAME NAME.'
    checks = [name]
    share = evidence.ids[IGNORE] / evidence.ids.total()
    # In maps of 0 and 1, a few pixels with 255 are usually an ignored border. In maps of 0 and, for example, 128, the
    # value 255 can be a third class.
    if thing != IGNORE and share and (thing > 1 or share > _OFTEN):
        ignored = f"255 is ignored ({share:.2%} of the pixels)"
        checks.append(f"{ignored}; if it is a class, name it in classes and [ids] and write ignore = [].")
    if evidence.bright:
        low = thing // 2
        keys["ids"] |= {f"1-{low}": "background", f"{low + 1}-{thing - 1}": "thing"}
        if thing < 254:
            keys["ids"][f"{thing + 1}-255"] = "thing"
        path, softness = evidence.soft[0]
        checks.append(
            f"{len(evidence.soft)} of {evidence.num_read} label maps are not as they were drawn ({path.name}: "
            f"{softness.text}): values up to {low} were taken for background, others for the thing. "
            "Edges may be off by a pixel or two: use the original masks if you have them."
        )
    return Meaning(text, keys, tuple(checks), is_guess=True)


def _numbered(evidence: Evidence, ids: Sequence[int]) -> Meaning:
    if not ids:
        raise InputError("all label maps that were read hold 255 alone, which is ignored; add labels")
    if len(ids) > 254:
        raise InputError(f"the label maps hold {len(ids)} ids, as instance maps do; give maps of classes")
    keys: dict[str, Any] = {"classes": [f"class_{i}" for i in ids]}
    is_plain = list(ids) == list(range(len(ids)))
    if not is_plain:
        keys["ids"] = {str(i): f"class_{i}" for i in ids}
    colors = [evidence.palette.get(i, (0, 0, 0)) for i in ids]
    if len({*colors}) == len(colors) and any(len(set(color)) > 1 for color in colors):
        keys["colors"] = [list(color) for color in colors]
    place = "classes" if is_plain else "classes and [ids]"
    checks = [f"The files do not name their classes: write the names in {place}."]
    if ids[-1] < len(CITYSCAPES19) and len(ids) > _MANY:
        checks.append('If these are Cityscapes trainIds, write classes = "cityscapes19" alone.')
    return Meaning(f"{len(ids)} ids of your own", keys, tuple(checks), is_guess=True)


def _by_colors(evidence: Evidence) -> Meaning:
    if evidence.ids:
        raise InputError(
            "some label maps hold colors and others ids or only grays; "
            "give each kind a folder and a dataset.toml of its own"
        )
    found = set(evidence.colors)
    for name in ("cityscapes_colors", "camvid_colors"):
        known = known_meaning(name, Path())
        labels = known.description.colors or {}
        if found <= labels.keys() and sum(labels[color] != IGNORE for color in found) > 2:
            return known
    black = (0, 0, 0)
    ordered = sorted(found, key=lambda color: (color != black, -evidence.colors[color], color))
    first = 0 if black in found else 1
    names = ["background" if c == black else f"class_{i}" for i, c in enumerate(ordered, start=first)]
    checks = ["The colors are not known: write the names of your classes in classes."]
    if black in found:
        checks.append("Black was taken for a class; if it means unlabeled, move it to ignore_colors.")
    keys = {"classes": names, "color_coded": True, "colors": [list(color) for color in ordered]}
    return Meaning(f"{len(found)} colors of your own", keys, tuple(checks), is_guess=True)


def rename(meaning: Meaning, names: Sequence[str]) -> Meaning:
    """Returns ``meaning`` with ``names`` instead of the placeholder class names, in the same order."""
    if not meaning.is_guess:
        raise InputError(f"--classes: the labels are {meaning.text}, whose classes are known; leave it out")
    old = meaning.keys["classes"]
    if len(names) != len(old) or len(set(names)) < len(names):
        raise InputError(f"--classes: give {len(old)} different names, in the order {', '.join(old)}")
    new = dict(zip(old, names, strict=True))
    keys = {**meaning.keys, "classes": list(names)}
    if "ids" in keys:
        keys["ids"] = {i: new[name] for i, name in keys["ids"].items()}
    renamed = replace(meaning, keys=keys, is_guess=False, checks=meaning.checks[1:])
    # For invalid names, the property ``description`` raises InputError.
    assert renamed.description.space.names == tuple(names)
    return renamed
