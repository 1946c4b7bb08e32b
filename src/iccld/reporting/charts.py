"""Charts of training curves as PNG or SVG, and creation of matplotlib figures without global state."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iccld.escaping import visible_lines
from iccld.files import AnyPath, write_atomic

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from iccld.reporting.record import Calibration

FONT_SIZE = 9.0
INK = "#222222"
FAINT_INK = "#8a8a8a"
LINE = "#e0e0e0"
DPI = 150
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#332288")
"""Colors of the curves, which color-blind readers can distinguish. Six colors are from the palette of Okabe and Ito."""
_FEW_POINTS, _MOST_POINTS = 30, 300
# Size of an SVG chart in inches, and position of its axes as fractions of this size (left, bottom, width, height). Both
# are fixed, because a layout engine would need most of the drawing time.
_SIZE, _PLACE = (3.9, 2.2), (0.13, 0.17, 0.85, 0.75)


@dataclass(frozen=True)
class Series:
    """A curve with its name, its training steps and values, and the index of its color in ``COLORS``."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    color: int = 0

    def finite(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the steps and values of the points with a finite value."""
        steps, values = np.asarray(self.steps, float), np.asarray(self.values, float)
        kept = np.isfinite(values)
        return steps[kept], values[kept]


@dataclass(frozen=True)
class Chart:
    """A chart of curves over the training steps.

    The value axis extends from ``low`` to ``high``. A limit that is ``None`` is derived from the values. ``level``
    consists of a reference value and its name. A dashed line marks this value. If ``stacked`` is true, the series are
    drawn as stacked areas.
    """

    title: str
    series: tuple[Series, ...]
    low: float | None = None
    high: float | None = None
    level: tuple[float, str] | None = None
    stacked: bool = False

    def svg(self) -> Markup:
        """Draws the chart as SVG for an HTML page, without title and legend, which the page itself contains."""
        figure = new_figure(*_SIZE)
        _draw(figure.add_axes(_PLACE), self)
        last = [(s.name, *(part[-1] for part in s.finite())) for s in self.series]
        told = "; ".join(f"{name}: {value:.4g} at step {step:.0f}" for name, step, value in last)
        return to_svg(figure, f"{self.title}. {told}")


def reliability_svg(calibration: Calibration, color: int = 0) -> Markup:
    """Draws a reliability diagram (accuracy over confidence). Gray bars show the fraction of the pixels in each bin."""
    count, total = len(calibration.pixels), sum(calibration.pixels) or 1
    left, paint = np.arange(count) / count, COLORS[color % len(COLORS)]
    figure = new_figure(*_SIZE)
    axes = figure.add_axes(_PLACE)
    axes.bar(left, [n / total for n in calibration.pixels], 1 / count, align="edge", color=LINE)
    accuracy = [share or 0.0 for share in calibration.accuracy]
    axes.bar(left + 0.05 / count, accuracy, 0.9 / count, align="edge", color=paint, alpha=0.55)
    axes.plot([0, 1], [0, 1], color=FAINT_INK, linewidth=0.8, linestyle="--")
    pairs = zip(calibration.confidence, calibration.accuracy, strict=True)
    points = [(c, a) for c, a in pairs if c is not None and a is not None]
    if points:
        axes.plot(*zip(*points, strict=True), "o", color=paint, markersize=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _dress(axes)
    spoken = ", ".join(f"{c:.2f}: {a:.2f}" for c, a in points)
    return to_svg(figure, f"Reliability diagram. Accuracy by mean confidence: {spoken}")


def running_mean(values: np.ndarray, *, reach: int) -> np.ndarray:
    """Returns, for each value, the mean of the value and up to ``reach`` neighbors on either side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, end = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    return np.asarray((sums[end] - sums[first]) / (end - first))


def save_panels(
    charts: Sequence[Chart], path: AnyPath, num_columns: int, last_step: float, run_names: Sequence[str] = ()
) -> Path:
    """Draws each chart as a panel of one PNG file. The step axis of all panels ends at ``last_step``.

    If ``run_names`` are given, one legend above all panels names the runs. Otherwise, each panel with several curves
    has its own legend.
    """
    from matplotlib.lines import Line2D

    num_rows = math.ceil(len(charts) / num_columns)
    height = 2.3 * num_rows + (0.35 if run_names else 0.0)
    figure = new_figure(3.4 * num_columns, height)
    figure.set_layout_engine("constrained")
    for place, chart in enumerate(charts, start=1):
        axes = figure.add_subplot(num_rows, num_columns, place)
        _draw(axes, chart)
        axes.set_title(chart.title, fontsize=FONT_SIZE + 1, color=INK, loc="left")
        # All panels have the same range of steps, so that curves in different panels can be compared.
        axes.set_xlim(-0.015 * last_step, 1.015 * last_step)
        if place <= len(charts) - num_columns:
            axes.set_xlabel("")
        if len(chart.series) > 1 and not run_names:
            axes.legend(fontsize=FONT_SIZE - 1.5, labelcolor=INK, framealpha=0.85, edgecolor="none")
    if run_names:
        lines = [Line2D([], [], color=COLORS[i % len(COLORS)], label=n) for i, n in enumerate(run_names)]
        figure.legend(
            handles=lines, loc="outside upper left", ncols=len(lines), frameon=False, labelcolor=INK
        )
    return save_png(figure, path)


def _draw(axes: Axes, chart: Chart) -> None:
    if chart.stacked:
        values = np.nan_to_num(np.array([s.values for s in chart.series], float))
        kept = values.sum(axis=0) > 0
        steps = np.asarray(chart.series[0].steps, float)[kept]
        names = [s.name for s in chart.series]
        colors = [COLORS[s.color % len(COLORS)] for s in chart.series]
        axes.stackplot(steps, values[:, kept], labels=names, colors=colors, linewidth=0)
    else:
        for series in chart.series:
            _draw_curve(axes, series)
    if chart.level is not None:
        value, name = chart.level
        axes.axhline(value, color=FAINT_INK, linewidth=0.8, linestyle="--")
        start, size = (chart.series[0].steps[0], value), FONT_SIZE - 2
        axes.annotate(name, start, (2, 3), textcoords="offset points", fontsize=size, color=FAINT_INK)
    axes.set_ylim(chart.low, chart.high)
    axes.set_xlabel("step", fontsize=FONT_SIZE - 1, color=FAINT_INK)
    _dress(axes)


def _draw_curve(axes: Axes, series: Series) -> None:
    """Draws a curve. If the curve has 30 or more points, a running mean is drawn over the faint raw values."""
    steps, values = series.finite()
    color = COLORS[series.color % len(COLORS)]
    if len(values) < _FEW_POINTS:
        axes.plot(steps, values, color=color, linewidth=1.6, marker="o", markersize=3.5, label=series.name)
        return
    if len(values) > _MOST_POINTS:
        parts = zip(np.array_split(steps, _MOST_POINTS), np.array_split(values, _MOST_POINTS), strict=True)
        steps, values = np.array([[part.mean() for part in pair] for pair in parts]).T
    axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.25)
    smooth = running_mean(values, reach=max(1, len(values) // 50))
    axes.plot(steps, smooth, color=color, linewidth=1.6, label=series.name)


def _dress(axes: Axes) -> None:
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(bottom=False, left=False, labelsize=FONT_SIZE - 1, labelcolor=FAINT_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT_INK)


def new_figure(width: float, height: float) -> Figure:
    """Creates a white figure that opens no window and is not registered in pyplot. Width and height are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: AnyPath) -> Path:
    """Writes a figure as PNG, atomically. Texts are not parsed as formulas, and control characters are made visible."""
    _show_plain_text(figure)
    # The metadata entry "Software" contains matplotlib's version. Without this entry, equal figures give equal files.
    return write_atomic(path, lambda t: figure.savefig(t, format="png", metadata={"Software": None}))


def to_svg(figure: Figure, description: str) -> Markup:
    """Returns a figure as an ``svg`` element with a transparent background.

    Screen readers read ``description`` aloud. The same figure and description always give the same markup. The style
    sheet ``page.css.j2`` selects elements of the figure by their color values.
    """
    import matplotlib
    from markupsafe import Markup

    _show_plain_text(figure)
    stream, description = io.StringIO(), visible_lines(description)
    # Text is not converted to paths. Ids depend on the description, so that charts on one page have different ids.
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": description}
    with matplotlib.rc_context(settings | {"font.sans-serif": ["DejaVu Sans"]}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    _, _, content = stream.getvalue().partition("<svg ")
    content = re.sub(r'<style.*?</style>|(?<=<g) id="[^"]*"', "", content)  # ids must be unique on a page
    # Coordinates are in points. One decimal place is precise enough and makes the page much smaller.
    content = re.sub(r' d="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), content)
    return Markup('<svg role="img" aria-label="{}" ').format(description) + Markup(content)


def _show_plain_text(figure: Figure) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text(visible_lines(text.get_text()))
