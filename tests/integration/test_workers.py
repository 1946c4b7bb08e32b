from __future__ import annotations

import errno
import multiprocessing.context
import os
import signal
import time
from collections.abc import Iterator

import pytest

from iccld.data.workers import WorkerDiedError, ordered_map


def square(number: int) -> tuple[int, int]:
    time.sleep(0.002 * (number % 3))  # so that they do not end in order by themselves
    return number * number, os.getpid()


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (1, 2), (3, 2), (17, 3)])
def test_results_come_in_order_from_other_processes(count: int, workers: int) -> None:
    results = list(ordered_map(square, iter(range(count)), workers))
    assert [result for result, _ in results] == [n * n for n in range(count)]
    pids = {pid for _, pid in results}
    assert os.getpid() not in pids
    assert len(pids) == min(count, workers)
    assert all(map(_gone, pids))


def test_large_results_do_not_block_the_work() -> None:
    """They fill the pipes while their reader is busy elsewhere."""
    results = ordered_map(lambda n: bytes([n]) * 3_000_000, range(6), 2)
    first = next(results)
    time.sleep(0.05)
    assert [first[0], *(r[0] for r in results)] == list(range(6))


def test_a_killed_worker_is_noticed_at_once_and_takes_the_others_along() -> None:
    pids: list[int] = []

    def work(number: int) -> int:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    start = time.monotonic()
    with pytest.raises(WorkerDiedError, match="was killed by SIGKILL, as happens when memory runs out"):
        pids.extend(ordered_map(work, range(100), 2))
    assert len(pids) <= 5  # answers that were not sent yet are lost with the worker
    assert time.monotonic() - start < 20
    assert all(map(_gone, set(pids)))


def test_a_worker_that_is_killed_while_nobody_reads() -> None:
    results = ordered_map(lambda n: os.getpid(), range(100), 1)
    os.kill(next(results), signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        list(results)


@pytest.mark.parametrize(("code", "words"), [(3, "ended with exit code 3"), (0, "ended without an answer")])
def test_a_worker_that_leaves(code: int, words: str) -> None:
    with pytest.raises(WorkerDiedError, match=words):
        list(ordered_map(lambda n: os._exit(code), range(3), 1))


def test_groups_signals_are_left_to_the_reader() -> None:
    results = ordered_map(square, range(50), 1)
    _, pid = next(results)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert len(list(results)) == 49


def test_errors_come_over_with_their_traceback() -> None:
    def fail(number: int) -> int:
        if number == 1:
            raise ValueError("bad number")
        return number

    results = ordered_map(fail, range(4), 2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="bad number") as caught:
        next(results)
    assert "in fail" in caught.value.__notes__[0]


def test_memory_that_runs_out_in_a_worker() -> None:
    def fail(number: int) -> int:
        raise MemoryError

    with pytest.raises(WorkerDiedError, match="ran out of memory"):
        list(ordered_map(fail, range(4), 2))


def test_results_that_cannot_travel_end_the_worker(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WorkerDiedError, match="exit code 1"):
        list(ordered_map(lambda n: lambda: n, range(4), 1))
    assert "pickle" in capfd.readouterr().err


def test_a_worker_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "_Popen", staticmethod(refuse))
    with pytest.raises(
        WorkerDiedError, match=r"could not be started \(Resource temporarily unavailable; .*ulimit"
    ):
        list(ordered_map(square, range(4), 2))


def test_a_reader_that_stops_early_ends_the_workers() -> None:
    results: Iterator[tuple[int, int]] = ordered_map(square, range(1000), 2)
    pids = {next(results)[1] for _ in range(2)}
    results.close()  # type: ignore[attr-defined]
    assert all(map(_gone, pids))


def test_a_worker_that_hangs_is_killed() -> None:
    def work(number: int) -> int:
        time.sleep(60 if number else 0)
        return os.getpid()

    results = ordered_map(work, range(10), 1)
    pid = next(results)
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 20
    assert _gone(pid)
