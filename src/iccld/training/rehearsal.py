"""What is tried before the first step of a run: threads, and what steps and evaluations will take."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from iccld.machine import release_freed_memory
from iccld.models.iccld import ICCLD
from iccld.training.outlook import Costs
from iccld.training.run_threads import RunThreads
from iccld.training.trial import TrialStep
from iccld.training.update import Update

_WORTH_A_TRIAL = 20.0
"""Seconds of training from which on it is worth trying an evaluation too."""


@runtime_checkable
class Foreseeable(Protocol):
    """An evaluation that can tell what it will take."""

    def expected_seconds(self, teacher: ICCLD, student: ICCLD) -> float:
        """Seconds of a whole evaluation."""
        ...


@dataclass(frozen=True)
class Rehearsal:
    """What was found.

    Attributes:
        threads: of the run, set.
        words: their number and why.
        costs: of steps and evaluations.
    """

    threads: RunThreads
    words: str
    costs: Costs


def rehearse(update: Update, *, step: int, out: Path, evaluate: object) -> Rehearsal:
    """Chooses the threads and times trial steps of both phases; the run's numbers do not depend on any of it.

    Args:
        update: of the run, as it stands before step ``step``.
        step: where the run goes on.
        out: its folder.
        evaluate: what measures the run; tried if it is ``Foreseeable`` and the run is long.
    """
    config = update.config
    crop = config.data.crop

    def trial() -> Callable[[], object]:
        return partial(TrialStep(update, crop), step)

    threads = RunThreads(
        config.threads,
        out,
        fabric=update.fabric,
        num_local=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        helpers=config.data.num_workers * (2 if update.method.uses_target else 1),
        trial=trial,
    )
    words = threads.begin(step)
    attempt = TrialStep(update, crop)
    change = round(config.adaptation.start * config.steps) if update.method.uses_target else 0
    early = late = _timed(attempt, step)
    if step < change < config.steps:
        late = _timed(attempt, config.steps - 1)
    costs = Costs(early, late, change)
    is_long = costs.of_steps(step, config.steps) > _WORTH_A_TRIAL
    if is_long and update.fabric.is_global_zero and isinstance(evaluate, Foreseeable):
        seconds = evaluate.expected_seconds(update.teacher_model, update.model)
        costs = Costs(early, late, change, seconds)
    del attempt
    release_freed_memory()
    return Rehearsal(threads, words, costs)


def _timed(trial: TrialStep, step: int) -> float:
    trial(step)  # prepares the kernels
    return trial(step)
