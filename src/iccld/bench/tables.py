"""Markdown tables of a bench, generated only from the results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iccld.bench.curves import Paces, Point, learning_curve
from iccld.bench.plan import Plan, Task, Variant
from iccld.bench.results import Result, find_result
from iccld.escaping import in_markdown
from iccld.progress import format_seconds

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
        if not self.rows:
            return ""
        head, *rows = (f"| {' | '.join(map(in_markdown, row))} |" for row in (self.head, *self.rows))
        return "\n".join([head, f"|{'|'.join(['---'] * len(self.head))}|", *rows])


def plan_tables(plan: Plan, results: list[Result], paces: Paces | None = None) -> str:
    """Returns all tables of a plan in Markdown, task by task.

    Args:
        plan: Plan of the tables.
        results: Results of this plan and possibly of other plans.
        paces: Step durations that replace the step durations in the results. Durations in the results are too long if
            other processes ran at the same time.
    """
    parts = [f"## {in_markdown(plan.title)}"]
    columns = [Column(plan, task, results, paces) for task in plan.tasks.values()]
    for column in columns:
        if column.by_seed:
            parts += [f"### {in_markdown(column.title)}", *(table.markdown() for table in column.tables())]
    order = published_order(plan, columns)
    if order.rows:
        parts += [f"### {order.title}", order.markdown()]
    if len(parts) == 1:
        parts.append("No results yet.")
    return "\n\n".join(part for part in parts if part) + "\n"


def overview(plan: Plan, results: list[Result]) -> Table:
    """Returns the overview table, with one row per method and one column per task.

    A cell contains the mean mIoU in percent and its sample standard deviation over seeds. The last column contains the
    gap closed (``Column.gap_closed``), averaged over all tasks.
    """
    columns = [Column(plan, task, results) for task in plan.tasks.values()]
    rows = []
    for variant in plan.variants.values():
        found = [column.by_seed.get(variant.name, {}).values() for column in columns]
        closed = [column.gap_closed(variant.name) for column in columns]
        known = [share for share in closed if share is not None]
        whole = len(known) == len(columns) and variant.name not in _REFERENCES
        mean = f"{100 * statistics.fmean(known):.0f} %" if whole else "–"
        rows.append([variant.title, *(_spread([r.miou for r in runs], 1) for runs in found), mean])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    return Table("Overview", ["method", *(t.title for t in plan.tasks.values()), "mean gap closed"], rows)


def published_order(plan: Plan, columns: Sequence[Column]) -> Table:
    """Returns the table of published ranks and of mean ranks in this bench, for methods with a published mIoU.

    The title contains Spearman's ρ of the two rankings. If there are fewer than three such methods, or no task has
    results of all of them, the table has no rows.
    """
    published = {v.name: v.published for v in plan.variants.values() if v.published is not None}
    whole = [dict(c.rows()) for c in columns if published.keys() <= c.by_seed.keys()]
    if len(published) < 3 or not whole:
        return Table("Order of the methods", [], [])
    of_tasks = [ranks({n: statistics.fmean(r.miou for r in found[n]) for n in published}) for found in whole]
    here = {name: statistics.fmean(ranks[name] for ranks in of_tasks) for name in published}
    there = ranks(published)
    ours = ranks({name: -rank for name, rank in here.items()})
    varies = len(set(ours.values())) > 1 and len(set(there.values())) > 1
    rho = statistics.correlation(list(ours.values()), list(there.values())) if varies else float("nan")
    rows = [
        [plan.variants[name].title, f"{published[name]:.1f}", f"{there[name]:g}", f"{rank:.1f}"]
        for name, rank in sorted(here.items(), key=lambda item: item[1])
    ]
    title = f"Order of the methods: Spearman's ρ = {rho:.2f} with the published one"
    return Table(title, ["method", "published mIoU", "rank there", "mean rank here"], rows)


class Column:
    """Results of one task, from which the task's tables are built. The arguments are explained in ``plan_tables``.

    Attributes:
        title: Title of the task.
        by_seed: Variant name → (seed → result), for variants with results.
        variants: Variant name → variant, in the order of the plan.
    """

    def __init__(self, plan: Plan, task: Task, results: list[Result], paces: Paces | None = None) -> None:
        self.title = task.title
        self.paces = None if paces is None else paces.get(task.name, {})
        self.by_seed: dict[str, dict[int, Result]] = {}
        self.variants: dict[str, Variant] = {}
        for run in plan.runs():
            if run.task.name != task.name:
                continue
            self.variants[run.variant.name] = run.variant
            result = find_result(run, results)
            if result is not None:
                self.by_seed.setdefault(run.variant.name, {})[run.seed] = result

    def rows(self) -> list[tuple[str, list[Result]]]:
        """Returns (variant name, results of all seeds) for each variant that has results."""
        return [(name, list(self.by_seed[name].values())) for name in self.variants if name in self.by_seed]

    def tables(self) -> list[Table]:
        """Returns all tables of the task. The first table contains the mIoU of each method."""
        return [
            *(self.scores(), self.time_to_quality(), self.predictions()),
            *(self.uncertainty(), self.selection(), self.classes()),
        ]

    def learning_curve(self, name: str) -> list[Point]:
        """Returns a variant's mIoU over training time, or an empty list if its training times are unknown."""
        return learning_curve(list(self.by_seed[name].values()), (self.paces or {}).get(name))

    def mious(self) -> dict[str, list[float]]:
        """Returns variant title → mIoU of each seed in percent, for each variant that has results."""
        return {self.variants[name].title: [r.miou for r in results] for name, results in self.rows()}

    def scores(self) -> Table:
        """Returns the table of mIoU, gap closed (see ``gap_closed``), seconds per step and peak memory."""
        rows = []
        for name, results in self.rows():
            closed = None if name in _REFERENCES else self.gap_closed(name)
            if self.paces is None:
                pace: float | None = statistics.fmean(r.facts["seconds_per_adapting_step"] for r in results)
            else:
                pace = self.paces[name].adapting if name in self.paces else None
            memory = statistics.fmean(r.facts["peak_gib"] for r in results)
            rows.append(
                [self.variants[name].title, _spread([r.miou for r in results])]
                + ["–" if closed is None else f"{100 * closed:.0f} %"]
                + ["–" if pace is None else f"{pace:.2f}", f"{memory:.1f}", str(len(results))]
            )
        return Table("Scores", ["method", "mIoU", "gap closed", "s/step", "GiB", "seeds"], rows)

    def time_to_quality(self) -> Table:
        """Returns the table of training times after which ICCLD reaches the final mIoU of each other method.

        If several variants use ICCLD, the first one is compared.
        """
        curves = {name: self.learning_curve(name) for name in self.by_seed}
        own = next((name for name in curves if self.variants[name].method == "iccld"), "")
        rows = []
        for name, curve in curves.items():
            if not curve or not curves.get(own) or self.variants[name].method in ("iccld", "oracle"):
                continue
            end = curve[-1]
            reached = next((point.seconds for point in curves[own] if point.miou >= end.miou), None)
            rows.append(
                [self.variants[name].title, f"{end.miou:.1f}", format_seconds(end.seconds)]
                + ["never" if reached is None else format_seconds(reached)]
                + ["–" if reached is None else f"{100 * reached / end.seconds:.0f} %"]
            )
        title = self.variants[own].title if own else ""
        head = ["method", "mIoU at the end", "time", f"{title} has that after", "share of the time"]
        return Table("Time to quality (training alone, mean of seeds)", head, rows)

    def predictions(self) -> Table:
        """Returns the table of mIoU, calibration error and AUROC for each number of sampling steps and noise draws."""
        rows = []
        for place, draws, found in self._predicted():
            cells = [_spread(_known(found, "miou"), 2), _spread(_known(found, "ece"), 3)]
            for signal in _SIGNALS[:3]:
                told = draws > 1 or signal != "mutual_information"
                cells.append(_spread(_known(found, f"auroc_{signal}"), 3) if told else "–")
            rows.append([*place, *cells])
        signals = [f"AUROC {signal.replace('_', ' ')}" for signal in _SIGNALS[:3]]
        return Table("Steps, draws and trust", ["method", "K", "N", "mIoU", "ECE", *signals], rows)

    def uncertainty(self) -> Table:
        """Returns the table of metrics for each uncertainty signal.

        The metrics rate how well the signal separates wrong from correct pixels.
        """
        rows = []
        for place, draws, found in self._predicted():
            for signal in _SIGNALS if draws > 1 else _SIGNALS[:2]:  # the other signals need two noise draws
                keys = (f"auroc_{signal}", f"aurc_{signal}", f"fpr95_{signal}", "class_ece")
                if _known(found, keys[1]):
                    figures = [_spread(_known(found, key), 3) for key in keys]
                    rows.append([*place, signal.replace("_", " "), *figures])
        head = ["method", "K", "N", "signal", "AUROC", "AURC", "FPR at 95 % TPR", "class-wise ECE"]
        return Table("Uncertainty", head, rows)

    def _predicted(self) -> list[tuple[list[str], int, list[dict[str, Any]]]]:
        """Returns (first three cells of a row, noise draws, metrics per seed) per variant and prediction setting."""
        found = []
        for name, results in self.rows():
            for steps, draws in self.variants[name].predictions:
                figures = [
                    next(p for p in r.facts["predictions"] if (p["steps"], p["draws"]) == (steps, draws))
                    for r in results
                ]
                found.append(([self.variants[name].title, str(steps), str(draws)], draws, figures))
        return found

    def selection(self) -> Table:
        """Returns the table of mIoU per rule for the selection of a checkpoint. One of the rules uses target labels."""
        rows = []
        for name, results in self.rows():
            several = [r.facts["checkpoints"] for r in results if len(r.facts["checkpoints"]) > 1]
            if several:
                mious = ([max(c, key=choose)["miou"] for c in several] for choose in _CHOICES.values())
                rows.append([self.variants[name].title, *map(_spread, mious)])
        return Table("Choosing a checkpoint", ["method", *_CHOICES], rows)

    def classes(self) -> Table:
        """Returns the table of the IoU of each class, in percent."""
        rows, names = [], list[str]()
        for name, results in self.rows():
            names = names or list(results[0].facts["iou"])
            ious = ([r.facts["iou"][label] for r in results] for label in names)
            cells = (_spread([value for value in values if value is not None], 0) for values in ious)
            rows.append([self.variants[name].title, *cells])
        return Table("IoU of each class", ["method", *names], rows)

    def gap_closed(self, name: str) -> float | None:
        """Returns a variant's gain in mIoU over source-only, divided by the oracle's gain over source-only.

        The gains are means over the seeds for which source-only, oracle and the variant have results. If there is no
        such seed, or the oracle's gain is zero, ``None`` is returned.
        """
        low, high, own = (self.by_seed.get(n, {}) for n in (*_REFERENCES, name))
        shared = [s for s in own if s in low and s in high]
        if not shared:
            return None
        low_mean, high_mean, own_mean = (
            statistics.fmean(results[s].miou for s in shared) for results in (low, high, own)
        )
        return (own_mean - low_mean) / (high_mean - low_mean) if high_mean != low_mean else None


def ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the rank of each value, with rank 1 for the largest value and mean ranks for ties."""
    ordered = sorted(values.values(), reverse=True)
    return {
        name: statistics.fmean(i for i, other in enumerate(ordered, 1) if other == value)
        for name, value in values.items()
    }


def _known(found: Sequence[Mapping[str, float | None]], key: str) -> list[float]:
    return [value for figures in found if (value := figures.get(key)) is not None]


def _spread(values: Sequence[float], digits: int = 2) -> str:
    """Returns mean ± sample standard deviation as text, or a dash if there are no values."""
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
