"""Learning curves of a bench: mIoU over training time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from iccld.bench.results import Result


class Pace(NamedTuple):
    """Duration of a training step in seconds: ``warmup`` before self-training starts, ``adapting`` afterwards."""

    warmup: float
    adapting: float


Paces = Mapping[str, Mapping[str, Pace]]
"""Durations of a training step: task name → (variant name → durations)."""


class Point(NamedTuple):
    """Point of a learning curve, averaged over seeds: training time in seconds and mIoU in percent.

    The time for evaluations is not part of the training time.
    """

    seconds: float
    miou: float


def learning_curve(results: Sequence[Result], pace: Pace | None = None) -> list[Point]:
    """Returns the learning curve of a variant: mIoU over training time, averaged over seeds.

    The points are the steps at which the runs of all seeds were evaluated. If ``pace`` is ``None`` and a result does
    not contain training times, the list is empty.

    Args:
        results: Results of one variant, one per seed.
        pace: Step durations from which training times are computed. With ``None``, the training times that
            are stored in the results are used.
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
