from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from iccld.errors import InputError
from iccld.threads import Choice
from iccld.training import rehearsal
from iccld.training.rehearsal import set_run_threads


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces trials of thread numbers. Returns a list to fill with the results of the next trials."""
    numbers: list[int] = []

    def choose(work: object, most: int, *, helpers: int) -> Choice:
        number = numbers.pop(0)
        rehearsal.set_threads(number)
        return Choice(number, {1: 0.5, 2: 0.3})

    monkeypatch.setattr(rehearsal, "choose_threads", choose)
    monkeypatch.setattr(rehearsal, "most_threads", lambda num: 2)
    return numbers


def begin(out: Path, step: int, threads: int = 0) -> str:
    fabric = Fabric(accelerator="cpu", devices=1)
    return set_run_threads(threads, step, out, fabric=fabric, helpers=0, make_trial=lambda: lambda: None)


def chosen(out: Path) -> list[tuple[int, int]]:
    return [(e["step"], e["threads"]) for e in json.loads((out / "threads.json").read_text())["chosen"]]


def test_a_choice_is_recorded_and_kept(tmp_path: Path, choices: list[int]) -> None:
    choices += [2]
    assert begin(tmp_path, 0) == "2 (a trial took 0.5 s with 1 thread, 0.3 s with 2)"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert begin(tmp_path, 30).startswith("2 (as before: a trial took")
    assert torch.get_num_threads() == 2
    assert chosen(tmp_path) == [(0, 2)]


def test_what_is_asked_for_wins_and_is_kept(tmp_path: Path, choices: list[int]) -> None:
    choices += [2]
    begin(tmp_path, 0)
    assert begin(tmp_path, 4, threads=1) == "1 (--threads)"
    assert chosen(tmp_path) == [(0, 2), (4, 1)]
    assert begin(tmp_path, 8) == "1 (as before: --threads)"
    assert begin(tmp_path, 2).startswith("2 (as before: a trial took"), "from a checkpoint before"


def test_a_record_of_an_older_version_is_followed(tmp_path: Path) -> None:
    entry = {"step": 0, "threads": 2, "why": "it was fast"}
    (tmp_path / "threads.json").write_text(json.dumps({"chosen": [entry], "seconds_per_step": 0.5}))
    assert begin(tmp_path, 5) == "2 (as before: it was fast)"


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
        begin(tmp_path, 0)
