"""Threads that read the next files and write earlier results while the model processes the current file."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(
    items: Iterable[T], read: Callable[[T], R], *, num_threads: int = 2
) -> Iterator[tuple[T, Callable[[], R]]]:
    """Yields every item in order, each with a function that returns the result of ``read(item)``.

    If ``read`` raises an error, the yielded function raises the same error, so that the caller can skip an unreadable
    file. At most ``num_threads`` results wait in memory.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="read")
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, threads.submit(read, item)))
            if len(waiting) == num_threads:
                ready, future = waiting.popleft()
                yield ready, future.result
        yield from ((item, future.result) for item, future in waiting)
    finally:
        threads.shutdown(cancel_futures=True)


@contextlib.contextmanager
def write_behind(*, num_threads: int = 2) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Gives a function ``submit`` that runs other functions in threads, for example functions that write files.

    When ``submit`` returns, at most ``num_threads`` functions are unfinished. If a function raised an error, a later
    call of ``submit`` or the end of the ``with`` block raises it. The block ends when all functions have ended.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="write")
    waiting: deque[Future[object]] = deque()

    def submit(function: Callable[[], object]) -> None:
        while len(waiting) >= num_threads:
            waiting.popleft().result()
        waiting.append(threads.submit(function))

    try:
        yield submit
        for future in waiting:
            future.result()
    finally:
        threads.shutdown()
