"""Runs jobs in worker processes and yields results in order. If a worker is killed, an error is raised.

The parent process and each worker share only a pipe. There are no locks, which a killed process would hold forever,
and no shared memory, which is scarce in containers. When a worker ends, its pipe is closed. Reading from the pipe then
fails at once. In contrast, the pools of Python and the data loader of PyTorch share queues and locks between workers.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import cv2

from iccld.machine import end_with_parent

J = TypeVar("J")
R = TypeVar("R")

_AHEAD = 2
"""Maximum number of jobs that a worker has at a time. While one result waits to be read, the next job is computed."""
_GRACE_SECONDS = 2.0


class WorkerDiedError(RuntimeError):
    """Raised if a worker cannot start or ends early. The message is the cause, such as ``was killed by SIGKILL``."""


def ordered_map(work: Callable[[J], R], jobs: Iterable[J], num_workers: int) -> Iterator[R]:
    """Calls ``work`` for each job in worker processes and yields the results in order.

    The workers ignore SIGINT and SIGTERM, which terminals and job queues send to whole process groups. Only the
    calling process handles these signals. The workers end when the iterator is closed or exhausted, and when the
    calling process ends or is killed.

    Args:
        work: Function that computes the result of a job. On systems other than Linux, this function must be picklable.
        jobs: Arguments of ``work``, which must be picklable and should be small.
        num_workers: Number of worker processes, at least 1.

    Raises:
        WorkerDiedError: A worker could not be started, was killed or ran out of memory.
        Exception: Any exception from ``work``, with the worker's traceback as a note. Exceptions must be picklable.
    """
    with _workers(work, num_workers) as workers:
        rest = iter(jobs)
        waiting: deque[_Worker] = deque()
        for job, worker in zip(islice(rest, num_workers * _AHEAD), cycle(workers), strict=False):
            worker.send(job)
            waiting.append(worker)
        while waiting:
            worker = waiting.popleft()
            result = worker.receive()
            for job in islice(rest, 1):
                worker.send(job)
                waiting.append(worker)
            yield result


def threaded_map(work: Callable[[J], R], jobs: Iterable[J], num_threads: int) -> Iterator[R]:
    """Calls ``work`` for each job in threads and yields the results in order. After an error, no new job is started."""
    executor = ThreadPoolExecutor(num_threads)
    try:
        yield from executor.map(work, jobs)
    finally:
        executor.shutdown(cancel_futures=True)


class _Worker(NamedTuple):
    """A worker process and the parent's end of the pipe to this process.

    The parent sends jobs through the pipe. The worker sends (result, error, traceback) back.
    """

    process: BaseProcess
    connection: Connection

    def send(self, job: object) -> None:
        try:
            self.connection.send(job)
        except OSError as error:
            raise WorkerDiedError(self._cause()) from error

    def receive(self) -> Any:
        try:
            result, failure, where = self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(self._cause()) from error
        if isinstance(failure, MemoryError):
            raise WorkerDiedError("ran out of memory") from failure
        if failure is not None:
            failure.add_note(f"in a worker process:\n{where}")
            raise failure
        return result

    def _cause(self) -> str:
        self.process.join(_GRACE_SECONDS)
        code = self.process.exitcode or 0
        if code >= 0:
            return f"ended with exit code {code}" if code else "ended without an answer"
        name = {number.value: number.name for number in signal.Signals}.get(-code, f"signal {-code}")
        return f"was killed by {name}" + ", as happens when memory runs out" * (name == "SIGKILL")


@contextlib.contextmanager
def _workers(work: Callable[[Any], Any], num_workers: int) -> Iterator[list[_Worker]]:
    """Starts workers. At the end, closes the pipes and kills workers that do not end within ``_GRACE_SECONDS``."""
    # Spawned workers import the caller's script again, so workers are forked on Linux, where forking is safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    is_forked = context.get_start_method() == "fork"
    new_process: Callable[..., BaseProcess] = context.Process
    workers: list[_Worker] = []
    owner = os.getpid()

    def close() -> None:
        if os.getpid() != owner:  # a forked process must not end the workers of its parent
            return
        for worker in workers:
            worker.connection.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        try:
            for worker in workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:  # runs even if a signal interrupts a join
            for worker in workers:
                if worker.process.is_alive():
                    worker.process.kill()
                    worker.process.join()

    # At exit, Python sends SIGTERM to daemon processes and waits for them. The workers ignore SIGTERM, so Python would
    # wait forever if ``close`` did not end the workers before.
    atexit.register(close)
    # OpenCV's threads do not survive a fork, and a worker would wait for the threads forever. The threads are therefore
    # ended first.
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        try:
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                with theirs:
                    # A forked worker inherits the parent's ends of the pipes and must close these ends.
                    inherited = [*(worker.connection for worker in workers), ours] if is_forked else []
                    process = new_process(target=_serve, args=(theirs, inherited, work), daemon=True)
                    with warnings.catch_warnings():
                        # Newer Python versions warn about threads at a fork. The workers do not need these threads.
                        warnings.simplefilter("ignore", DeprecationWarning)
                        process.start()
                workers.append(_Worker(process, ours))
        except OSError as error:
            reason = f"{error.strerror}; a limit may be raised with ulimit -n and ulimit -u"
            raise WorkerDiedError(f"could not be started ({reason})") from error
        finally:
            cv2.setNumThreads(num_threads)
        yield workers
    finally:
        atexit.unregister(close)
        close()


def _serve(connection: Connection, inherited: list[Connection], work: Callable[[Any], Any]) -> None:
    """Receives jobs and computes their results until the pipe is closed. Runs in the worker process."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    cv2.setNumThreads(0)  # the worker processes run in parallel already
    outbox: SimpleQueue[object] = SimpleQueue()
    threading.Thread(target=_post, args=(connection, outbox), daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            outbox.put((work(job), None, ""))
        except Exception as error:
            outbox.put((None, error, traceback.format_exc()))


def _post(connection: Connection, outbox: SimpleQueue[object]) -> None:
    """Sends results from a thread of the worker process, while the next job is computed."""
    try:
        while True:
            connection.send(outbox.get())
    except OSError:
        pass  # the pipe is closed, which also ends the worker's main thread
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # otherwise, the parent process would wait forever for the result
