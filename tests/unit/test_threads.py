from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import cv2
import pytest
import torch

from iccld import threads
from iccld.errors import InputError
from iccld.threads import Choice, choose_threads, most_threads, set_threads, use_threads


@pytest.fixture(autouse=True)
def _leave_no_trace():
    yield
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], Callable[[], None]]:
    """Makes work that takes given seconds by number of threads, of a clock that nothing else moves."""

    def make(seconds: dict[int, float]) -> Callable[[], None]:
        now = [0.0]
        monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])

        def run() -> None:
            now[0] += seconds[torch.get_num_threads()]

        return run

    return make


@pytest.mark.parametrize(
    ("seconds", "helpers", "chosen"),
    [
        ({1: 0.5, 2: 0.3}, 0, 2),
        ({1: 0.5, 2: 1.8}, 2, 1),
        ({1: 0.5, 2: 0.49}, 2, 1),  # as good as equal
        ({1: 4.0, 4: 1.5, 6: 1.0, 8: 0.99}, 2, 6),  # the helpers' cores are not worth it
        ({1: 4.0, 4: 1.5, 6: 1.4, 8: 1.0}, 2, 8),
        ({1: 4.0, 4: 1.0, 8: 9.0}, 0, 4),
    ],
)
def test_the_fastest_is_chosen_and_set(seconds: dict[int, float], helpers: int, chosen: int, work) -> None:
    choice = choose_threads(work(seconds), max(seconds), helpers=helpers)
    assert choice.threads == chosen == torch.get_num_threads()
    assert set(choice.seconds) == set(seconds)
    assert f"{seconds[max(seconds)]:.2g} s with {max(seconds)}" in choice.why
    assert "s with 1 thread," in choice.why
    assert cv2.getNumThreads() == 1


def test_a_hopeless_number_is_tried_twice_at_most(work) -> None:
    calls: list[int] = []
    takes = work({1: 0.1, 2: 10.0})

    def counted() -> None:
        calls.append(torch.get_num_threads())
        takes()

    assert choose_threads(counted, 2).threads == 1
    assert calls.count(2) == 2


def test_one_core_leaves_no_choice() -> None:
    def never() -> None:
        pytest.fail("nothing to try")

    choice = choose_threads(never, 1)
    assert (choice.threads, choice.seconds) == (1, {})
    assert "core" in choice.why or "OMP" in choice.why


def test_what_a_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert most_threads() == 3
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")  # the launcher's variable, not the user's
    assert most_threads(2) == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [most_threads(n) for n in (1, 3, 16)] == [8, 2, 1]


@pytest.mark.parametrize("number", [-1, 0, 10**6])
def test_impossible_numbers_are_refused(number: int) -> None:
    with pytest.raises(InputError, match="--threads"):
        set_threads(number)


def test_prediction_measures_once_in_a_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    def choose(work: object, most: int, *, budget: float) -> Choice:
        tried.append(most)
        return Choice(2, {1: 0.01, 2: 0.006})

    threads._for_prediction.cache_clear()
    monkeypatch.setattr(threads, "choose_threads", choose)
    monkeypatch.setattr(threads, "most_threads", lambda: 2)
    try:
        assert [use_threads(0), use_threads(0), torch.get_num_threads()] == [2, 2, 2]
        assert tried == [2]
        said = capsys.readouterr().err
        assert (
            said
            == "threads: 2 (a trial took 0.01 s with 1 thread, 0.006 s with 2; --threads sets another number)\n"
        )
        assert use_threads(1) == torch.get_num_threads() == 1
        assert use_threads(0, "cuda") == 1
        assert tried == [2]
        assert capsys.readouterr().err == ""
    finally:
        threads._for_prediction.cache_clear()


def test_the_small_work_is_small_and_real() -> None:
    work = threads._small_work()
    state = torch.get_rng_state()
    work()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "100"}, "None")],
)
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(given: dict[str, str], expected: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {k: v for k, v in os.environ.items() if k not in names} | given
    code = (
        "import os, sys, iccld\nassert 'torch' not in sys.modules\nprint(os.environ.get('OMP_WAIT_POLICY'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
