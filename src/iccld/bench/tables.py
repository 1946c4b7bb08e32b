"""Tables of a bench, in Markdown: made from the results alone, never typed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Pace(NamedTuple):
    """Seconds a step before self-training begins, and from then on."""

    warmup: float
    adapting: float


Paces = Mapping[str, Mapping[str, Pace]]
"""By task and variant, where they were measured side by side."""


@dataclass(frozen=True)
class Table:
    """A table: its title, the names of the columns, and rows of cells; without rows there is nothing to show."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, without its title; empty without rows."""
        if not self.rows:
            return ""
        head, *rows = (f"| {' | '.join(map(in_markdown, row))} |" for row in (self.head, *self.rows))
        return "\n".join([head, f"|{'|'.join(['---'] * len(self.head))}|", *rows])


def plan_tables(plan: Plan, results: list[Result], paces: Paces | None = None) -> str:
    """All tables of a plan, task by task.

    Args:
        plan: whose tables.
        results: of this plan and others.
        paces: instead of the runs' own, which other work and other machines disturbed.
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
    """One row a method and one column a task: mIoU with its spread over seeds; at the end the mean gap closed."""
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
    """The mean rank of the methods with published figures, and Spearman's ρ with their published order."""
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
    """The results of one task; arguments are those of ``plan_tables``.

    Attributes:
        title: of the task.
        by_seed: the results of each variant that has some, by its name.
        variants: by name, in the order of the plan.
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
        """Variants that have results, with these."""
        return [(name, list(self.by_seed[name].values())) for name in self.variants if name in self.by_seed]

    def tables(self) -> list[Table]:
        """All tables of the task, scores first."""
        return [
            *(self.scores(), self.time_to_quality(), self.predictions()),
            *(self.uncertainty(), self.selection(), self.classes()),
        ]

    def learning_curve(self, name: str) -> list[Point]:
        """MIoU of a variant over time; empty where its results do not say how long they took to their evaluations."""
        return learning_curve(list(self.by_seed[name].values()), (self.paces or {}).get(name))

    def mious(self) -> dict[str, list[float]]:
        """In percent, one for each seed, by the titles of the variants."""
        return {self.variants[name].title: [r.miou for r in results] for name, results in self.rows()}

    def scores(self) -> Table:
        """MIoU, gap closed, cost."""
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
        """When ICCLD, the first variant of that method, has what each other method has in the end."""
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
        """What steps and draws do, and how far the model can be trusted."""
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
        """How well each signal tells wrong pixels from right ones."""
        rows = []
        for place, draws, found in self._predicted():
            for signal in _SIGNALS if draws > 1 else _SIGNALS[:2]:  # one draw disagrees with nobody
                keys = (f"auroc_{signal}", f"aurc_{signal}", f"fpr95_{signal}", "class_ece")
                if _known(found, keys[1]):
                    figures = [_spread(_known(found, key), 3) for key in keys]
                    rows.append([*place, signal.replace("_", " "), *figures])
        head = ["method", "K", "N", "signal", "AUROC", "AURC", "FPR at 95 % TPR", "class-wise ECE"]
        return Table("Uncertainty", head, rows)

    def _predicted(self) -> list[tuple[list[str], int, list[dict[str, Any]]]]:
        """First cells of a row, draws and figures of each way to predict."""
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
        """What choosing a checkpoint would change: without labels, and by looking at them."""
        rows = []
        for name, results in self.rows():
            several = [r.facts["checkpoints"] for r in results if len(r.facts["checkpoints"]) > 1]
            if several:
                mious = ([max(c, key=choose)["miou"] for c in several] for choose in _CHOICES.values())
                rows.append([self.variants[name].title, *map(_spread, mious)])
        return Table("Choosing a checkpoint", ["method", *_CHOICES], rows)

    def classes(self) -> Table:
        """IoU of each class."""
        rows, names = [], list[str]()
        for name, results in self.rows():
            names = names or list(results[0].facts["iou"])
            ious = ([r.facts["iou"][label] for r in results] for label in names)
            cells = (_spread([value for value in values if value is not None], 0) for values in ious)
            rows.append([self.variants[name].title, *cells])
        return Table("IoU of each class", ["method", *names], rows)

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


class Point(NamedTuple):
    """A moment of training, averaged over seeds: seconds of training, evaluations not counted, and mIoU in percent."""

    seconds: float
    miou: float


def learning_curve(results: Sequence[Result], pace: Pace | None = None) -> list[Point]:
    """MIoU over time; empty where results do not say how long they took to their evaluations.

    Args:
        results: of one variant, by seed.
        pace: gives the time; the runs' own times if None.
    """
    curves = [
        {
            int(point["step"]): point | _time(result, point["step"], pace)
            for point in result.facts["checkpoints"]
        }
        for result in results
    ]
    if not curves or not all("seconds" in point for curve in curves for point in curve.values()):
        return []
    shared = sorted(set.intersection(*map(set, curves)))
    return [
        Point(*(statistics.fmean(curve[step][key] for curve in curves) for key in ("seconds", "miou")))
        for step in shared
    ]


def _time(result: Result, step: int, pace: Pace | None) -> dict[str, float]:
    if pace is None:
        return {}
    config = result.identity
    early = min(step, round(config.adaptation.start * config.steps))
    return {"seconds": early * pace.warmup + (step - early) * pace.adapting}


def ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The rank of each value, the greatest first; equal ones share the mean of their ranks."""
    ordered = sorted(values.values(), reverse=True)
    return {
        name: statistics.fmean(i for i, other in enumerate(ordered, 1) if other == value)
        for name, value in values.items()
    }


def _known(found: Sequence[Mapping[str, float | None]], key: str) -> list[float]:
    return [value for figures in found if (value := figures.get(key)) is not None]


def _spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± sample standard deviation."""
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
