"""The remaining time that a bench shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iccld.bench import engine
from iccld.bench.plan import Run


@pytest.mark.parametrize(
    ("begun", "step", "elapsed", "left"),
    [
        (0, 0, 30, 170),  # no step yet: the finished run took 200 s
        (0, 20, 100, 100),  # half of the steps in half of the time
        (0, 20, 160, 160),  # slower than the finished run
        (0, 20, 400, 400),  # after a pause; the finished run alone would give 0
        (20, 30, 40, 160),  # resumed: ten steps took 40 s, and the finished run gives 160 s
        (0, 40, 250, 0),
    ],
)
def test_remaining_time_follows_the_slower_of_finished_runs_and_own_pace(
    runs: dict[str, Run],
    save_result: Callable[..., Path],
    tmp_path: Path,
    begun: int,
    step: int,
    elapsed: float,
    left: float,
) -> None:
    save_result(runs["near/iccld/1"], seconds=200.0)
    metrics = tmp_path / "metrics.csv"
    if begun:
        metrics.write_text(f"step\n{begun}\n")
    process: Any = None
    worker = engine._Worker(runs["near/iccld/3"], process, tmp_path)
    if step:
        metrics.write_text(f"step\n{step}\n")
    queue = engine._Queue(list(runs.values()), engine.Resources(tmp_path / "results", tmp_path, 1, 1, {}))
    assert queue._remaining(worker, elapsed) == pytest.approx(left)
