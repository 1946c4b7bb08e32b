"""The results of a plan as one HTML page: bars of mIoU with the spread over seeds, and all tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from iccld.bench.plan import Plan
from iccld.bench.results import Result
from iccld.bench.tables import Column, task_columns
from iccld.reporting.html.classes import bar
from iccld.reporting.html.markup import Html, el, note, scroll, section, table
from iccld.reporting.html.page import contents, render_page


def plan_page(plan: Plan, results: list[Result]) -> str:
    """Makes the page from the results alone.

    Args:
        plan: whose results.
        results: of this plan and others.
    """
    tasks = task_columns(plan, results)
    title = f"ICCLD bench: {plan.title}"
    if not tasks:
        return render_page(title, el("p", "No results yet.", class_="warn"))
    links = contents([(f"task{i}", task.title) for i, task in enumerate(tasks)])
    lead = el(
        "p",
        "mIoU in percent on labeled target images, weights of the last step; mean ± sample standard deviation over "
        "seeds. Differences below that spread are noise, and one seed has none to show.",
        class_="lead",
    )
    return render_page(title, links, lead, *(_task(task, f"task{i}") for i, task in enumerate(tasks)))


def _task(task: Column, key: str) -> Html:
    tables = [
        section(t.title, table(t.head, [[*row] for row in t.rows]), level=3) for t in task.tables() if t.rows
    ]
    return section(task.title, _bars(task.mious()), *tables, id_=key)


def _bars(mious: Mapping[str, list[float]]) -> Html:
    rows = []
    for name, values in mious.items():
        mean = statistics.fmean(values)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        text = f"{mean:.1f} ± {spread:.1f}" if len(values) > 1 else f"{mean:.1f}"
        drawn = el("td", bar(mean, 0, spread=spread), class_="bar")
        rows.append(el("tr", el("th", name, scope="row"), drawn, el("td", text)))
    head = el("tr", *(el("th", cell, scope="col") for cell in ("method", "", "mIoU %")))
    bars = el("table", el("thead", head), el("tbody", *rows), class_="bars")
    words = note("Bars run from 0 to 100; the thin line is one standard deviation to either side.")
    return el("div", scroll(bars, label="mIoU of each method"), words)
