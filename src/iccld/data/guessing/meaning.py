"""What the numbers or colors of label maps mean: known tables, and guesses from what a sample holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from iccld.data.guessing import tables
from iccld.data.guessing.evidence import Evidence
from iccld.data.image_files import Color
from iccld.documents import Length, Range, build, read_json, reason
from iccld.errors import InputError
from iccld.labels import CAMVID11, CITYSCAPES19, IGNORE, voc_color

_TWO_COLORS: tuple[Color, Color] = ((70, 70, 70), (255, 160, 0))
_RISE = 0.1
"""A street's road lies lower than its sky, by at least so much of the height on average."""
_OFTEN = 0.2
"""Share of the pixels beyond which 255 is hardly a border alone."""


@dataclass(frozen=True)
class Meaning:
    """What ``dataset.toml`` will say about the label maps.

    Attributes:
        text: one clause: what the files hold.
        classes: names in label order, or the name of a label space.
        ids: id → class; None for 0, 1, 2, … in the order of the classes.
        ignore: ids that are ignored; None for 255 alone, which is the default.
        colors: one a class, or none.
        color_coded: whether files hold colors instead of ids.
        ignore_colors: colors that are ignored.
        more_colors: further colors of a class.
        soft_ids: ranges of ids such as ``1-127`` → class, for maps that are soft.
        is_guess: whether the names were made up here.
        checks: what the user should look at, a sentence each.
    """

    text: str
    classes: str | tuple[str, ...]
    ids: Mapping[int, str] | None = None
    ignore: tuple[int, ...] | None = None
    colors: tuple[Color, ...] = ()
    color_coded: bool = False
    ignore_colors: tuple[Color, ...] = ()
    more_colors: Mapping[str, tuple[Color, ...]] = field(default_factory=dict)
    soft_ids: Mapping[str, str] = field(default_factory=dict)
    is_guess: bool = False
    checks: tuple[str, ...] = ()


TRAIN_IDS = Meaning("Cityscapes trainIds", CITYSCAPES19.name)
LABEL_IDS = Meaning(
    "Cityscapes labelIds", CITYSCAPES19.name, tables.CITYSCAPES_IDS[0], tables.CITYSCAPES_IDS[1]
)
SYNTHIA_IDS = Meaning(
    "SYNTHIA's ids in the first channel", CITYSCAPES19.name, tables.SYNTHIA_IDS[0], tables.SYNTHIA_IDS[1]
)
IDD_LEVEL3 = Meaning(
    "IDD's level3Ids",
    tables.IDD_LEVEL3,
    checks=(
        "Id 1 holds parking too, 3 rail track, 4 animals, 23 tunnels, and 25 all other background beside sky.",
    ),
)
CAMVID_TRAIN_IDS = Meaning(
    "Cityscapes trainIds",
    CAMVID11.name,
    {train_id: c.name for c in CAMVID11.classes for train_id in c.train_ids},
    (IGNORE,),
)
SEGNET_CAMVID = Meaning(
    "the numbers of the SegNet split of CamVid",
    CAMVID11.name,
    dict(enumerate(tables.SEGNET_CAMVID)),
    (11, IGNORE),
)
CAMVID_COLORS = Meaning(
    "CamVid's 32 colors, folded into the usual 11 classes",
    CAMVID11.name,
    colors=tuple(tables.CAMVID_COLORS[name][0] for name in CAMVID11.names),
    color_coded=True,
    ignore_colors=tables.CAMVID_VOID,
    more_colors={name: more[1:] for name, more in tables.CAMVID_COLORS.items() if len(more) > 1},
)
CITYSCAPES_COLORS = Meaning(
    "Cityscapes colors", CITYSCAPES19.name, color_coded=True, ignore_colors=tables.CITYSCAPES_VOID
)


def voc(evidence: Evidence) -> Meaning:
    """Pascal VOC: a palette file whose indices are the classes, or the same painted in RGB."""
    colors = tuple(voc_color(i) for i in range(len(tables.VOC_CLASSES)))
    if evidence.colors:
        return Meaning(
            "VOC's colors",
            tables.VOC_CLASSES,
            colors=colors,
            color_coded=True,
            ignore_colors=(tables.VOC_BORDER,),
        )
    return Meaning("VOC's 20 classes, background 0 and border 255", tables.VOC_CLASSES, colors=colors)


_Channel = Annotated[int, Range(0, 255)]


@dataclass(frozen=True)
class _MapillaryLabel:
    readable: Annotated[str, Length(200)]
    color: tuple[_Channel, _Channel, _Channel]


@dataclass(frozen=True)
class _MapillaryConfig:
    """What is taken from Mapillary's config file."""

    labels: Annotated[tuple[_MapillaryLabel, ...], Length(1000)]


def mapillary(root: Path, version: str) -> Meaning:
    """Mapillary Vistas: by the config file that lies beside the images, else the table of version 1.2.

    Raises:
        InputError: another version without its config file, or one that cannot be read.
    """
    places = [root / f"config_{version}.json", root / "config.json"]
    config = next((path for path in places if path.is_file()), None)
    if config is None:
        if version != "v1.2":
            raise InputError(f"{root}: Mapillary Vistas {version} needs its {places[0].name}; copy it there")
        entries: list[tuple[str, Color | None]] = [(name, None) for name in tables.MAPILLARY_V12]
    else:
        try:
            labels = build(_MapillaryConfig, read_json(config), "labels", others=True).labels
        except InputError as error:
            raise InputError(
                f"{config}: is not Mapillary's list of labels ({reason(error, config)}); copy it again"
            ) from error
        entries = [(label.readable, label.color) for label in labels]
    ids, ignored = {}, [IGNORE]
    colors: dict[str, Color] = {c.name: c.color for c in CITYSCAPES19.classes}
    for raw, (readable, color) in enumerate(entries):
        if readable in ("Unlabeled", "Ego Vehicle", "Car Mount"):
            ignored.append(raw)
            continue
        ids[raw] = tables.mapillary_class(readable) or readable.lower()
        if color is not None:
            colors.setdefault(ids[raw], color)
    classes = tuple(dict.fromkeys(sorted(ids.values(), key=_cityscapes_first)))
    source = config.name if config else "the table of version 1.2, as there is no config file"
    return Meaning(
        f"Mapillary's ids ({source})",
        classes,
        ids,
        tuple(sorted(ignored)),
        tuple(colors[name] for name in classes) if config else (),
        checks=(
            "Classes that Cityscapes has too carry its names; curbs became sidewalk, lane markings road.",
        ),
    )


def _cityscapes_first(name: str) -> int:
    return CITYSCAPES19.names.index(name) if name in CITYSCAPES19.names else len(CITYSCAPES19)


def guess_meaning(evidence: Evidence, *, says: str = "") -> Meaning:
    """Guesses from what the sample holds.

    Args:
        evidence: of the label maps.
        says: what file names say, in lower case; ``trainid`` and ``labelid`` are believed if the ids agree.

    Raises:
        InputError: the files are no label maps.
    """
    if evidence.fault:
        raise InputError(evidence.fault)
    if evidence.colors:
        return _guess_colors(evidence)
    ids = set(evidence.ids) - {IGNORE}
    by_palette = _names_from_palette(evidence)
    if by_palette is not None:
        return by_palette
    train_ids = replace(
        TRAIN_IDS, checks=("The ids might be your own: if so, write your classes and [ids].",)
    )
    if "trainid" in says and ids <= set(range(19)):
        return train_ids
    if "labelid" in says and ids <= set(range(35)):
        return LABEL_IDS
    if ids == {0} and IGNORE in evidence.ids:
        return _two_classes(evidence, "0 and 255, as black-and-white masks do", 255)
    if len(ids) == 2 and 0 in ids:
        return _two_classes(evidence, f"the ids 0 and {max(ids)}", max(ids))
    if ids <= set(range(19)) and len(ids) > 5 and _has_street(evidence, 0, 10):
        return train_ids
    if ids <= set(range(35)) and max(ids, default=0) > 18 and _has_street(evidence, 7, 23):
        return LABEL_IDS
    return _numbered(evidence, sorted(ids))


def _has_street(evidence: Evidence, road: int, sky: int) -> bool:
    rows = evidence.rows
    return road in rows and sky in rows and rows[road] - rows[sky] > _RISE


def _two_classes(evidence: Evidence, text: str, thing: int) -> Meaning:
    ids = {0: "background", thing: "thing"}
    ignore = () if thing == IGNORE else None
    checks = [
        'Write your own name for "thing" (in classes and [ids]), or call again with --classes NAME NAME.'
    ]
    share = evidence.ids[IGNORE] / sum(evidence.ids.values())
    # Beside 0 and 1 some 255 is the usual border; beside 0 and 128 it may well be a third gray.
    if thing != IGNORE and share and (thing > 1 or share > _OFTEN):
        checks.append(
            f"255 is ignored ({share:.2%} of the pixels); if it is a class, name it in classes and [ids] "
            "and write ignore = []."
        )
    meaning = Meaning(
        text, ("background", "thing"), None if thing == 1 else ids, ignore, _TWO_COLORS, is_guess=True
    )
    if evidence.levels is not None:
        path, softness = evidence.soft[0]
        low, high = thing // 2, thing // 2 + 1
        ranges = {f"1-{low}": "background", f"{high}-{thing - 1}": "thing"}
        meaning = replace(
            meaning, soft_ids=ranges | ({f"{thing + 1}-255": "thing"} if thing < 254 else {}), ignore=()
        )
        checks.append(
            f"{len(evidence.soft)} of {evidence.num_read} label maps are not as they were drawn ({path.name}: "
            f"{softness.text}): values up to {low} were taken for background, others for the thing. "
            "Edges may be off by a pixel or two: use the original masks if you have them."
        )
    return replace(meaning, checks=tuple(checks))


def _names_from_palette(evidence: Evidence) -> Meaning | None:
    """Names by the palette's colors, where they are those of Cityscapes."""
    names = {c.color: c.name for c in CITYSCAPES19.classes}
    found = {i: names[evidence.palette[i]] for i in evidence.ids if evidence.palette.get(i) in names}
    total = sum(evidence.ids.values())
    if len(found) < 3 or sum(evidence.ids[i] for i in found) < total / 2:
        return None
    for known in (TRAIN_IDS, LABEL_IDS):
        table = known.ids or dict(enumerate(CITYSCAPES19.names))
        allowed = {*table, *(known.ignore or ()), IGNORE}
        if set(evidence.ids) <= allowed and all(table.get(i) == name for i, name in found.items()):
            return replace(known, text=f"{known.text} (the palette has Cityscapes colors)")
    others = tuple(sorted({IGNORE, *(set(evidence.ids) - set(found))}))
    check = f"Ids without a Cityscapes color are ignored: {', '.join(map(str, others))}."
    return Meaning(
        "ids whose palette has Cityscapes colors", CITYSCAPES19.name, found, others, checks=(check,)
    )


def _numbered(evidence: Evidence, ids: Sequence[int]) -> Meaning:
    if not ids:
        raise InputError("all label maps that were read hold 255 alone, which is ignored; add labels")
    if len(ids) > 254:
        raise InputError(f"the label maps hold {len(ids)} ids, as instance maps do; give maps of classes")
    names = tuple(f"class_{i}" for i in ids)
    is_plain = list(ids) == list(range(len(ids)))
    colors = tuple(evidence.palette.get(i, (0, 0, 0)) for i in ids)
    is_gray = all(red == green == blue for red, green, blue in colors)
    check = "The files do not name their classes: write the names in classes" + (
        "." if is_plain else " and [ids]."
    )
    return Meaning(
        f"{len(ids)} ids of your own",
        names,
        None if is_plain else dict(zip(ids, names, strict=True)),
        None,
        () if is_gray or len(set(colors)) < len(colors) else colors,
        is_guess=True,
        checks=(check, 'If these are Cityscapes trainIds, write classes = "cityscapes19" alone.')
        if set(ids) <= set(range(19)) and len(ids) > 5
        else (check,),
    )


def _guess_colors(evidence: Evidence) -> Meaning:
    if evidence.ids:
        raise InputError(
            "some label maps hold colors and others ids or only grays; "
            "give each kind a folder and a dataset.toml of its own"
        )
    found = set(evidence.colors)
    for known, void in (
        (CITYSCAPES_COLORS, CITYSCAPES_COLORS.ignore_colors),
        (CAMVID_COLORS, tables.CAMVID_VOID),
    ):
        own = set(known.colors or CITYSCAPES19.palette) | {
            c for more in known.more_colors.values() for c in more
        }
        if len(found & own) > 2 and found <= own | set(void):
            return known
    black = (0, 0, 0)
    ordered = sorted(found, key=lambda color: (color != black, -evidence.colors[color], color))
    names = tuple(
        "background" if color == black else f"class_{i}"
        for i, color in enumerate(ordered, start=0 if black in found else 1)
    )
    checks = ["The colors are not known: write the names of your classes in classes."]
    if black in found:
        checks.append("Black was taken for a class; if it means unlabeled, move it to ignore_colors.")
    return Meaning(
        f"{len(found)} colors of your own",
        names,
        colors=tuple(ordered),
        color_coded=True,
        is_guess=True,
        checks=tuple(checks),
    )


def rename(meaning: Meaning, names: Sequence[str]) -> Meaning:
    """Puts the user's names in place of those that were made up.

    Raises:
        InputError: the classes are known, or there is another number of them.
    """
    if not meaning.is_guess or isinstance(meaning.classes, str):
        raise InputError(f"--classes: the labels are {meaning.text}, whose classes are known; leave it out")
    if len(names) != len(meaning.classes) or len(set(names)) < len(names):
        listing = ", ".join(meaning.classes)
        raise InputError(f"--classes: give {len(meaning.classes)} different names, in the order {listing}")
    new = dict(zip(meaning.classes, names, strict=True))
    ids = None if meaning.ids is None else {i: new[name] for i, name in meaning.ids.items()}
    soft_ids = {span: new[name] for span, name in meaning.soft_ids.items()}
    checks = meaning.checks[1:]
    return replace(meaning, classes=tuple(names), ids=ids, soft_ids=soft_ids, is_guess=False, checks=checks)
