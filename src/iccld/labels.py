"""Label spaces and evaluation protocols: class names, colors and conversion between label spaces.

A *label space* defines the class of each integer in a label map and of each output channel of a model. The reference
space consists of the 19 Cityscapes trainIds. In other label spaces of street scenes, every class lists the trainIds
that it covers, so labels of any two such spaces can be converted. The built-in spaces are tables in ``labels.toml``.
Functions raise ``InputError`` for an unknown name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from iccld.documents import Length, Range, build
from iccld.errors import InputError
from iccld.escaping import has_unseen, shortened

T = TypeVar("T")

IGNORE = 255
"""Label of pixels that are excluded from all losses and metrics."""

_Channel = Annotated[int, Range(0, 255)]


@dataclass(frozen=True)
class LabelClass:
    """One class: a name, an RGB color and the Cityscapes trainIds of the class (see ``LabelSpace.lut_to``)."""

    name: Annotated[str, Length(200)]
    color: tuple[_Channel, _Channel, _Channel]
    train_ids: Annotated[tuple[_Channel, ...], Length(64)] = ()


@dataclass(frozen=True)
class LabelSpace:
    """Ordered set of classes. The index of a class is its value in label maps. The value 255 means ignore."""

    name: Annotated[str, Length(200)]
    classes: Annotated[tuple[LabelClass, ...], Length(254)]

    def __post_init__(self) -> None:
        names = [c.name for c in self.classes]
        for name in (self.name, *names):
            if has_unseen(name) or not 1 <= len(name) <= 200:
                remedy = "give names of 1 to 200 characters, none of them a control character"
                raise InputError(f"a label space or class is called {shortened(name)}; {remedy}")
        if not 1 <= len(names) <= 254:
            raise InputError(f"label space {self.name!r} has {len(names)} classes; give 1 to 254")
        if any(len(color) != 3 or min(color) < 0 or max(color) > 255 for color in self.palette):
            raise InputError(f"label space {self.name!r}: a color is three numbers from 0 to 255; mend it")
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"label space {self.name!r} names {', '.join(twice)} twice; make names unique")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(c.name for c in self.classes)

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB colors in label order, each channel from 0 to 255."""
        return tuple(c.color for c in self.classes)

    def lut_to(self, other: LabelSpace) -> tuple[int, ...]:
        """Returns the table of 256 entries that converts labels of this space to labels of ``other``.

        A class is converted to the class of ``other`` with the same name. If ``other`` has no such class, the
        first trainId of the class is looked up in the classes of ``other``. If this trainId is not found either, the
        label becomes 255 (ignore).
        """
        by_name = {c.name: i for i, c in enumerate(other.classes)}
        by_train_id = {t: i for i, c in reversed(list(enumerate(other.classes))) for t in c.train_ids}
        table = [IGNORE] * 256
        for index, label_class in enumerate(self.classes):
            if label_class.name in by_name:
                table[index] = by_name[label_class.name]
            elif label_class.train_ids:
                table[index] = by_train_id.get(label_class.train_ids[0], IGNORE)
        return tuple(table)

    def to_dict(self) -> dict[str, Any]:
        """Returns the label space as plain values for JSON. ``from_dict`` reads these values."""
        own = ((c.name, list(c.color), list(c.train_ids)) for c in self.classes)
        classes = [{"name": name, "color": color, "train_ids": ids} for name, color, ids in own]
        return {"name": self.name, "classes": classes}

    @classmethod
    def from_dict(cls, value: object) -> LabelSpace:
        """Returns a label space from the values of ``to_dict``. Raises ``InputError`` for invalid values."""
        return build(cls, value, "label_space")

    @classmethod
    def from_names(
        cls, name: str, names: Sequence[str], colors: Sequence[Sequence[int]] | None = None
    ) -> LabelSpace:
        """Builds a custom label space from class names.

        A class with a Cityscapes name gets the trainId of Cityscapes, so that labels can be converted. Without
        ``colors``, such a class also gets the color of Cityscapes, and all other classes get VOC colors.
        """
        known = {c.name: c for c in CITYSCAPES19.classes}
        classes = []
        for index, class_name in enumerate(names):
            match = known.get(class_name)
            color = colors[index] if colors else match.color if match else voc_color(index + 1)
            channels = cast("tuple[int, int, int]", tuple(map(int, color)))
            classes.append(LabelClass(class_name, channels, match.train_ids if match else ()))
        return cls(name, tuple(classes))


def voc_color(index: int) -> tuple[int, int, int]:
    """Returns the PASCAL VOC color of a class index. The bits of the index are spread over R, G and B."""

    def level(channel: int) -> int:
        return sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))

    return level(0), level(1), level(2)


_TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _built_in(name: str, train_ids: Mapping[str, Sequence[int]]) -> LabelSpace:
    classes = [{"name": c, "color": rgb, "train_ids": train_ids[c]} for c, rgb in _TABLES[name].items()]
    return LabelSpace.from_dict({"name": name, "classes": classes})


def _train_id_of_id(table: Mapping[str, Sequence[int]]) -> dict[int, int]:
    known = {i: int(key) for key, ids in table.items() if key != "ignored" for i in ids}
    return dict(sorted(known.items())) | dict.fromkeys(table["ignored"], IGNORE)


CITYSCAPES19 = _built_in("cityscapes19", {name: (i,) for i, name in enumerate(_TABLES["cityscapes19"])})

_NOT_IN_SYNTHIA = (9, 14, 16)  # terrain, truck, train
_NOT_IN_SYNTHIA13 = (3, 4, 5, *_NOT_IN_SYNTHIA)  # also wall, fence, pole
_IN_SYNTHIA = tuple(c for i, c in enumerate(CITYSCAPES19.classes) if i not in _NOT_IN_SYNTHIA)

SYNTHIA16 = LabelSpace("synthia16", _IN_SYNTHIA)
CAMVID11 = _built_in("camvid11", _TABLES["camvid11_train_ids"])

CITYSCAPES_ID_TO_TRAIN_ID: Mapping[int, int] = _train_id_of_id(_TABLES["cityscapes_ids"])
SYNTHIA_ID_TO_TRAIN_ID: Mapping[int, int] = _train_id_of_id(_TABLES["synthia_ids"])

LABEL_SPACES: Mapping[str, LabelSpace] = {s.name: s for s in (CITYSCAPES19, SYNTHIA16, CAMVID11)}


@dataclass(frozen=True)
class Protocol:
    """Evaluation protocol: the label space of the confusion matrix, and the classes whose IoU is averaged.

    The Synthia protocols count confusions of all 19 classes, but average the IoUs of only 16 or 13 classes, as in
    published results. A car predicted as a truck is therefore an error for the class car, although truck is not
    averaged.
    """

    name: str
    space: LabelSpace
    evaluated: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the averaged classes."""
        return tuple(self.space.names[i] for i in self.evaluated)


def custom_protocol(space: LabelSpace) -> Protocol:
    """Returns the protocol that counts and averages every class of a label space."""
    return _protocol(f"custom:{space.name}", space)


def _protocol(name: str, space: LabelSpace, without: Sequence[int] = ()) -> Protocol:
    return Protocol(name, space, tuple(i for i in range(len(space)) if i not in without))


PROTOCOLS: Mapping[str, Protocol] = {
    "cityscapes19": _protocol("cityscapes19", CITYSCAPES19),
    "synthia16": _protocol("synthia16", CITYSCAPES19, _NOT_IN_SYNTHIA),
    "synthia13": _protocol("synthia13", CITYSCAPES19, _NOT_IN_SYNTHIA13),
    "camvid11": _protocol("camvid11", CAMVID11),
}


def get_protocol(name: str, space: LabelSpace | None = None) -> Protocol:
    """Returns a protocol by name. The protocol ``custom`` averages every class of ``space`` and requires ``space``."""
    if name != "custom":
        return look_up(name, PROTOCOLS, "protocol", ["custom"])
    if space is None:
        remedy = "measure a model, or name a dataset.toml in its place"
        raise InputError(f"protocol 'custom' needs a class list; {remedy}")
    return custom_protocol(space)


def protocol_of(space: LabelSpace) -> Protocol:
    """Returns the protocol of the built-in label space that has the same classes as ``space``.

    Class names and trainIds must be equal and in the same order. The name and the colors of the space may differ. If
    no built-in label space has the same classes, returns the custom protocol of ``space``.
    """
    for name, known in LABEL_SPACES.items():
        if [(c.name, c.train_ids) for c in known.classes] == [(c.name, c.train_ids) for c in space.classes]:
            return PROTOCOLS[name]
    return custom_protocol(space)


def get_label_space(name: str) -> LabelSpace:
    """Returns a built-in label space by name."""
    return look_up(name, LABEL_SPACES, "label space")


def look_up(name: str, table: Mapping[str, T], what: str, others: Sequence[str] = ()) -> T:
    """Returns ``table[name]``.

    Raises ``InputError`` for an unknown name. The message lists the names in ``table`` and ``others``.
    """
    if name not in table:
        raise InputError(f"unknown {what} {name!r}; {suggest(name, [*table, *others])}")
    return table[name]


def suggest(word: str, known: Sequence[str]) -> str:
    """Returns a hint for an unknown word: the most similar known word, if there is one, and all known words."""
    import difflib

    near = difflib.get_close_matches(re.sub(r"[-\s]", "_", word.lower()), known, n=1, cutoff=0.5)
    listing = "choose from " + ", ".join(known)
    return f"did you mean {near[0]!r}? ({listing})" if near else listing
