"""Threads for work that takes long, and that the end of the program does not wait for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Does what it is handed in the order it comes.

    The threads of ``concurrent.futures`` would be joined at the end of the program, however long that takes: a
    prediction in native code cannot be interrupted.

    Args:
        name: of the threads.
        threads: how many things are done at a time.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._running, self._lock = 0, threading.Lock()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Hands in a job; one that has not begun can be cancelled."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future

    def wait_idle(self, seconds: float) -> bool:
        """Whether nothing runs, within so many seconds."""
        until = time.monotonic() + seconds
        while self._running and time.monotonic() < until:
            time.sleep(0.02)
        return not self._running

    def _work(self) -> None:
        while True:
            future, job = self._jobs.get()
            with self._lock:
                self._running += 1
            try:
                if future.set_running_or_notify_cancel():
                    self._do(future, job)
            finally:
                with self._lock:
                    self._running -= 1
                del future, job  # an idle thread keeps no image

    @staticmethod
    def _do(future: Future[Any], job: Callable[[], Any]) -> None:
        try:
            result = job()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
