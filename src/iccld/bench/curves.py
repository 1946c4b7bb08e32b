"""Learning curves of a bench: mIoU over training time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from iccld.bench.results import Result


class Pace(NamedTuple):
    """Duration of a step in seconds, before self-training starts (``warmup``) and after (``adapting``)."""

    warmup: float
    adapting: float


Paces = Mapping[str, Mapping[str, Pace]]
"""Paces by task and variant, measured side by side."""


class Point(NamedTuple):
    """Point of a learning curve: training time in seconds without evaluations and mIoU in percent, means over seeds."""

    seconds: float
    miou: float


def learning_curve(results: Sequence[Result], pace: Pace | None = None) -> list[Point]:
    """Returns mIoU over training time, or an empty list if the results contain no times of evaluations.

    Args:
        results: Results of one variant, one per seed.
        pace: Step durations that determine the time. ``None`` uses the times of the runs.
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
