from __future__ import annotations

import pytest

from iccld.training.outlook import Costs, Drift, Outlook


def test_time_left_is_the_pace_of_the_last_steps() -> None:
    outlook = Outlook(Costs(), 0, 100)
    outlook.advance(1, 30.0)  # prepares everything
    assert outlook.seconds_left() == pytest.approx(99 * 30)
    for step in range(2, 6):
        outlook.advance(step, 2.0)
    assert outlook.seconds_per_step == 2.0
    assert outlook.seconds_left() == pytest.approx(95 * 2)
    for step in range(6, 40):
        outlook.advance(step, 1.0)
    assert outlook.seconds_left() == pytest.approx(61)


def test_later_steps_cost_what_their_trial_says() -> None:
    outlook = Outlook(Costs(early=0.1, late=0.4, change=40), 0, 100)
    assert outlook.seconds_left() == pytest.approx(40 * 0.1 + 60 * 0.4)
    for step in range(1, 11):
        outlook.advance(step, 0.2)  # the machine is half as fast as in the trial
    assert outlook.seconds_left() == pytest.approx(2 * (30 * 0.1 + 60 * 0.4))
    for step in range(11, 61):
        outlook.advance(step, 0.2 if step <= 40 else 0.8)
    assert outlook.seconds_left() == pytest.approx(40 * 0.8)


def test_a_run_that_goes_on_late_knows_late_steps_alone() -> None:
    assert Costs(0.1, 0.4, 40).of_steps(50, 60) == pytest.approx(4.0)
    assert Costs(0.1, 0.4, 40).of_steps(30, 50) == pytest.approx(5.0)
    assert Costs(0.1, 0.4, 40).of_steps(0, 40) == pytest.approx(4.0)


def test_evaluations_count_until_they_are_done() -> None:
    outlook = Outlook(Costs(evaluation=5.0), 0, 10, evaluations=2)
    for step in range(1, 6):
        outlook.advance(step, 1.0)
    assert outlook.seconds_left() == pytest.approx(5 + 10)
    outlook.evaluated(3.0)
    assert outlook.seconds_left() == pytest.approx(5 + 3)


def test_steps_of_twice_the_time_are_noticed_once_they_go_on() -> None:
    drift = Drift()
    assert not any(drift.add(1.0) for _ in range(20))
    assert not any(drift.add(seconds) for seconds in (9.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    assert [drift.add(2.5) for _ in range(5)].count(True) == 1
    assert drift.usual == 2.5
    assert not any(drift.add(2.5) for _ in range(20)), "that is usual from then on"
    assert any(drift.add(1.0) for _ in range(6)), "and faster again"


def test_what_is_usual_may_be_known() -> None:
    drift = Drift(usual=1.0)
    assert [drift.add(3.0) for _ in range(5)] == [False] * 4 + [True]
