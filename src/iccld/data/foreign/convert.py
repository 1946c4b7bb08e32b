"""Draws annotations as label maps (``iccld_labels/<split>/….png``), and describes them for ``dataset.toml``."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from iccld.data.autodetect.evidence import Evidence
from iccld.data.autodetect.guess import LABEL_FOLDER, Guess
from iccld.data.autodetect.meaning import Meaning
from iccld.data.foreign.placing import (
    common_folders,
    inner_name,
    refuse_links,
    remove_others,
    split_globs,
)
from iccld.data.foreign.raster import UNLABELED, rasterize
from iccld.data.foreign.shapes import AnnotatedImage, AnnotationSet
from iccld.data.image_files import Color, upright, write_png
from iccld.data.picture_header import read_header
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import open_regular
from iccld.labels import IGNORE, LabelSpace
from iccld.locks import claiming
from iccld.progress import track

Unlabeled = Literal["ignore", "background"]
BACKGROUND = "background"
OTHER_SIZE = "images of another size than in their annotations"
NO_SHAPES = "images without a shape that can be drawn"


@dataclass
class Conversion:
    """The result of drawing: the description for ``dataset.toml``, and counts for the report and for ``--json``."""

    guess: Guess
    facts: dict[str, Any]


@dataclass
class _Drawing:
    """Counts while label maps are drawn. ``pixels`` counts the values in the files."""

    space: LabelSpace
    pixels: Counter[int] = field(default_factory=Counter)
    num_unlabeled: int = 0
    written: dict[str, list[str]] = field(default_factory=dict)  # split → images with a label map

    @property
    def unlabeled(self) -> float:
        """Fraction of the pixels without an annotation."""
        return self.num_unlabeled / max(1, self.pixels.total())


def convert(
    found: AnnotationSet, root: Path, out: Path, *, unlabeled: Unlabeled = "ignore", draw: bool = True
) -> Conversion:
    """Draws the label maps of all annotated images into ``out/iccld_labels``.

    Files are replaced one by one, each atomically, so an interrupted call can be repeated. Label maps of earlier calls
    that do not belong to the data set any more are removed at the end.

    Args:
        found: The annotations.
        root: Folder of the data set.
        out: Folder of the ``dataset.toml``.
        unlabeled: ``ignore`` gives pixels without an annotation the value 255. ``background`` gives them a class.
        draw: Whether label maps are drawn. Otherwise, nothing is written, and no pixels are counted.

    Raises:
        InputError: No image can be drawn, two images have the same name, or ``out`` contains other label maps.
    """
    space = _space(found, root, unlabeled)
    drawing = _Drawing(space)
    bases = common_folders(found, root)
    if draw:
        folder = out / LABEL_FOLDER
        refuse_links(folder)
        with claiming(folder, "data init", "label maps drawn by 'iccld data init'"):
            kept = _draw_all(found, root, folder, bases, unlabeled, drawing)
            splits = split_globs(root, out, drawing.written, bases, kept)
            remove_others(folder, kept)
    else:
        for split, name in found.images:
            drawing.written.setdefault(split, []).append(name)
        splits = split_globs(root, out, drawing.written, bases, None)
    keys = {"classes": list(space.names), "colors": [list(color) for color in space.palette]}
    meaning = Meaning(
        f"class indices, drawn from {found.title}", keys, _checks(found, drawing, unlabeled, draw)
    )
    count = sum(map(len, drawing.written.values()))
    evidence = Evidence(count, count if draw else 0, count, drawing.pixels)
    guess = Guess(root, f"annotations in {found.title}", splits, meaning, evidence, notes=tuple(found.notes))
    dropped = {reason: number for reason, number in sorted(found.dropped.items()) if number}
    facts = {"format": found.title, "images": count, "dropped": dropped, "unlabeled_as": unlabeled}
    return Conversion(guess, facts | {"unlabeled": round(drawing.unlabeled, 6) if draw else None})


def _space(found: AnnotationSet, root: Path, unlabeled: Unlabeled) -> LabelSpace:
    if not found.images:
        raise InputError(f"{root}: none of the images that {found.title} names is there; {_summary(found)}")
    colors: dict[str, Color | None] = dict(found.classes)
    if unlabeled == BACKGROUND and BACKGROUND not in colors:
        colors = {BACKGROUND: (0, 0, 0), **colors}
    if not colors:
        raise InputError(f"{root}: {found.title} names no class; label something first")
    default = LabelSpace.from_names(found.title, list(colors))
    used = [colors[c.name] or c.color for c in default.classes]
    return LabelSpace.from_names(found.title, list(colors), used)


def _summary(found: AnnotationSet) -> str:
    reasons = [f"{number} {reason}" for reason, number in sorted(found.dropped.items()) if number]
    return f"left out: {', '.join(reasons) or 'nothing'}"


def _draw_all(
    found: AnnotationSet,
    root: Path,
    folder: Path,
    bases: Mapping[str, str],
    unlabeled: Unlabeled,
    drawing: _Drawing,
) -> set[Path]:
    """Writes the label map of each image with a labeled pixel, and returns the written files."""
    names = drawing.space.names
    indices = {name: index for index, name in enumerate(names)}
    table = np.arange(256).astype(np.uint8)
    table[UNLABELED] = indices[BACKGROUND] if unlabeled == BACKGROUND else IGNORE
    kept: set[Path] = set()
    for image in track(found.images.values(), len(found.images), "drawing label maps"):
        labels = _draw(image, root, indices, found)
        if labels is None:
            continue
        num_unlabeled = int(np.count_nonzero(labels == UNLABELED))
        labels = table[labels]
        if labels.min() == IGNORE:
            found.dropped[NO_SHAPES] += 1
            continue
        drawing.num_unlabeled += num_unlabeled
        counts = np.bincount(labels.ravel())
        drawing.pixels.update({int(i): int(counts[i]) for i in np.flatnonzero(counts)})
        path = (
            folder / image.split / f"{posixpath.splitext(inner_name(image.name, bases[image.split]))[0]}.png"
        )
        kept.add(write_png(path, labels, drawing.space.palette))
        drawing.written.setdefault(image.split, []).append(image.name)
    if not kept:
        raise InputError(f"{root}: {found.title} has no shape that can be drawn; {_summary(found)}")
    return kept


def _draw(
    image: AnnotatedImage, root: Path, indices: Mapping[str, int], found: AnnotationSet
) -> UInt8[np.ndarray, "h w"] | None:
    """Returns the label map of an image, or ``None`` if the annotations are for another size."""
    path = root / image.name
    with open_regular(path) as file:
        header = read_header(path, file)
    size = image.size or header.size
    is_turned = size != header.size and size == header.stored
    if size != header.size and not is_turned:
        found.dropped[OTHER_SIZE] += 1
        return None
    shapes = (shape for load in image.loads for shape in load())
    labels = rasterize(shapes, size, indices, found.dropped, f"{image.where}: {shortened(image.name, 100)}")
    return upright(labels, header.orientation) if is_turned else labels


def _checks(found: AnnotationSet, drawing: _Drawing, unlabeled: Unlabeled, draw: bool) -> tuple[str, ...]:
    """Returns sentences about unlabeled pixels and about everything that was not taken over."""
    checks = []
    if draw and drawing.num_unlabeled:
        share = f"{drawing.unlabeled:.1%} of the pixels have no annotation"
        if unlabeled == BACKGROUND:
            checks.append(f"{share} and became the class {BACKGROUND}.")
        else:
            remedy = f"--unlabeled {BACKGROUND} makes them a class"
            checks.append(f"{share} and became 255 (ignore): {remedy}.")
    checks += [f"Not drawn: {number} {reason}." for reason, number in sorted(found.dropped.items()) if number]
    if not draw:
        checks.append("The label maps were not drawn yet, so nothing was counted in them.")
    return tuple(checks)
