"""Results of a plan as one HTML page: a bar chart of mIoU with standard deviations over seeds, and all tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from iccld.bench.plan import Plan
from iccld.bench.results import Result
from iccld.bench.tables import Column
from iccld.reporting.report import render_page


def plan_page(plan: Plan, results: list[Result]) -> str:
    """Returns the HTML page of a plan.

    Args:
        plan: Plan whose results are shown.
        results: Results of this plan and possibly of other plans.
    """
    columns = [Column(plan, task, results) for task in plan.tasks.values()]
    columns = [column for column in columns if column.by_seed]
    tasks = [{"title": column.title, "tables": column.tables()} for column in columns]
    links = [(f"task{i}", column.title) for i, column in enumerate(columns)]
    bars = [_bars(column.mious()) for column in columns]
    return render_page("bench.html.j2", f"ICCLD bench: {plan.title}", tasks=tasks, links=links, bars=bars)


def _bars(mious: Mapping[str, list[float]]) -> list[tuple[str, float, float | None]]:
    """Returns (title, mean mIoU, standard deviation over seeds) per method. One seed gives the deviation ``None``."""
    return [
        (name, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
        for name, values in mious.items()
    ]
