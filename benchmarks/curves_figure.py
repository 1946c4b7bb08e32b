"""Draws mIoU over training time for every method of a plan, with one panel per task.

``python benchmarks/curves_figure.py benchmarks/plans/development.toml --out curves.png`` reads the results from
benchmarks/results. The time is the training time on one core, without evaluations. The lines are means over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from make_results import read_paces
from scaling_figure import dress

from iccld.bench.plan import Plan, Variant, read_plan
from iccld.bench.results import Point, Result, read_results
from iccld.bench.tables import Column
from iccld.reporting.charts import FAINT_INK, FONT_SIZE, INK, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parent.parent
_OWN = "#D55E00"
_OTHERS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7f7f7f", "#332288", "#117733", "#882255")


def draw(plan: Plan, results: list[Result], path: Path) -> Path:
    """Draws the learning curves of a plan and writes a PNG file.

    Args:
        plan: Plan with the tasks and variants.
        results: Results of this plan and of other plans. Runs without times are left out.
        path: Path of the PNG file.

    Returns:
        The path of the PNG file.
    """
    tasks = list(plan.tasks.values())
    figure = new_figure(4.4 * len(tasks), 4.4)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    for place, task in enumerate(tasks, start=1):
        axes = figure.add_subplot(1, len(tasks), place)
        column = Column(plan, task, results, read_paces(plan))
        for index, name in enumerate(column.by_seed):
            _draw_curve(axes, plan.variants[name], column.learning_curve(name), _OTHERS[index % len(_OTHERS)])
        dress(axes, task.title.split(",")[0])
        axes.set_xlabel("minutes of training on one core", fontsize=FONT_SIZE - 1, color=FAINT_INK)
        if place == 1:
            axes.set_ylabel("mIoU of the target in percent", fontsize=FONT_SIZE - 1, color=INK)
    lines, names = _entries(figure.axes)
    figure.legend(
        lines, names, loc="outside lower center", ncols=len(tasks), fontsize=FONT_SIZE - 1, frameon=False
    )
    return save_png(figure, path)


def _draw_curve(axes: Axes, variant: Variant, curve: list[Point], color: str) -> None:
    if not curve:
        return
    own, reference = variant.method == "iccld", variant.method in ("source_only", "oracle")
    axes.plot(
        [point.seconds / 60 for point in curve],
        [point.miou for point in curve],
        color=_OWN if own else INK if reference else color,
        linewidth=2.4 if own else 1.2,
        linestyle={"source_only": ":", "oracle": "--"}.get(variant.method, "-"),
        zorder=3 if own else 2,
        label=variant.title,
    )


def _entries(panels: list[Axes]) -> tuple[list[Artist], list[str]]:
    """Returns the lines and names of the legend, each name once, even if several panels have the name."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        for line, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, line)
    return list(entries.values()), list(entries)


def main() -> None:
    """Draws the figure and prints the path of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(draw(read_plan(arguments.plan), read_results(arguments.results), arguments.out))


if __name__ == "__main__":
    main()
