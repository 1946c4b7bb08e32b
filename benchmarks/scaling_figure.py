"""The figure of ``benchmarks/scaling.py``: one panel per series, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iccld.reporting.charts import FAINT_INK, FONT_SIZE, INK, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TIME, _MEMORY = "#0072B2", "#D55E00"  # palette of Okabe and Ito, for color-blind readers
_X_LABELS = {
    "pixels": "height × width of the image in pixels",
    "batch": "images in the batch",
    "classes": "classes",
}


def draw(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], exponents: Mapping[str, Mapping[str, float]], path: Path
) -> Path:
    """Draws time and memory over the size of each series, or images per second over ranks, and writes a PNG file.

    Args:
        rows: Series → measured cases, as ``scaling.py`` writes them.
        exponents: Series → fitted exponents of time and memory.
        path: Path of the PNG file.

    Returns:
        The path of the PNG file.
    """
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(4.2 * columns, 2.9 * lines)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    for place, (series, cases) in enumerate(rows.items(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        if series == "ranks":
            _draw_ranks(axes, cases)
        else:
            _draw_growth(axes, series, cases, exponents.get(series, {}))
    return save_png(figure, path)


def _draw_growth(
    axes: Axes, series: str, cases: Sequence[Mapping[str, Any]], exponents: Mapping[str, float]
) -> None:
    right = axes.twinx()
    sizes = [case["size"] for case in cases]
    for side, key, color, marker, label in (
        (axes, "seconds", _TIME, "o", "seconds a step"),
        (right, "gib", _MEMORY, "s", "GiB above an empty process"),
    ):
        side.plot(
            sizes, [case[key] for case in cases], color=color, marker=marker, markersize=4, linewidth=1.6
        )
        side.set_xscale("log")
        side.set_yscale("log")
        side.set_ylabel(label, fontsize=FONT_SIZE - 1, color=color)
        _mark(side, [case[key] for case in cases], color)
    # Height and width are easier to read than the number of pixels.
    names = [case["title"] if series == "pixels" else str(case["size"]) for case in cases]
    axes.set_xticks(sizes, names)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(_X_LABELS[series], fontsize=FONT_SIZE - 1, color=FAINT_INK)
    powers = ", ".join(
        f"{name} ~ $n^{{{value:.2f}}}$" for name, value in exponents.items() if name in ("time", "memory")
    )
    dress(axes, powers)
    dress(right, "")


def _mark(axes: Axes, values: Sequence[float], color: str) -> None:
    """Sets limits with a margin, and ticks at round numbers, as a series may lie between two powers of ten."""
    low, high = min(values) / 1.6, max(values) * 1.6
    axes.set_ylim(low, high)
    marks = (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 7)
    steps = [m * 10.0**e for e in range(-5, 6) for m in marks]
    ticks = [step for step in steps if low <= step <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.tick_params(axis="y", labelcolor=color)


def _draw_ranks(axes: Axes, cases: Sequence[Mapping[str, Any]]) -> None:
    ranks, speeds = [case["size"] for case in cases], [case["images_per_s"] for case in cases]
    ideal = [speeds[0] * n / ranks[0] for n in ranks]
    axes.plot(ranks, ideal, color=FAINT_INK, linestyle=":", linewidth=1.4)
    axes.plot(ranks, speeds, color=_TIME, marker="o", markersize=4, linewidth=1.6)
    axes.annotate(
        "as many times as ranks",
        (ranks[-1], ideal[-1]),
        (-6, 4),
        textcoords="offset points",
        ha="right",
        fontsize=FONT_SIZE - 2,
        color=FAINT_INK,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ranks, [str(n) for n in ranks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("ranks, one core each", fontsize=FONT_SIZE - 1, color=FAINT_INK)
    axes.set_ylabel("images a second, all ranks", fontsize=FONT_SIZE - 1, color=_TIME)
    _mark(axes, [*speeds, *ideal], _TIME)
    dress(axes, f"{speeds[-1] / speeds[0]:.2f} × with {ranks[-1]} ranks")


def dress(axes: Axes, title: str) -> None:
    """Styles a panel: the title, a faint grid and one line at the bottom."""
    axes.set_title(title, fontsize=FONT_SIZE, color=INK, loc="left")
    axes.tick_params(which="both", length=0, labelsize=FONT_SIZE - 1)
    if title:
        axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#bbbbbb")
