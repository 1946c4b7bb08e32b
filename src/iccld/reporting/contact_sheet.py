"""Contact sheets: many small pictures with captions, on as many PNG pages as they need."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from iccld.reporting.canvas import FONT_SIZE, INK, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 150  # of new_figure
_EDGE, _GAP = 16, 12  # pixels
_LINE = round(FONT_SIZE * 1.3 * _DPI / 72)  # pixels from one line of a caption to the next

Picture = UInt8[np.ndarray, "_ _ 3"]
"""RGB; pictures of one sheet may differ in size."""


def contact_sheet(
    cells: Iterable[Picture],
    captions: Iterable[str],
    path: str | os.PathLike[str],
    *,
    columns: int = 3,
    cell_width: int = 480,
    rows_per_page: int = 8,
) -> list[Path]:
    """Draws pictures in rows, each with its caption below.

    Pages are drawn one after the other, so that ``cells`` may be made on the way and few are in memory.

    Args:
        cells: RGB pictures of any size; each is scaled to the width of a cell. Pages hold them from left to right and
            from top to bottom.
        captions: one for each, of one or more lines; lines that are too long lose their middle.
        path: the PNG file; further pages are called ``NAME_2.png`` and on. Those of an earlier, longer sheet are
            removed.
        columns: pictures in a row.
        cell_width: pixels.
        rows_per_page: rows of pictures on a page.

    Returns:
        The pages.

    Raises:
        InputError: a page cannot be written.
    """
    path = Path(path)
    pages: list[Path] = []
    pairs = iter(zip(cells, captions, strict=True))
    while page := list(
        islice(((_scaled(cell, cell_width), text) for cell, text in pairs), columns * rows_per_page)
    ):
        target = _page_path(path, len(pages) + 1)
        with warnings.catch_warnings():
            # The font lacks many scripts; file names in them show boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            _draw_page(page, target, min(columns, len(page)) if not pages else columns, cell_width)
        pages.append(target)
    number = len(pages) + 1
    while (stale := _page_path(path, number)).exists():
        stale.unlink()
        number += 1
    return pages


def _page_path(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}_{number}")


def _scaled(cell: Picture, width: int) -> Picture:
    height = max(1, round(cell.shape[0] * width / cell.shape[1]))
    method = cv2.INTER_AREA if width < cell.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cell, (width, height), interpolation=method), dtype=np.uint8)


def _draw_page(page: list[tuple[np.ndarray, str]], path: Path, columns: int, cell_width: int) -> None:
    rows = [page[start : start + columns] for start in range(0, len(page), columns)]
    picture_heights = [max(cell.shape[0] for cell, _ in row) for row in rows]
    caption_heights = [_LINE * max(text.count("\n") + 1 for _, text in row) + 6 for row in rows]
    height = 2 * _EDGE + sum(picture_heights) + sum(caption_heights) + _GAP * (len(rows) - 1)
    width = 2 * _EDGE + columns * cell_width + (columns - 1) * _GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = new_figure(width / _DPI, height / _DPI)
    top = _EDGE
    for row, picture_height, caption_height in zip(rows, picture_heights, caption_heights, strict=True):
        for column, (cell, text) in enumerate(row):
            left = _EDGE + column * (cell_width + _GAP)
            canvas[top : top + cell.shape[0], left : left + cell_width] = cell
            for index, line in enumerate(text.split("\n")):
                y = 1 - (top + cell.shape[0] + 4 + index * _LINE) / height
                _write(figure, line, left / width, y, cell_width)
        top += picture_height + caption_height + _GAP
    figure.figimage(canvas, 0, 0)
    save_png(figure, path)


def _write(figure: Figure, line: str, x: float, y: float, longest: float) -> None:
    """Writes a line, without its middle where it is longer than so many pixels: the ends of file names tell more."""
    # File names may hold dollar signs, which would otherwise start a formula.
    text = figure.text(x, y, line, ha="left", va="top", size=FONT_SIZE, color=INK, parse_math=False)
    kept = len(line)
    while kept > 1 and (width := text.get_window_extent().width) > longest:
        kept = max(1, min(kept - 1, int(kept * longest / width)))
        head = (kept - 1) // 3
        text.set_text(f"{line[:head]}…{line[len(line) - (kept - 1 - head) :]}")
