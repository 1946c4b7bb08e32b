"""Charts as inline SVG whose colors follow the page: curves, and the reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iccld.reporting.curves import running_mean
from iccld.reporting.html.markup import Html, el, join

NUM_COLORS = 6
_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 26
_MOST_POINTS = 300
_FEW_POINTS = 30


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: for the legend.
        x: steps.
        y: values; those that are not finite are left out.
        color: index into the page's colors.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0


def color(index: int) -> str:
    """The page's color of a run or a curve."""
    return f"var(--c{index % NUM_COLORS})"


def legend(names: Sequence[str]) -> Html:
    """Names beside their colors."""
    return el("div", *(el("span", swatch(color(i)), name) for i, name in enumerate(names)), class_="legend")


def swatch(paint: str) -> Html:
    """A small square of a color."""
    return el("i", class_="swatch", style=f"background:{paint}")


def named_swatch(paint: str, name: str) -> Html:
    """A small square and the name it stands for, on one line."""
    return el("span", swatch(paint), name, class_="named")


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    low: float | None = None,
    high: float | None = None,
    reference: tuple[float, str] | None = None,
    with_legend: bool = False,
) -> Html:
    """Draws curves over the steps as a figure; many points are drawn faintly under their running mean.

    Args:
        title: the figure's caption.
        series: the curves; those without a finite value are left out.
        low: lower end of the values' axis; by default the least value.
        high: upper end; by default the greatest value.
        reference: a level to compare with, and its name.
        with_legend: names the curves below the chart.
    """
    kept = [s for s in (_finite(s) for s in series) if s.x]
    if not kept:
        return Html("")
    values = [v for s in kept for v in s.y] + ([reference[0]] if reference else [])
    bottom, top, ticks = _axis(min(values) if low is None else low, max(values) if high is None else high)
    last = max(max(s.x) for s in kept) or 1.0
    plot = _Plot(0.0, last, bottom, top)
    parts = [plot.grid(ticks, _ticks(0.0, last, 5)), plot.label("step")]
    if reference is not None:
        parts.append(plot.level(*reference))
    parts += [plot.curve(s) for s in kept]
    last_values = "; ".join(f"{s.name}: {s.y[-1]:.4g} at step {s.x[-1]:.0f}" for s in kept)
    names = el("div", *(el("span", swatch(color(s.color)), s.name) for s in kept), class_="legend")
    picture = _svg(f"{title}. {last_values}", *parts)
    return el("figure", el("figcaption", el("b", title)), picture, names if with_legend else None)


def reliability_diagram(
    pixels: Sequence[int],
    confidence: Sequence[float | None],
    accuracy: Sequence[float | None],
    *,
    paint: int = 0,
) -> Html:
    """Draws accuracy over confidence, with the share of pixels in each bin as gray columns.

    Args:
        pixels: in each bin.
        confidence: mean in each bin, in [0, 1].
        accuracy: share of right pixels in each bin.
        paint: index of the color.
    """
    plot = _Plot(0.0, 1.0, 0.0, 1.0)
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    parts = [plot.grid(ticks, ticks)]
    width, total = 1 / len(pixels), sum(pixels) or 1
    for index, count in enumerate(pixels):
        parts.append(plot.column(index * width, width, count / total, "fill:var(--line)"))
    for index, share in enumerate(accuracy):
        if share is not None:
            parts.append(
                plot.column(index * width, width, share, f"fill:{color(paint)};opacity:.55", gap=2.0)
            )
    parts.append(plot.diagonal())
    points = [(c, a) for c, a in zip(confidence, accuracy, strict=True) if c is not None and a is not None]
    parts += [plot.dot(c, a, paint) for c, a in points]
    spoken = ", ".join(f"{c:.2f}: {a:.2f}" for c, a in points)
    return _svg(f"Reliability diagram. Accuracy by mean confidence: {spoken}", *parts)


class _Plot:
    """The area of a chart, and how values lie in it."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self.left, self.right, self.bottom, self.top = left, right, bottom, top

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (self.right - self.left) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / (self.top - self.bottom)
        return _HEIGHT - _BOTTOM - min(1.0, max(0.0, share)) * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self, across: Sequence[float], along: Sequence[float]) -> Html:
        parts = []
        for value in across:
            y = f"{self.y(value):.1f}"
            parts.append(el("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
            parts.append(
                el("text", f"{value:g}", x=_LEFT - 5, y=f"{self.y(value) + 4:.1f}", text_anchor="end")
            )
        for value in along:
            end = self.x(value) > _WIDTH - 25
            anchor = {"text_anchor": "end" if end else "middle"}
            x = min(self.x(value), _WIDTH - 2.0)
            parts.append(el("text", f"{value:g}", x=f"{x:.1f}", y=_HEIGHT - _BOTTOM + 15, **anchor))
        return join(*parts)

    def label(self, text: str) -> Html:
        return el("text", text, x=2, y=_HEIGHT - 11)

    def level(self, value: float, name: str) -> Html:
        y = self.y(value)
        line = el("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="ref")
        return join(line, el("text", name, x=_WIDTH - _RIGHT, y=f"{y - 4:.1f}", text_anchor="end"))

    def diagonal(self) -> Html:
        ends = {"x1": self.x(0), "x2": self.x(1), "y1": self.y(0), "y2": self.y(1)}
        return el("line", **ends, class_="ref")

    def curve(self, series: Series) -> Html:
        x, y = np.asarray(series.x, float), np.asarray(series.y, float)
        paint = f"stroke:{color(series.color)}"
        if len(x) < _FEW_POINTS:
            dots = [self.dot(a, b, series.color) for a, b in zip(x, y, strict=True)]
            return join(self._path(x, y, "plot", paint), *dots)
        x, y = _thinned(x), _thinned(y)
        smooth = running_mean(y, reach=max(1, len(y) // 50))
        return join(self._path(x, y, "plot raw", paint), self._path(x, smooth, "plot", paint))

    def dot(self, x: float, y: float, index: int) -> Html:
        return el("circle", cx=f"{self.x(x):.1f}", cy=f"{self.y(y):.1f}", r=3, style=f"fill:{color(index)}")

    def column(self, x: float, width: float, height: float, style: str, *, gap: float = 0.0) -> Html:
        left, right = self.x(x) + gap / 2, self.x(x + width) - gap / 2
        top, base = self.y(height), self.y(0)
        size = {"width": f"{right - left:.1f}", "height": f"{base - top:.1f}"}
        return el("rect", x=f"{left:.1f}", y=f"{top:.1f}", **size, style=style)

    def _path(self, x: np.ndarray, y: np.ndarray, kind: str, style: str) -> Html:
        points = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(x, y, strict=True))
        return el("polyline", points=points, class_=kind, style=style)


def _svg(spoken: str, *parts: Html) -> Html:
    return el("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=spoken)


def _finite(series: Series) -> Series:
    kept = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Series(series.name, [x for x, _ in kept], [y for _, y in kept], series.color)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most so many points: means of neighbors."""
    if len(values) <= _MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, _MOST_POINTS)])


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round ends of an axis, and its ticks."""
    if high - low < 1e-9:
        # Ticks are rounded to 10 decimals: values so small are drawn as zero.
        margin = abs(low) * 0.1 if abs(low) > 1e-8 else 1.0
        low, high = low - margin, high + margin
    step = _step(low, high, 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(i * step, 10) for i in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


def _ticks(low: float, high: float, count: int) -> list[float]:
    step = _step(low, high, count)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _step(low: float, high: float, count: int) -> float:
    """A distance of ticks that is 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = float(10.0 ** math.floor(math.log10(rough)))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= rough - 1e-12)
