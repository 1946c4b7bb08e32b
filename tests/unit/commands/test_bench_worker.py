"""What the worker of a bench takes from a run's metrics."""

from __future__ import annotations

import pytest

from iccld.commands.bench_worker import _seconds_until


def test_seconds_of_training_are_summed_from_the_paces() -> None:
    paces = {20: 0.5, 40: 1.0, 45: 2.0}
    found = {step: _seconds_until(step, paces) for step in (0, 10, 20, 30, 45)}
    assert found == pytest.approx({0: 0.0, 10: 5.0, 20: 10.0, 30: 20.0, 45: 40.0})
