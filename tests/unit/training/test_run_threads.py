from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from iccld.errors import InputError
from iccld.threads import Choice
from iccld.training import run_threads
from iccld.training.run_threads import RunThreads


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What trials will find, one after another."""
    numbers: list[int] = []

    def choose(work: object, most: int, *, helpers: int) -> Choice:
        number = numbers.pop(0)
        run_threads.set_threads(number)
        return Choice(number, {1: 0.5, 2: 0.3})

    monkeypatch.setattr(run_threads, "choose_threads", choose)
    monkeypatch.setattr(run_threads, "most_threads", lambda num: 2)
    return numbers


def make(out: Path, threads: int = 0) -> RunThreads:
    fabric = Fabric(accelerator="cpu", devices=1)
    return RunThreads(threads, out, fabric=fabric, num_local=1, helpers=0, trial=lambda: lambda: None)


def chosen(out: Path) -> list[tuple[int, int]]:
    return [(e["step"], e["threads"]) for e in json.loads((out / "threads.json").read_text())["chosen"]]


def test_a_choice_is_recorded_and_kept(tmp_path: Path, choices: list[int]) -> None:
    choices += [2]
    assert make(tmp_path).begin(0) == "2 (a trial took 0.5 s with 1 thread, 0.3 s with 2)"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert make(tmp_path).begin(30).startswith("2 (as before: a trial took")
    assert torch.get_num_threads() == 2
    assert chosen(tmp_path) == [(0, 2)]


def test_drifting_steps_choose_again_and_a_repetition_follows(
    tmp_path: Path, choices: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    choices += [2, 1]
    run = make(tmp_path)
    run.begin(0)
    assert not any(run.drifts(0.3) for _ in range(5))
    assert any(run.drifts(3.0) for _ in range(5))
    run.choose_again(10)
    assert torch.get_num_threads() == 1
    assert "threads: 1 from step 10 on, as steps have changed their pace" in capsys.readouterr().err
    assert chosen(tmp_path) == [(0, 2), (10, 1)]

    again = make(tmp_path)  # killed at step 12 with a checkpoint of step 5
    again.begin(5)
    numbers = []
    for step in range(5, 13):
        again.follow(step)
        numbers.append(torch.get_num_threads())
    assert numbers == [2] * 5 + [1] * 3


def test_a_repetition_does_not_choose_before_what_is_recorded(tmp_path: Path, choices: list[int]) -> None:
    choices += [2, 1]
    run = make(tmp_path)
    run.begin(0)
    run.choose_again(10)
    again = make(tmp_path)
    again.begin(5)
    again.choose_again(7)
    assert chosen(tmp_path) == [(0, 2), (10, 1)]


def test_the_pace_is_known_to_a_run_that_goes_on(tmp_path: Path, choices: list[int]) -> None:
    choices += [2]
    run = make(tmp_path)
    run.begin(0)
    assert not any(run.drifts(0.3) for _ in range(5))
    again = make(tmp_path)
    again.begin(5)
    assert any(again.drifts(3.0) for _ in range(5))


def test_what_is_asked_for_wins_and_is_kept(tmp_path: Path, choices: list[int]) -> None:
    choices += [2]
    make(tmp_path).begin(0)
    run = make(tmp_path, threads=1)
    assert run.begin(4) == "1 (--threads)"
    assert not any(run.drifts(seconds) for seconds in [0.1] * 5 + [9.0] * 9)
    assert chosen(tmp_path) == [(0, 2), (4, 1)]
    assert make(tmp_path).begin(8) == "1 (as before: --threads)"


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        '{"chosen": [{"step": -1, "threads": 1, "why": ""}], "seconds_per_step": 1}',
        '{"chosen": 3}',
    ],
)
def test_a_damaged_record_is_named(value: str, tmp_path: Path) -> None:
    (tmp_path / "threads.json").write_text(value)
    with pytest.raises(InputError, match=r"threads\.json.*remove it"):
        make(tmp_path)
