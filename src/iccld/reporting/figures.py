"""Sheets of pictures as PNG files. A sheet is a grid of images, label maps or uncertainty maps with a legend."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from iccld.data.image_files import read_image, read_label
from iccld.data.interface import remap_table
from iccld.data.layouts import Layout
from iccld.drawing import colorize, heat_map, overlay
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.labels import LabelSpace
from iccld.reporting.charts import DPI, FONT_SIZE, INK, new_figure, save_png
from iccld.resizing import resize_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Panel = np.ndarray | None
"""An RGB image (uint8, h w 3), a label map (integers, h w), an uncertainty map (floats in [0, 1], h w), or ``None`` for
an empty cell."""
Picture = UInt8[np.ndarray, "_ _ 3"]
"""An RGB image. The pictures of one sheet can differ in size."""
Color = tuple[int, int, int]

_EDGE, _GAP, _HEADING = 10, 8, 38  # margin, gap between cells and height of headings in pixels
_LINE = round(FONT_SIZE * 1.3 * DPI / 72)  # line height of captions in pixels
_PANEL_WIDTH, _LABELED_WIDTH = 420, 390  # width in pixels of a picture in a grid and in a label sheet
_MOST_LABELED = 12  # maximum number of images in a label sheet
# A class is well visible in an image if the image has at least this fraction of the class's largest pixel count in any
# image.
_WELL_SEEN = 0.25


def prediction_grid(
    rows: Sequence[Sequence[Panel]], columns: Sequence[str], path: AnyPath, label_space: LabelSpace
) -> Path:
    """Draws rows of images, label maps and uncertainty maps to a PNG file, with a legend of the classes that occur.

    All panels of a row must have the same height and width. ``columns`` are the titles of the columns. Label values
    outside ``label_space`` are black.
    """
    assert rows
    found: set[int] = set()
    heat: list[tuple[str, Color]] = []
    cells: list[tuple[Picture | None, str]] = []
    for row in rows:
        assert len(row) == len(columns), "every row has one panel per column"
        shapes = {panel.shape[:2] for panel in row if panel is not None}
        assert len(shapes) == 1, f"the panels of a row differ in size: {sorted(shapes)}"
        for panel in row:
            picture = panel
            if panel is not None and panel.ndim == 2 and panel.dtype.kind == "f":
                picture = heat_map(panel.astype(np.float32))
                heat = [("sure", (0, 0, 0)), ("uncertain", (252, 253, 191))]
            elif panel is not None and panel.ndim == 2:
                found.update(np.unique(panel).tolist())
                picture = colorize(panel.astype(np.uint8), label_space)
            cells.append((None if picture is None else _scaled(picture, _PANEL_WIDTH), ""))
    entries = [(c.name, c.color) for index, c in enumerate(label_space.classes) if index in found]
    entries += [("not labeled", (0, 0, 0))] if found - set(range(len(label_space))) else []
    return _draw_page(cells, path, len(columns), _PANEL_WIDTH, headings=columns, entries=entries + heat)


def contact_sheet(
    cells: Iterable[Picture],
    captions: Iterable[str],
    path: AnyPath,
    *,
    columns: int = 3,
    cell_width: int = 480,
    rows_per_page: int = 8,
) -> list[Path]:
    """Draws pictures with captions in rows on one or more pages, and returns the paths of the PNG files.

    Each picture is scaled to a width of ``cell_width`` pixels. The caption is below the picture. If a line of a caption
    is too long, an ellipsis replaces the middle of the line. Pages are drawn one by one, so that pictures from a
    generator need little memory. The first page is written to ``path``, the second page to ``NAME_2.png``, and so on.
    Leftover pages of a longer previous sheet are removed.
    """
    path = Path(path)
    targets = itertools.chain([path], (path.with_stem(f"{path.stem}_{n}") for n in itertools.count(2)))
    pages: list[Path] = []
    pairs = ((_scaled(cell, cell_width), text) for cell, text in zip(cells, captions, strict=True))
    while page := list(itertools.islice(pairs, columns * rows_per_page)):
        filled = columns if pages else min(columns, len(page))
        pages.append(_draw_page(page, next(targets), filled, cell_width))
    for stale in itertools.takewhile(Path.exists, targets):
        stale.unlink()
    return pages


def label_sheet(
    layout: Layout, space: LabelSpace, shown: Mapping[str, Mapping[int, int]], path: AnyPath, *, title: str
) -> tuple[Path, int]:
    """Writes a PNG file with a legend and up to 12 images of a data set. The labels are drawn over the images.

    ``shown`` maps image names to the number of pixels of each label. For a data set without labels, ``shown`` is empty.
    If possible, the images are selected so that every class of ``space`` is visible. Returns the path of the file and
    the number of its images. Raises ``InputError`` if no image can be read, or the file cannot be written.
    """
    table = remap_table(layout.ids, layout.space, space)
    cells: list[tuple[Picture | None, str]] = []
    seen: set[int] = set()
    for index in choose_images([pair.name for pair in layout.pairs], shown, _MOST_LABELED):
        pair = layout.pairs[index]
        try:
            picture = _scaled(read_image(pair.image), _LABELED_WIDTH)
            if pair.name in shown and pair.label is not None:
                label = table[read_label(pair.label, layout.colors)]
                picture = overlay(picture, resize_label(label, picture.shape[:2]), space)
                seen.update(np.unique(label).tolist())
        except InputError:
            continue  # unreadable files are reported by the check of the data set
        cells.append((picture, pair.name))
    if not cells:
        raise InputError(f"{layout.root}: no image of it can be read, so there is nothing to draw")
    columns = min(4, max(2, len(cells)))
    entries = [(c.name, c.color) for index, c in enumerate(space.classes) if index in seen]
    return _draw_page(cells, path, columns, _LABELED_WIDTH, headings=[title], entries=entries), len(cells)


def choose_images(names: Sequence[str], shown: Mapping[str, Mapping[int, int]], count: int) -> list[int]:
    """Selects up to ``count`` images and returns their indices into ``names`` in ascending order.

    First, images are selected so that every class is well visible if possible, starting with the rarest class. The
    remaining images are spread over the data set. Images that are not in ``shown`` (see ``label_sheet``) are used only
    if ``shown`` is empty.
    """
    pool = [i for i, name in enumerate(names) if name in shown] or list(range(len(names)))
    totals: Counter[int] = Counter()
    for counts in shown.values():
        totals.update(counts)
    chosen: list[int] = []
    for label in sorted(totals, key=totals.__getitem__):
        best = max(pool, key=lambda i: shown.get(names[i], {}).get(label, 0))
        most = shown[names[best]].get(label, 0)
        seen = any(shown[names[i]].get(label, 0) >= _WELL_SEEN * most for i in chosen)
        if most and not seen and len(chosen) < count:
            chosen.append(best)
    rest = [i for i in pool if i not in chosen]
    while rest and len(chosen) < count:
        ends = chosen or [-1, len(names)]
        rest.sort(key=lambda i: min(abs(i - other) for other in ends))
        chosen.append(rest.pop())  # the image farthest from the chosen images
    return sorted(chosen)


def _scaled(picture: Picture, width: int) -> Picture:
    """Scales a picture to a width in pixels and keeps its aspect ratio."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    method = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)


def _draw_page(
    cells: Sequence[tuple[Picture | None, str]],
    path: AnyPath,
    columns: int,
    cell_width: int,
    *,
    headings: Sequence[str] = (),
    entries: Sequence[tuple[str, Color]] = (),
) -> Path:
    """Draws a grid of cells and a legend of ``entries``.

    A cell consists of a picture of width ``cell_width`` (or ``None``) and a caption.
    """
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    picture_heights = [max(0 if p is None else p.shape[0] for p, _ in row) for row in rows]
    num_lines = [max(len(text.splitlines()) for _, text in row) for row in rows]
    steps = [h + (n and n * _LINE + 6) + _GAP for h, n in zip(picture_heights, num_lines, strict=True)]
    width = 2 * _EDGE + columns * cell_width + (columns - 1) * _GAP
    legend_height, legend_columns = _legend_size([name for name, _ in entries], width - 2 * _EDGE)
    top = _EDGE + (_HEADING if headings else 0)
    height = top + sum(steps) - _GAP + _EDGE + legend_height
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = new_figure(width / DPI, height / DPI)
    for column, text in enumerate(headings):
        left = _EDGE + column * (cell_width + _GAP)
        figure.text(left / width, 1 - _EDGE / height, text, va="top", size=FONT_SIZE + 1, color=INK)
    with warnings.catch_warnings():
        # The font lacks the characters of many scripts. For such a character of a file name, a box is drawn.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for row, step in zip(rows, steps, strict=True):
            for column, (picture, text) in enumerate(row):
                left, bottom = _EDGE + column * (cell_width + _GAP), top
                if picture is not None:
                    bottom = top + picture.shape[0]
                    canvas[top:bottom, left : left + cell_width] = picture
                for index, line in enumerate(text.splitlines()):
                    _write(figure, line, left / width, 1 - (bottom + 4 + index * _LINE) / height, cell_width)
            top += step
        if entries:
            _draw_legend(figure, entries, legend_columns, _EDGE / width, legend_height / height)
        figure.figimage(canvas, 0, 0)
        return save_png(figure, path)


def _write(figure: Figure, line: str, x: float, y: float, longest: float) -> None:
    """Writes a line of text at (x, y) in fractions of the figure.

    If the line is longer than ``longest`` pixels, an ellipsis replaces the middle of the line.
    """
    # Formula parsing is off, because file names can contain dollar signs.
    text = figure.text(x, y, line, ha="left", va="top", size=FONT_SIZE, color=INK, parse_math=False)
    kept = len(line)
    while kept > 1 and (width := text.get_window_extent().width) > longest:
        kept = max(1, min(kept - 1, int(kept * longest / width)))
        head = (kept - 1) // 3
        text.set_text(f"{line[:head]}…{line[len(line) - (kept - 1 - head) :]}")


def _legend_size(names: Sequence[str], width: float) -> tuple[int, int]:
    """Returns the height in pixels and the number of columns of a legend that is at most ``width`` pixels wide."""
    if not names:
        return 0, 1
    most = max(1, min(len(names), int(width / DPI / (0.34 + 0.062 * max(map(len, names))))))
    num_rows = math.ceil(len(names) / most)
    # With the fewest columns that need no additional row, the columns are evenly filled.
    return round((0.12 + 0.16 * num_rows) * DPI), math.ceil(len(names) / num_rows)


def _draw_legend(
    figure: Figure, entries: Sequence[tuple[str, Color]], num_columns: int, left: float, top: float
) -> None:
    """Draws a legend, whose upper left corner is at (``left``, ``top``) in fractions of the figure."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor="#00000040", linewidth=0.5, label=name)
        for name, (r, g, b) in entries
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, top),
        ncols=num_columns,
        frameon=False,
        fontsize=FONT_SIZE - 1,
        labelcolor=INK,
        handlelength=1.1,
        borderaxespad=0,
        labelspacing=0.35,
    )
