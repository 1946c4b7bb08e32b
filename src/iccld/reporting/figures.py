"""Figures as PNG files: grids of images, truths and predictions; ``curves`` of training."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iccld.inference.rendering import colorize
from iccld.labels import LabelSpace
from iccld.reporting.canvas import FONT_SIZE, INK, new_figure, save_png
from iccld.reporting.curves import curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = np.ndarray | None
"""An RGB image (uint8, h w 3), a label map (integers, h w), an uncertainty map (floats in [0, 1], h w), or
None for an empty place."""
__all__ = ["Panel", "curves", "prediction_grid"]


def prediction_grid(
    rows: Sequence[Sequence[Panel]],
    columns: Sequence[str],
    path: str | os.PathLike[str],
    label_space: LabelSpace,
    *,
    panel_width: float = 2.8,
) -> Path:
    """Draws rows of images, label maps and uncertainty maps, with a legend of the classes that occur.

    Args:
        rows: one sequence of panels per image; each row's panels share one height and width.
        columns: the titles, one per panel of a row.
        path: the PNG file.
        label_space: names and colors of the label maps; other values, 255 among them, are black.
        panel_width: inches.

    Returns:
        ``path``.
    """
    assert rows
    assert all(len(row) == len(columns) for row in rows), "every row has one panel per column"
    gap, title, edge = 0.05, 0.26, 0.06
    heights = [panel_width * _aspect(row) for row in rows]
    width = 2 * edge + len(columns) * panel_width + (len(columns) - 1) * gap
    entries = _legend_entries(rows, label_space)
    has_heat = any(_is_heat(panel) for row in rows for panel in row)
    bar = 1.9 if has_heat else 0.0
    legend_height, legend_columns = legend_size(entries, width - 2 * edge - bar)
    legend_height = max(legend_height, 0.42 if has_heat else 0.0)
    height = title + sum(heights) + gap * (len(rows) - 1) + 2 * edge + legend_height
    figure = new_figure(width, height)
    top = height - title
    for row, row_height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            if panel is not None:
                left = edge + column * (panel_width + gap)
                box = (left / width, (top - row_height) / height, panel_width / width, row_height / height)
                _draw_panel(figure.add_axes(box), panel, label_space)
        top -= row_height + gap
    for column, text in enumerate(columns):
        center = edge + column * (panel_width + gap) + panel_width / 2
        figure.text(
            center / width,
            1 - title / 2 / height,
            text,
            ha="center",
            va="center",
            size=FONT_SIZE + 1,
            color=INK,
        )
    if entries:
        draw_legend(figure, entries, legend_columns, edge / width, (edge + legend_height - 0.06) / height)
    if has_heat:
        _draw_heat_scale(figure, width, height, edge, legend_height)
    return save_png(figure, path)


# -- panels ------------------------------------------------------------------------------------------


def _is_heat(panel: Panel) -> bool:
    return panel is not None and panel.ndim == 2 and panel.dtype.kind == "f"


def _is_labels(panel: Panel) -> bool:
    return panel is not None and panel.ndim == 2 and panel.dtype.kind in "iu"


def _aspect(row: Sequence[Panel]) -> float:
    """Height over width of a row's panels."""
    shapes = {panel.shape[:2] for panel in row if panel is not None}
    assert len(shapes) == 1, f"the panels of a row differ in size: {sorted(shapes)}"
    height, width = shapes.pop()
    return float(height / width)


def _draw_panel(axes: Axes, panel: np.ndarray, space: LabelSpace) -> None:
    axes.set_axis_off()
    if _is_heat(panel):
        axes.imshow(panel, cmap="magma", vmin=0, vmax=1, aspect="auto")
    else:
        axes.imshow(colorize(panel.astype(np.uint8), space) if _is_labels(panel) else panel, aspect="auto")


# -- legends -----------------------------------------------------------------------------------------


def _legend_entries(
    rows: Sequence[Sequence[Panel]], space: LabelSpace
) -> list[tuple[str, tuple[float, float, float]]]:
    """Names and colors of the classes in the label maps, then what black stands for if there is any."""
    found: set[int] = set()
    for row in rows:
        for panel in row:
            if panel is not None and _is_labels(panel):
                found.update(int(value) for value in np.unique(panel))
    entries = [
        (c.name, (c.color[0] / 255, c.color[1] / 255, c.color[2] / 255))
        for index, c in enumerate(space.classes)
        if index in found
    ]
    return [*entries, ("not labeled", (0.0, 0.0, 0.0))] if found - set(range(len(space))) else entries


def legend_size(entries: Sequence[tuple[str, object]], width: float) -> tuple[float, int]:
    """Height in inches and number of columns of a legend that fits the width."""
    if not entries:
        return 0.0, 1
    longest = max(len(name) for name, _ in entries)
    most = max(1, min(len(entries), int(width / (0.34 + 0.062 * longest))))
    num_rows = math.ceil(len(entries) / most)
    # As few columns as that many rows allow, so that the last column is not left short.
    return 0.08 + 0.16 * num_rows, math.ceil(len(entries) / num_rows)


def draw_legend(
    figure: Figure,
    entries: Sequence[tuple[str, tuple[float, float, float]]],
    num_columns: int,
    left: float,
    top: float,
) -> None:
    """Draws names beside their colors; ``left`` and ``top`` are shares of the figure's size."""
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(facecolor=color, edgecolor="#00000040", linewidth=0.5, label=n) for n, color in entries
        ],
        loc="upper left",
        bbox_to_anchor=(left, top),
        ncols=num_columns,
        frameon=False,
        fontsize=FONT_SIZE - 1,
        labelcolor=INK,
        handlelength=1.1,
        handleheight=1.1,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
        borderpad=0,
        borderaxespad=0,
    )


def _draw_heat_scale(figure: Figure, width: float, height: float, edge: float, legend_height: float) -> None:
    """A small bar at the lower right that says what the colors of the uncertainty mean."""
    length, thickness = 1.7, 0.1
    left, bottom = width - edge - length, edge + legend_height - 0.08 - thickness
    axes = figure.add_axes((left / width, bottom / height, length / width, thickness / height))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="magma", aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([0, 1], ["sure", "uncertain"])
    axes.tick_params(length=0, pad=2, labelsize=FONT_SIZE - 1, labelcolor=INK)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    for spine in axes.spines.values():
        spine.set_visible(False)
