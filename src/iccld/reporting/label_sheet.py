"""A sheet of images with their labels laid over them: whether the numbers mean what somebody thought."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from iccld.data.datasets import remap_table
from iccld.data.image_files import read_image, read_label
from iccld.data.layouts import FilePair, Layout
from iccld.errors import InputError
from iccld.inference.rendering import overlay
from iccld.labels import LabelSpace
from iccld.reporting.canvas import FONT_SIZE, INK, new_figure, save_png
from iccld.reporting.figures import draw_legend, legend_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4
_CELL_WIDTH = 2.6  # inches
_CELL_PIXELS = 480
_CAPTION = 0.2
_GAP, _EDGE, _TITLE = 0.06, 0.08, 0.28
_CAPTION_LETTERS = 46
_WELL_SEEN = 0.25  # share of the pixels that a class has where it is seen best


def label_sheet(
    layout: Layout,
    space: LabelSpace,
    shown: Mapping[str, Mapping[int, int]],
    path: str | os.PathLike[str],
    *,
    title: str,
    count: int = 12,
) -> tuple[Path, int]:
    """Draws images of a data set with their labels over them at half opacity, names below, a legend last.

    Args:
        layout: the files.
        space: the classes to show; pixels of none of them show the image alone.
        shown: name of an image → pixels of each label, as a check counted them. Images are chosen so that
            every class is seen. Empty for a data set without labels.
        path: the PNG file.
        title: the first line.
        count: how many images.

    Returns:
        ``path`` and the number of images on it.

    Raises:
        InputError: no image can be read, or the file cannot be written.
    """
    table = remap_table(layout.ids, layout.space, space)
    cells: list[_Cell] = []
    for index in choose_images([pair.name for pair in layout.pairs], shown, count):
        pair = layout.pairs[index]
        try:
            cells.append(_cell(pair, layout, space, table, has_label=pair.name in shown))
        except InputError:
            continue  # the check has named the file already
    if not cells:
        raise InputError(f"{layout.root}: no image of it can be read, so there is nothing to draw")
    return _draw(cells, space, path, title), len(cells)


def choose_images(names: Sequence[str], shown: Mapping[str, Mapping[int, int]], count: int) -> list[int]:
    """Chooses images that show every class well if possible, rare classes first, and are spread over the set.

    Args:
        names: of all images, in order.
        shown: name → pixels of each label; images that are missing are used for spreading only if it is empty.
        count: how many.

    Returns:
        Indices into ``names``, ascending.
    """
    pool = [i for i, name in enumerate(names) if name in shown] or list(range(len(names)))
    totals: dict[int, int] = {}
    for counts in shown.values():
        for label, pixels in counts.items():
            totals[label] = totals.get(label, 0) + pixels
    chosen: list[int] = []
    for label in sorted(totals, key=lambda k: totals[k]):
        best = max(pool, key=lambda i: shown.get(names[i], {}).get(label, 0))
        most = shown[names[best]].get(label, 0)
        seen = any(shown[names[i]].get(label, 0) >= _WELL_SEEN * most for i in chosen)
        if most and not seen and len(chosen) < count:
            chosen.append(best)
    rest = [i for i in pool if i not in chosen]
    while rest and len(chosen) < count:
        ends = chosen or [-1, len(names)]
        farthest = max(rest, key=lambda i: min(abs(i - other) for other in ends))
        chosen.append(farthest)
        rest.remove(farthest)
    return sorted(chosen)


@dataclass(frozen=True)
class _Cell:
    caption: str
    picture: UInt8[np.ndarray, "h w 3"]
    labels: frozenset[int]


def _cell(pair: FilePair, layout: Layout, space: LabelSpace, table: np.ndarray, *, has_label: bool) -> _Cell:
    image = read_image(pair.image)
    scale = min(1.0, _CELL_PIXELS / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if not has_label or pair.label is None:
        return _Cell(pair.name, image, frozenset())
    label = table[read_label(pair.label, layout.colors)]
    small = np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
    found = frozenset(int(value) for value in np.unique(label) if value < len(space))
    return _Cell(pair.name, overlay(image, small, space, opacity=0.5), found)


def _draw(cells: Sequence[_Cell], space: LabelSpace, path: str | os.PathLike[str], title: str) -> Path:
    num_columns = min(_COLUMNS, max(2, len(cells)))
    rows = [cells[i : i + num_columns] for i in range(0, len(cells), num_columns)]
    heights = [
        max(min(1.3, cell.picture.shape[0] / cell.picture.shape[1]) for cell in row) * _CELL_WIDTH
        for row in rows
    ]
    width = 2 * _EDGE + num_columns * _CELL_WIDTH + (num_columns - 1) * _GAP
    seen = frozenset(label for cell in cells for label in cell.labels)
    entries = [
        (c.name, (c.color[0] / 255, c.color[1] / 255, c.color[2] / 255))
        for index, c in enumerate(space.classes)
        if index in seen
    ]
    legend_height, legend_columns = legend_size(entries, width - 2 * _EDGE)
    height = _TITLE + sum(heights) + len(rows) * (_CAPTION + _GAP) + 2 * _EDGE + legend_height
    figure = new_figure(width, height)
    figure.text(
        _EDGE / width, 1 - _TITLE / 2 / height, title, ha="left", va="center", size=FONT_SIZE + 1, color=INK
    )
    top = height - _TITLE
    for row, row_height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = _EDGE + column * (_CELL_WIDTH + _GAP)
            _draw_cell(figure, cell, (left, top - row_height, _CELL_WIDTH, row_height), (width, height))
        top -= row_height + _CAPTION + _GAP
    if entries:
        draw_legend(figure, entries, legend_columns, _EDGE / width, (_EDGE + legend_height - 0.06) / height)
    return save_png(figure, path)


def _draw_cell(
    figure: Figure, cell: _Cell, box: tuple[float, float, float, float], size: tuple[float, float]
) -> None:
    """Fits a picture into its box (left, bottom, width, height in inches) and writes its name below."""
    left, bottom, box_width, box_height = box
    aspect = cell.picture.shape[0] / cell.picture.shape[1]
    width = min(box_width, box_height / aspect)
    height = width * aspect
    corner = (left + (box_width - width) / 2, bottom + box_height - height)
    axes = figure.add_axes(
        (corner[0] / size[0], corner[1] / size[1], width / size[0], height / size[1]),
    )
    axes.set_axis_off()
    axes.imshow(cell.picture, aspect="auto")
    name = cell.caption
    name = name if len(name) <= _CAPTION_LETTERS else "…" + name[1 - _CAPTION_LETTERS :]
    figure.text(
        (left + box_width / 2) / size[0],
        (bottom - _CAPTION / 2) / size[1],
        name,
        ha="center",
        va="center",
        size=FONT_SIZE - 2,
        color=INK,
        parse_math=False,
    )
