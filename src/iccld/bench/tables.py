"""Results of a bench as Markdown tables and as one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import correlation, fmean, stdev
from typing import Any

from iccld.bench.plan import Plan, Task, Variant
from iccld.bench.results import Paces, Point, Result, find_result, learning_curve
from iccld.escaping import in_markdown
from iccld.progress import format_seconds
from iccld.reporting.templates import number

_REFERENCES = ("source_only", "oracle")
_SIGNALS = ("entropy", "confidence", "mutual_information", "combined")
_CHOICES: Mapping[str, Callable[[dict[str, float]], float]] = {
    "last step": lambda c: c["step"],
    "least entropy": lambda c: -c["entropy"],
    "most agreement": lambda c: c["agreement"],
    "best by target labels (forbidden)": lambda c: c["miou"],
}


@dataclass(frozen=True)
class Table:
    """Table with title, column names and rows of cells. A table without rows is not shown."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Returns the table in Markdown without its title, or an empty string if there are no rows."""
        head, *rows = (f"| {' | '.join(map(in_markdown, row))} |" for row in (self.head, *self.rows))
        return "\n".join([head, "|---" * len(self.head) + "|", *rows]) if rows else ""


def plan_tables(plan: Plan, results: list[Result], paces: Paces | None = None) -> str:
    """Returns all tables of a plan in Markdown, task by task. ``results`` may include results of other plans.

    ``paces`` replaces the step durations of the results. The durations in the results are too long if other processes
    ran at the same time.
    """
    parts = [f"## {in_markdown(plan.title)}"]
    columns = [Column(plan, task, results, paces) for task in plan.tasks.values()]
    for column in columns:
        if column.by_seed:
            parts += [f"### {in_markdown(column.title)}", *(table.markdown() for table in column.tables())]
    order = _published_order(plan, columns)
    if order.rows:
        parts += [f"### {order.title}", order.markdown()]
    if len(parts) == 1:
        parts.append("No results yet.")
    return "\n\n".join(part for part in parts if part) + "\n"


def plan_page(plan: Plan, results: list[Result]) -> str:
    """Returns the HTML page of a plan: a bar chart of mIoU with standard deviations over seeds, and all tables."""
    from iccld.reporting.report import render_page

    columns = [Column(plan, task, results) for task in plan.tasks.values()]
    columns = [column for column in columns if column.by_seed]
    tasks = [{"title": column.title, "tables": column.tables()} for column in columns]
    links = [(f"task{i}", column.title) for i, column in enumerate(columns)]
    bars = [
        [(variant.title, *_mean_and_deviation([r.miou for r in found])) for variant, found in column.rows()]
        for column in columns
    ]
    return render_page("bench.html.j2", f"ICCLD bench: {plan.title}", tasks=tasks, links=links, bars=bars)


def overview(plan: Plan, results: list[Result]) -> Table:
    """Returns the table of mIoU in percent (mean ± sample standard deviation over seeds) per method and task.

    The last column contains the gap closed (``Column.gap_closed``), averaged over all tasks.
    """
    columns = [Column(plan, task, results) for task in plan.tasks.values()]
    rows = []
    for variant in plan.variants.values():
        found = [column.by_seed.get(variant.name, {}).values() for column in columns]
        closed = [column.gap_closed(variant.name) for column in columns]
        known = [share for share in closed if share is not None]
        whole = len(known) == len(columns) and variant.name not in _REFERENCES
        mean = _percent(fmean(known) if whole else None)
        rows.append([variant.title, *(_spread((r.miou for r in runs), 1) for runs in found), mean])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    return Table("Overview", ["method", *(t.title for t in plan.tasks.values()), "mean gap closed"], rows)


def _published_order(plan: Plan, columns: Sequence[Column]) -> Table:
    """Returns the table of published ranks and of mean ranks in this bench, for methods with a published mIoU.

    If fewer than three methods have a published mIoU, or no task has results of all these methods, the table has no
    rows.
    """
    published = {v.name: v.published for v in plan.variants.values() if v.published is not None}
    whole = [column.by_seed for column in columns if published.keys() <= column.by_seed.keys()]
    if len(published) < 3 or not whole:
        return Table("Order of the methods", [], [])
    of_tasks = [ranks({n: fmean(r.miou for r in found[n].values()) for n in published}) for found in whole]
    here = {name: fmean(ranks[name] for ranks in of_tasks) for name in published}
    there, ours = ranks(published), ranks({name: -rank for name, rank in here.items()})
    varies = len(set(ours.values())) > 1 and len(set(there.values())) > 1
    rho = correlation(list(ours.values()), list(there.values())) if varies else float("nan")
    rows = [
        [plan.variants[name].title, f"{published[name]:.1f}", f"{there[name]:g}", f"{rank:.1f}"]
        for name, rank in sorted(here.items(), key=lambda item: item[1])
    ]
    title = f"Order of the methods: Spearman's ρ = {rho:.2f} with the published one"
    return Table(title, ["method", "published mIoU", "rank there", "mean rank here"], rows)


class Column:
    """Results of one task, from which the task's tables are built. The arguments are explained in ``plan_tables``.

    Attributes:
        by_seed: Variant name → (seed → result), for variants with results.
        variants: Variant name → variant, in the order of the plan.
    """

    def __init__(self, plan: Plan, task: Task, results: list[Result], paces: Paces | None = None) -> None:
        self.title = task.title
        self.paces = None if paces is None else paces.get(task.name, {})
        self.by_seed: dict[str, dict[int, Result]] = {}
        self.variants: dict[str, Variant] = {}
        for run in (run for run in plan.runs() if run.task.name == task.name):
            self.variants[run.variant.name] = run.variant
            result = find_result(run, results)
            if result is not None:
                self.by_seed.setdefault(run.variant.name, {})[run.seed] = result

    def rows(self) -> list[tuple[Variant, list[Result]]]:
        """Returns (variant, results of all seeds) for each variant that has results."""
        variants = [variant for name, variant in self.variants.items() if name in self.by_seed]
        return [(variant, list(self.by_seed[variant.name].values())) for variant in variants]

    def tables(self) -> list[Table]:
        """Returns the tables of mIoU, training time, prediction settings, uncertainty, checkpoints and classes."""
        first = [self.scores(), self._time_to_quality(), self._predictions()]
        return [*first, self._uncertainty(), self._selection(), self._classes()]

    def learning_curve(self, name: str) -> list[Point]:
        """Returns a variant's mIoU over training time, or an empty list if its training times are unknown."""
        return learning_curve(list(self.by_seed[name].values()), (self.paces or {}).get(name))

    def scores(self) -> Table:
        """Returns the table of mIoU, gap closed (see ``gap_closed``), seconds per step and peak memory."""
        rows = []
        for variant, results in self.rows():
            closed = None if variant.name in _REFERENCES else self.gap_closed(variant.name)
            if self.paces is None:
                pace: float | None = fmean(r.facts["seconds_per_adapting_step"] for r in results)
            else:
                pace = self.paces[variant.name].adapting if variant.name in self.paces else None
            cells = [_spread(r.miou for r in results), _percent(closed), number(pace, 2)]
            cells += [number(fmean(r.facts["peak_gib"] for r in results)), str(len(results))]
            rows.append([variant.title, *cells])
        return Table("Scores", ["method", "mIoU", "gap closed", "s/step", "GiB", "seeds"], rows)

    def _time_to_quality(self) -> Table:
        """Returns the table of times after which the first ICCLD variant reaches the final mIoU of another variant."""
        curves = {name: self.learning_curve(name) for name in self.by_seed}
        own = next((name for name in curves if self.variants[name].method == "iccld"), "")
        rows = []
        for name, curve in curves.items():
            if not curve or not curves.get(own) or self.variants[name].method in ("iccld", "oracle"):
                continue
            end = curve[-1]
            reached = next((point.seconds for point in curves[own] if point.miou >= end.miou), None)
            after, share = "never", None
            if reached is not None:
                after, share = format_seconds(reached), reached / end.seconds
            cells = [f"{end.miou:.1f}", format_seconds(end.seconds), after, _percent(share)]
            rows.append([self.variants[name].title, *cells])
        title = self.variants[own].title if own else ""
        head = ["method", "mIoU at the end", "time", f"{title} has that after", "share of the time"]
        return Table("Time to quality (training alone, mean of seeds)", head, rows)

    def _predictions(self) -> Table:
        """Returns the table of mIoU, calibration error and AUROC for each number of sampling steps and noise draws."""
        rows = []
        for place, draws, found in self._predicted():
            cells = [_spread((p.get("miou") for p in found), 2), _spread((p.get("ece") for p in found), 3)]
            for signal in _SIGNALS[:3]:
                told = found if draws > 1 or signal != "mutual_information" else []
                cells.append(_spread((p.get(f"auroc_{signal}") for p in told), 3))
            rows.append([*place, *cells])
        signals = [f"AUROC {signal.replace('_', ' ')}" for signal in _SIGNALS[:3]]
        return Table("Steps, draws and trust", ["method", "K", "N", "mIoU", "ECE", *signals], rows)

    def _uncertainty(self) -> Table:
        """Returns the table of how well each uncertainty signal separates wrong pixels from correct pixels."""
        rows = []
        for place, draws, found in self._predicted():
            for signal in _SIGNALS if draws > 1 else _SIGNALS[:2]:  # the other signals need two noise draws
                keys = (f"auroc_{signal}", f"aurc_{signal}", f"fpr95_{signal}", "class_ece")
                if any(p.get(f"aurc_{signal}") is not None for p in found):
                    figures = [_spread((p.get(key) for p in found), 3) for key in keys]
                    rows.append([*place, signal.replace("_", " "), *figures])
        head = ["method", "K", "N", "signal", "AUROC", "AURC", "FPR at 95 % TPR", "class-wise ECE"]
        return Table("Uncertainty", head, rows)

    def _predicted(self) -> list[tuple[list[str], int, list[dict[str, Any]]]]:
        """Returns (first three cells of a row, noise draws, metrics per seed) for each prediction of each variant."""
        found = []
        for variant, results in self.rows():
            for steps, draws in variant.predictions:
                figures = [
                    next(p for p in r.facts["predictions"] if (p["steps"], p["draws"]) == (steps, draws))
                    for r in results
                ]
                found.append(([variant.title, str(steps), str(draws)], draws, figures))
        return found

    def _selection(self) -> Table:
        """Returns the table of the mIoU that results from each rule for checkpoint selection."""
        rows = []
        for variant, results in self.rows():
            several = [r.facts["checkpoints"] for r in results if len(r.facts["checkpoints"]) > 1]
            if several:
                mious = ([max(c, key=choose)["miou"] for c in several] for choose in _CHOICES.values())
                rows.append([variant.title, *map(_spread, mious)])
        return Table("Choosing a checkpoint", ["method", *_CHOICES], rows)

    def _classes(self) -> Table:
        rows, names = [], list[str]()
        for variant, results in self.rows():
            names = names or list(results[0].facts["iou"])
            ious = ([r.facts["iou"][label] for r in results] for label in names)
            rows.append([variant.title, *(_spread(values, 0) for values in ious)])
        return Table("IoU of each class", ["method", *names], rows)

    def gap_closed(self, name: str) -> float | None:
        """Returns a variant's gain in mIoU over source-only, divided by the oracle's gain over source-only.

        The gains are means over the seeds for which source-only, oracle and the variant have results. Returns ``None``
        if there is no such seed, or if the oracle's gain is zero.
        """
        low, high, own = (self.by_seed.get(n, {}) for n in (*_REFERENCES, name))
        shared = [s for s in own if s in low and s in high]
        if not shared:
            return None
        start, end, reached = (fmean(found[s].miou for s in shared) for found in (low, high, own))
        return (reached - start) / (end - start) if end != start else None


def ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the rank of each value, with rank 1 for the largest value and mean ranks for ties."""
    ordered = sorted(values.values(), reverse=True)
    return {
        name: fmean(i for i, other in enumerate(ordered, 1) if other == value)
        for name, value in values.items()
    }


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns mean and sample standard deviation. The deviation of a single value is ``None``."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def _spread(values: Iterable[float | None], digits: int = 2) -> str:
    """Returns mean ± sample standard deviation as text, or a dash if no value is known."""
    known = [value for value in values if value is not None]
    mean, deviation = _mean_and_deviation(known) if known else (None, None)
    return number(mean, digits) + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
