"""Sheets of pictures as PNG files: images, label maps and uncertainty maps in a grid, with captions and a legend."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from iccld.drawing import colorize, heat_map
from iccld.files import AnyPath
from iccld.labels import LabelSpace
from iccld.reporting.charts import DPI, FONT_SIZE, INK, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Panel = np.ndarray | None
"""An RGB image (uint8, h w 3), a label map (integers, h w), an uncertainty map (floats in [0, 1], h w), or ``None`` for
an empty cell."""
Picture = UInt8[np.ndarray, "_ _ 3"]
"""An RGB image; the pictures of one sheet may differ in size."""
Color = tuple[int, int, int]

_EDGE, _GAP, _HEADING = 10, 8, 38  # margin, gap between cells and height of headings in pixels
_LINE = round(FONT_SIZE * 1.3 * DPI / 72)  # line height of captions in pixels


def prediction_grid(
    rows: Sequence[Sequence[Panel]],
    columns: Sequence[str],
    path: AnyPath,
    label_space: LabelSpace,
    *,
    panel_width: float = 2.8,
) -> Path:
    """Draws rows of images, label maps and uncertainty maps to a PNG file, with a legend of the classes that occur.

    All panels of a row must have the same height and width. ``columns`` are the titles of the columns. Label values
    outside ``label_space`` are black. ``panel_width`` is the width of a drawn panel in inches.
    """
    assert rows
    found: set[int] = set()
    heat: list[tuple[str, Color]] = []
    cells: list[tuple[Picture | None, str]] = []
    cell_width = round(panel_width * DPI)
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
            cells.append((None if picture is None else scaled(picture, cell_width), ""))
    entries = [(c.name, c.color) for index, c in enumerate(label_space.classes) if index in found]
    entries += [("not labeled", (0, 0, 0))] if found - set(range(len(label_space))) else []
    return draw_page(cells, path, len(columns), cell_width, headings=columns, entries=entries + heat)


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

    Each picture is scaled to a width of ``cell_width`` pixels, and its caption is below it. If a line of a caption is
    too long, an ellipsis replaces its middle. Pages are drawn one by one, so that pictures from a generator need little
    memory. The first page is written to ``path``, the next one to ``NAME_2.png``, and so on. Pages that are left over
    from a longer previous sheet are removed.
    """
    path = Path(path)
    pages: list[Path] = []
    pairs = ((scaled(cell, cell_width), text) for cell, text in zip(cells, captions, strict=True))
    while page := list(islice(pairs, columns * rows_per_page)):
        target = _page_path(path, len(pages) + 1)
        draw_page(page, target, min(columns, len(page)) if not pages else columns, cell_width)
        pages.append(target)
    number = len(pages) + 1
    while (stale := _page_path(path, number)).exists():
        stale.unlink()
        number += 1
    return pages


def scaled(picture: Picture, width: int) -> Picture:
    """Scales a picture to a width in pixels and keeps its aspect ratio."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    method = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)


def draw_page(
    cells: Sequence[tuple[Picture | None, str]],
    path: AnyPath,
    columns: int,
    cell_width: int,
    *,
    headings: Sequence[str] = (),
    entries: Sequence[tuple[str, Color]] = (),
) -> Path:
    """Draws a page with a grid of cells to a PNG file and returns the path.

    Each cell has a caption and a picture of width ``cell_width`` in pixels (``None`` if empty). ``headings`` are
    the titles of the columns, from the first column on. ``entries`` are the names and colors of the legend.
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
        # The font lacks the characters of many scripts. If a file name contains such a character, a box is drawn, and
        # matplotlib's warning is hidden.
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


def _page_path(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}_{number}")


def _write(figure: Figure, line: str, x: float, y: float, longest: float) -> None:
    """Writes a line of text at (x, y), in fractions of the figure.

    If the line is longer than ``longest`` pixels, an ellipsis replaces its middle, because file names usually differ at
    the beginning or the end.
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
    # The smallest number of columns that needs this number of rows is used, so that the columns are evenly filled.
    return round((0.12 + 0.16 * num_rows) * DPI), math.ceil(len(names) / num_rows)


def _draw_legend(
    figure: Figure, entries: Sequence[tuple[str, Color]], num_columns: int, left: float, top: float
) -> None:
    """Draws a legend of names beside their colors.

    ``left`` and ``top`` are the position of its upper left corner as fractions of the figure's width and height.
    """
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor="#00000040", linewidth=0.5, label=name)
            for name, (r, g, b) in entries
        ],
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
