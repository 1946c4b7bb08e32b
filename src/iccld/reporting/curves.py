"""Curves of training: losses and scores over the steps, for one or several runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iccld.errors import InputError
from iccld.reporting.canvas import FAINT_INK, FONT_SIZE, INK, new_figure, save_png
from iccld.training.tracking import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metrics = Mapping[str, Sequence[float]]
"""Metric name → values, with the steps they were taken at under ``step``; NaN where there is none."""

# Okabe and Ito's palette: told apart by color-blind readers too.
_RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def curves(
    runs: Mapping[str, Metrics | str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    keys: Sequence[str] | None = None,
) -> Path:
    """Draws losses and scores over the steps, one panel per metric, one color per run.

    Args:
        runs: name → metrics, or the ``metrics.csv`` that they are in.
        path: the PNG file.
        keys: the metrics, in order; by default ``val/miou`` and everything that begins with ``train/loss``.

    Returns:
        ``path``.

    Raises:
        InputError: a CSV file cannot be read, or no run has any of the metrics.
    """
    tables = {name: m if isinstance(m, Mapping) else read_table(Path(m)) for name, m in runs.items()}
    present = list(dict.fromkeys(key for table in tables.values() for key in table if key != "step"))
    if keys is None:
        keys = [k for k in present if k == "val/miou"] + [k for k in present if k.startswith("train/loss")]
    shown = [key for key in keys if key in present]
    if not shown:
        raise InputError(f"{', '.join(runs)}: no metrics to draw; let the runs log some steps first")
    num_columns = 2 if len(shown) == 4 else min(3, len(shown))
    num_rows = math.ceil(len(shown) / num_columns)
    figure = new_figure(3.4 * num_columns, 2.3 * num_rows + 0.35)
    figure.set_layout_engine("constrained")
    last_step = max(max(table["step"], default=1) for table in tables.values())
    for place, key in enumerate(shown, start=1):
        axes = figure.add_subplot(num_rows, num_columns, place)
        for index, table in enumerate(tables.values()):
            if key in table:
                _draw_curve(axes, table["step"], table[key], _RUN_COLORS[index % len(_RUN_COLORS)])
        # One range for all: a panel of few points still shows when they were taken.
        axes.set_xlim(-0.015 * last_step, 1.015 * last_step)
        _dress_axes(axes, key, is_bottom=place > len(shown) - num_columns)
    _draw_run_legend(figure, list(tables))
    return save_png(figure, path)


def read_table(path: Path) -> dict[str, list[float]]:
    """Reads a run's ``metrics.csv`` as columns, NaN where a row has no figure.

    Raises:
        InputError: the file is missing or no table of numbers.
    """
    rows = read_metrics(path)
    if not rows:
        raise InputError(f"{path}: has no rows; give the metrics.csv of a run")
    names = ["step", *sorted({name for row in rows for name in row} - {"step"})]
    return {name: [float(row.get(name, "nan")) for row in rows] for name in names}


def _draw_curve(axes: Axes, steps: Sequence[float], values: Sequence[float], color: str) -> None:
    """A line; one of many points is drawn faintly under its running mean."""
    step, value = np.asarray(steps, float), np.asarray(values, float)
    kept = np.isfinite(value)
    step, value = step[kept], value[kept]
    if len(value) < 30:
        axes.plot(step, value, color=color, linewidth=1.6, marker="o", markersize=3.5)
        return
    axes.plot(step, value, color=color, linewidth=0.7, alpha=0.25)
    axes.plot(step, running_mean(value, reach=max(1, len(value) // 50)), color=color, linewidth=1.6)


def running_mean(values: np.ndarray, *, reach: int) -> np.ndarray:
    """The mean of each value and of up to ``reach`` neighbors on either side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, end = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    return np.asarray((sums[end] - sums[first]) / (end - first))


def _dress_axes(axes: Axes, key: str, *, is_bottom: bool) -> None:
    axes.set_title(title_of(key), fontsize=FONT_SIZE + 1, color=INK, loc="left")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=FONT_SIZE - 1, labelcolor=FAINT_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#bbbbbb")
    if is_bottom:
        axes.set_xlabel("step", fontsize=FONT_SIZE - 1, color=FAINT_INK)


def title_of(key: str) -> str:
    """Turns a logged key into words: ``train/loss_seg_source`` → segmentation loss, source."""
    if key == "val/miou":
        return "mIoU on validation images, %"
    name = key.split("/", 1)[-1]
    if not name.startswith("loss_"):
        return name.replace("_", " ")
    kind, _, domain = name.removeprefix("loss_").partition("_")
    kind = "segmentation" if kind == "seg" else kind
    return f"{kind} loss, {domain.replace('_', ' ')}" if domain else f"{kind} loss"


def _draw_run_legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    colors = [_RUN_COLORS[i % len(_RUN_COLORS)] for i in range(len(names))]
    figure.legend(
        handles=[Line2D([], [], color=c, linewidth=2, label=n) for n, c in zip(names, colors, strict=True)],
        loc="outside upper left",
        ncols=len(names),
        frameon=False,
        fontsize=FONT_SIZE,
        labelcolor=INK,
        handlelength=1.4,
    )
