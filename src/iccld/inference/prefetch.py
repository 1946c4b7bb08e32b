"""Prefetching: threads read the next files while the model processes the current file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(
    items: Iterable[T], read: Callable[[T], R], *, num_threads: int = 2
) -> Iterator[tuple[T, Callable[[], R]]]:
    """Yields every item, in order, with a function that returns the result of ``read(item)``.

    If ``read`` raised an error, the function raises the same error, so that the caller can skip an unreadable file. At
    most ``num_threads`` results wait in memory.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="read") as threads:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            waiting.extend((item, threads.submit(read, item)) for item in islice(remaining, num_threads))
            while waiting:
                item, future = waiting.popleft()
                yield item, future.result
                waiting.extend((later, threads.submit(read, later)) for later in islice(remaining, 1))
        finally:
            for _, future in waiting:
                future.cancel()
