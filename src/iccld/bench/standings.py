"""How methods compare beyond their final score: whether they rank as published, and which is where first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from iccld.bench.results import Result


class Ranking(NamedTuple):
    """Ranks of methods here and as published; 1 is the best, ties share the mean of their ranks.

    Attributes:
        here: mean rank over the tasks.
        published: rank by the published figures.
        correlation: Spearman's ρ of both, in [-1, 1]; NaN where all of one kind are tied.
    """

    here: Mapping[str, float]
    published: Mapping[str, float]
    correlation: float


def rank_methods(mious: Sequence[Mapping[str, float]], published: Mapping[str, float]) -> Ranking | None:
    """Compares the order of methods with the published one.

    Args:
        mious: of each task, mIoU by method.
        published: mIoU by method; methods without one are left out, and tasks that lack one of the others.

    Returns:
        None with fewer than three methods or no task that has them all.
    """
    whole = [of_task for of_task in mious if published.keys() <= of_task.keys()]
    if len(published) < 3 or not whole:
        return None
    of_tasks = [ranks({name: of_task[name] for name in published}) for of_task in whole]
    here = {name: statistics.fmean(of_task[name] for of_task in of_tasks) for name in published}
    there = ranks(published)
    ours = ranks({name: -rank for name, rank in here.items()})
    try:
        correlation = statistics.correlation([ours[n] for n in published], [there[n] for n in published])
    except statistics.StatisticsError:
        correlation = float("nan")
    return Ranking(here, there, correlation)


def ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The rank of each value, the greatest first; equal ones share the mean of their ranks."""
    ordered = sorted(values.values(), reverse=True)
    return {
        name: statistics.fmean(i for i, other in enumerate(ordered, 1) if other == value)
        for name, value in values.items()
    }


class Point(NamedTuple):
    """A moment of training, averaged over seeds: seconds of training, evaluations not counted, and mIoU in percent."""

    seconds: float
    miou: float


def learning_curve(results: Sequence[Result]) -> list[Point]:
    """MIoU over time; empty where results do not say how long they took to their evaluations."""
    curves = [{point["step"]: point for point in result.facts["checkpoints"]} for result in results]
    if not curves or not all("seconds" in point for curve in curves for point in curve.values()):
        return []
    shared = sorted(set.intersection(*map(set, curves)))
    return [
        Point(*(statistics.fmean(curve[step][key] for curve in curves) for key in ("seconds", "miou")))
        for step in shared
    ]


def first_reached(curve: Sequence[Point], miou: float) -> float | None:
    """Seconds until the first evaluation with at least so many percent; None if there is none."""
    return next((point.seconds for point in curve if point.miou >= miou), None)
