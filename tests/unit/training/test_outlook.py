from __future__ import annotations

import pytest

from iccld.training.display import Costs, Outlook


def test_time_left_is_the_pace_of_the_last_steps() -> None:
    outlook = Outlook(Costs(), 0, 100)
    outlook.advance(30.0)  # the first step includes preparation
    assert outlook.seconds_left() == pytest.approx(99 * 30)
    for _ in range(2, 6):
        outlook.advance(2.0)
    assert outlook.seconds_per_step == 2.0
    assert outlook.seconds_left() == pytest.approx(95 * 2)
    for _ in range(6, 40):
        outlook.advance(1.0)
    assert outlook.seconds_left() == pytest.approx(61)


def test_later_steps_cost_what_their_trial_says() -> None:
    outlook = Outlook(Costs(early=0.1, late=0.4, change=40), 0, 100)
    assert outlook.seconds_left() == pytest.approx(40 * 0.1 + 60 * 0.4)
    for _ in range(1, 11):
        outlook.advance(0.2)  # the machine is half as fast as in the trial
    assert outlook.seconds_left() == pytest.approx(2 * (30 * 0.1 + 60 * 0.4))
    for step in range(11, 61):
        outlook.advance(0.2 if step <= 40 else 0.8)
    assert outlook.seconds_left() == pytest.approx(40 * 0.8)


def test_a_run_that_goes_on_late_knows_late_steps_alone() -> None:
    assert Costs(0.1, 0.4, 40).of_steps(50, 60) == pytest.approx(4.0)
    assert Costs(0.1, 0.4, 40).of_steps(30, 50) == pytest.approx(5.0)
    assert Costs(0.1, 0.4, 40).of_steps(0, 40) == pytest.approx(4.0)


def test_evaluations_count_until_they_are_done() -> None:
    outlook = Outlook(Costs(evaluation=5.0), 0, 10, evaluations=2)
    for _ in range(1, 6):
        outlook.advance(1.0)
    assert outlook.seconds_left() == pytest.approx(5 + 10)
    outlook.evaluated(3.0)
    assert outlook.seconds_left() == pytest.approx(5 + 3)
