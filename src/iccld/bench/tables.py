"""Tables of a bench, in Markdown: made from the results alone, never typed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from iccld.bench.plan import Plan, Task, Variant
from iccld.bench.results import Result, find_result
from iccld.bench.standings import first_reached, learning_curve, rank_methods
from iccld.escaping import in_markdown
from iccld.progress import format_seconds

_REFERENCES = ("source_only", "oracle")


Paces = Mapping[str, Mapping[str, float]]
"""Seconds a step by task and variant, where they were measured side by side."""


@dataclass(frozen=True)
class Table:
    """A table of a task; without rows, there is nothing to show.

    Attributes:
        title: what it shows.
        head: the columns' names.
        rows: cells, the variant's title first.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown, without its title; empty without rows."""
        if not self.rows:
            return ""
        head, *rows = (f"| {' | '.join(map(in_markdown, row))} |" for row in (self.head, *self.rows))
        return "\n".join([head, f"|{'|'.join(['---'] * len(self.head))}|", *rows])


@dataclass(frozen=True)
class TaskResults:
    """What a plan has of one task.

    Attributes:
        title: of the task.
        tables: scores first.
        mious: of each variant by its title, in percent, one for each seed.
    """

    title: str
    tables: tuple[Table, ...]
    mious: Mapping[str, tuple[float, ...]]


def task_results(plan: Plan, results: list[Result], paces: Paces | None = None) -> list[TaskResults]:
    """The tables of every task that has results; see ``plan_tables``."""
    found = []
    for task in plan.tasks.values():
        column = Column(plan, task, results, paces)
        if column.found:
            tables = (
                *(column.scores(), column.time_to_quality()),
                *(column.predictions(), column.uncertainty(), column.selection(), column.classes()),
            )
            found.append(TaskResults(task.title, tables, column.mious()))
    return found


def plan_tables(plan: Plan, results: list[Result], paces: Paces | None = None) -> str:
    """All tables of a plan: scores, selection, predictions and classes of every task.

    Args:
        plan: whose tables.
        results: of this plan and others.
        paces: instead of the runs' own, which other work and other machines disturbed.
    """
    parts = [f"## {in_markdown(plan.title)}"]
    for task in task_results(plan, results, paces):
        parts += [f"### {in_markdown(task.title)}", *(table.markdown() for table in task.tables)]
    order = published_order(plan, results)
    if order is not None:
        parts += [f"### {order.title}", order.markdown()]
    if len(parts) == 1:
        parts.append("No results yet.")
    return "\n\n".join(part for part in parts if part) + "\n"


def published_order(plan: Plan, results: list[Result]) -> Table | None:
    """The order of the methods that have published figures, here and there; None where it cannot be told yet."""
    published = {v.name: v.published for v in plan.variants.values() if v.published is not None}
    columns = [Column(plan, task, results, None) for task in plan.tasks.values()]
    mious = [
        {name: statistics.fmean(r.miou for r in found) for name, found in column.rows()} for column in columns
    ]
    ranking = rank_methods(mious, published)
    if ranking is None:
        return None
    rows = [
        [plan.variants[name].title, f"{published[name]:.1f}", f"{ranking.published[name]:g}", f"{rank:.1f}"]
        for name, rank in sorted(ranking.here.items(), key=lambda item: item[1])
    ]
    title = f"Order of the methods: Spearman's ρ = {ranking.correlation:.2f} with the published one"
    return _table(title, ["method", "published mIoU", "rank there", "mean rank here"], rows)


def overview(plan: Plan, results: list[Result]) -> Table:
    """One row a method and one column a task: mIoU with its spread over seeds; at the end the mean gap closed."""
    columns = [Column(plan, task, results, None) for task in plan.tasks.values()]
    rows = []
    for variant in plan.variants.values():
        cells = [
            _spread([r.miou for r in column.by_seed.get(variant.name, {}).values()], 1) for column in columns
        ]
        closed = [column.gap_closed(variant.name) for column in columns]
        known = [share for share in closed if share is not None]
        whole = len(known) == len(columns) and variant.name not in _REFERENCES
        rows.append([variant.title, *cells, f"{100 * statistics.fmean(known):.0f} %" if whole else "–"])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    return _table("Overview", ["method", *(t.title for t in plan.tasks.values()), "mean gap closed"], rows)


class Column:
    """The results of one task.

    Attributes:
        by_seed: of each variant, by its name.
        variants: by name, in the order of the plan.
    """

    def __init__(self, plan: Plan, task: Task, results: list[Result], paces: Paces | None) -> None:
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

    @property
    def found(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.by_seed)

    def mious(self) -> dict[str, tuple[float, ...]]:
        """Of each variant, one for each seed."""
        return {self.variants[name].title: tuple(r.miou for r in results) for name, results in self.rows()}

    def scores(self) -> Table:
        """MIoU, gap closed, cost."""
        rows = []
        for name, results in self.rows():
            closed = self.gap_closed(name)
            rows.append(
                [
                    self.variants[name].title,
                    _spread([r.miou for r in results]),
                    "–" if closed is None or name in _REFERENCES else f"{100 * closed:.0f} %",
                    self._pace(name, results),
                    f"{_mean(results, 'peak_gib'):.1f}",
                    str(len(results)),
                ]
            )
        return _table("Scores", ["method", "mIoU", "gap closed", "s/step", "GiB", "seeds"], rows)

    def _pace(self, name: str, results: Sequence[Result]) -> str:
        if self.paces is None:
            return f"{_mean(results, 'seconds_per_adapting_step'):.2f}"
        return f"{self.paces[name]:.2f}" if name in self.paces else "–"

    def time_to_quality(self) -> Table:
        """When ICCLD, the first variant of that method, has what each other method has in the end."""
        curves = {name: learning_curve(results) for name, results in self.rows()}
        own = next((name for name in curves if self.variants[name].method == "iccld"), None)
        rows = []
        for name, curve in curves.items():
            if (
                own is None
                or not curve
                or not curves[own]
                or self.variants[name].method in ("iccld", "oracle")
            ):
                continue
            end = curve[-1]
            reached = first_reached(curves[own], end.miou)
            rows.append(
                [self.variants[name].title, f"{end.miou:.1f}", format_seconds(end.seconds)]
                + ["never" if reached is None else format_seconds(reached)]
                + ["–" if reached is None else f"{100 * reached / end.seconds:.0f} %"]
            )
        title = self.variants[own].title if own else ""
        head = ["method", "mIoU at the end", "time", f"{title} has that after", "share of the time"]
        return _table("Time to quality (training alone, mean of seeds)", head, rows)

    def predictions(self) -> Table:
        """What steps and draws do, and how far the model can be trusted."""
        rows = []
        for name, results in self.rows():
            for steps, draws in self.variants[name].predictions:
                found = [_prediction(r, steps, draws) for r in results]

                def spread(key: str, digits: int = 3, found: list[dict[str, float]] = found) -> str:
                    return _spread([p[key] for p in found if p.get(key) is not None], digits)

                rows.append(
                    [self.variants[name].title, str(steps), str(draws), spread("miou", 2), spread("ece")]
                    + [spread(f"auroc_{kind}") for kind in ("entropy", "confidence")]
                    + [spread("auroc_mutual_information") if draws > 1 else "–"]
                )
        head = [
            "method",
            "K",
            "N",
            "mIoU",
            "ECE",
            "AUROC entropy",
            "AUROC confidence",
            "AUROC mutual information",
        ]
        return _table("Steps, draws and trust", head, rows)

    def uncertainty(self) -> Table:
        """How well each signal tells wrong pixels from right ones."""
        rows = []
        for name, results in self.rows():
            for steps, draws in self.variants[name].predictions:
                found = [_prediction(r, steps, draws) for r in results]
                for signal in ("entropy", "confidence", "mutual_information", "combined"):
                    if draws == 1 and signal in ("mutual_information", "combined"):
                        continue  # one draw disagrees with nobody
                    figures = [
                        [p[key] for p in found if p.get(key) is not None]
                        for key in (f"auroc_{signal}", f"aurc_{signal}", f"fpr95_{signal}", "class_ece")
                    ]
                    if figures[1]:
                        place = [self.variants[name].title, str(steps), str(draws), signal.replace("_", " ")]
                        rows.append([*place, *(_spread(values, 3) for values in figures)])
        head = ["method", "K", "N", "signal", "AUROC", "AURC", "FPR at 95 % TPR", "class-wise ECE"]
        return _table("Uncertainty", head, rows)

    def selection(self) -> Table:
        """What choosing a checkpoint would change: without labels, and by peeking at them."""
        choices: dict[str, Callable[[dict[str, float]], float]] = {
            "last step": lambda c: c["step"],
            "least entropy": lambda c: -c["entropy"],
            "most agreement": lambda c: c["agreement"],
            "best by target labels (forbidden)": lambda c: c["miou"],
        }
        rows = []
        for name, results in self.rows():
            several = [r.facts["checkpoints"] for r in results if len(r.facts["checkpoints"]) > 1]
            if several:
                row = [_spread([max(c, key=choose)["miou"] for c in several]) for choose in choices.values()]
                rows.append([self.variants[name].title, *row])
        return _table("Choosing a checkpoint", ["method", *choices], rows)

    def classes(self) -> Table:
        """IoU of each class."""
        names = list(next(iter(next(iter(self.by_seed.values())).values())).facts["iou"])
        rows = []
        for name, results in self.rows():
            row = [self.variants[name].title]
            for label in names:
                values = [r.facts["iou"][label] for r in results if r.facts["iou"][label] is not None]
                row.append(_spread(values, 0) if values else "–")
            rows.append(row)
        return _table("IoU of each class", ["method", *names], rows)

    def rows(self) -> list[tuple[str, list[Result]]]:
        """Variants that have results, with these."""
        return [(name, list(self.by_seed[name].values())) for name in self.variants if name in self.by_seed]

    def gap_closed(self, name: str) -> float | None:
        """The share of the way from source-only to oracle, from the means over the seeds that have all three runs."""
        low, high, own = (self.by_seed.get(n, {}) for n in (*_REFERENCES, name))
        shared = [s for s in own if s in low and s in high]
        if not shared:
            return None
        low_mean, high_mean, own_mean = (
            statistics.fmean(results[s].miou for s in shared) for results in (low, high, own)
        )
        return (own_mean - low_mean) / (high_mean - low_mean) if high_mean != low_mean else None


def _prediction(result: Result, steps: int, draws: int) -> dict[str, float]:
    found: dict[str, float] = next(
        p for p in result.facts["predictions"] if (p["steps"], p["draws"]) == (steps, draws)
    )
    return found


def _mean(results: Sequence[Result], key: str) -> float:
    return statistics.fmean(r.facts[key] for r in results)


def _spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± sample standard deviation."""
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(title, tuple(head), tuple(tuple(row) for row in rows))
