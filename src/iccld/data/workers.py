"""Work in processes of its own: results come in order, and no process is waited for that has ended.

Every worker has a pipe of its own and nothing else: no locks, which a killed process would keep for ever, and no
shared memory, which containers have little of. A worker that ends closes its pipe, and its reader learns of it at
once. The pools of Python and the loader of PyTorch share queues and locks between their workers.
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
"""Jobs that each worker has been given at a time: while one result waits for its reader, the next is worked on."""
_GRACE_SECONDS = 2.0


class WorkerDiedError(RuntimeError):
    """A worker could not be started or ended in the middle; the message says how, such as ``was killed by SIGKILL``."""


def ordered_map(work: Callable[[J], R], jobs: Iterable[J], num_workers: int) -> Iterator[R]:
    """Does jobs in worker processes and yields their results in order.

    The workers ignore SIGINT and SIGTERM, which terminals and job queues send to whole groups: this process answers
    them. They end when the iterator is closed or exhausted, and when this process ends, even if it is killed.

    Args:
        work: what to do with a job. It reaches the workers by fork on Linux, pickled elsewhere.
        jobs: small, picklable values.
        num_workers: 1 or more.

    Raises:
        WorkerDiedError: a worker could not be started, was killed or ran out of memory.
        Exception: what ``work`` raised, with the worker's traceback as a note. It must be picklable.
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
    """Does jobs in threads of this process and yields their results in order; after an error no more are begun."""
    executor = ThreadPoolExecutor(num_threads)
    try:
        yield from executor.map(work, jobs)
    finally:
        executor.shutdown(cancel_futures=True)


class _Failure(NamedTuple):
    """What ``work`` raised."""

    error: Exception
    where: str


class _Worker(NamedTuple):
    """One process and the pipe to it."""

    process: BaseProcess
    connection: Connection

    def send(self, job: object) -> None:
        try:
            self.connection.send(job)
        except OSError as error:
            raise WorkerDiedError(self._cause()) from error

    def receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(self._cause()) from error
        if isinstance(answer, _Failure):
            if isinstance(answer.error, MemoryError):
                raise WorkerDiedError("ran out of memory") from answer.error
            answer.error.add_note(f"in a worker process:\n{answer.where}")
            raise answer.error
        return answer

    def _cause(self) -> str:
        self.process.join(_GRACE_SECONDS)
        code = self.process.exitcode or 0
        if code >= 0:
            return f"ended with exit code {code}" if code else "ended without an answer"
        name = {number.value: number.name for number in signal.Signals}.get(-code, f"signal {-code}")
        return f"was killed by {name}" + ", as happens when memory runs out" * (name == "SIGKILL")


@contextlib.contextmanager
def _workers(work: Callable[[Any], Any], num_workers: int) -> Iterator[list[_Worker]]:
    """Starts workers. At the end their pipes are closed, and those that do not end by themselves are killed."""
    # Only where forking is safe: spawned workers import the caller's script again.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    new_process: Callable[..., BaseProcess] = context.Process
    workers: list[_Worker] = []
    owner = os.getpid()

    def close() -> None:
        if os.getpid() != owner:  # a copy of the list in a process that was forked
            return
        for worker in workers:
            worker.connection.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        try:
            for worker in workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also where a signal ends the waiting
            for worker in workers:
                if worker.process.is_alive():
                    worker.process.kill()
                    worker.process.join()

    # Python's own end terminates daemons politely, which they ignore, and would wait for them for ever.
    atexit.register(close)
    # OpenCV's threads do not survive a fork, but what waits for them does: they are ended before.
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        try:
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                with theirs:
                    # A forked worker inherits this process's ends of the pipes, and would keep them open.
                    inherited = [*(worker.connection for worker in workers), ours]
                    inherited = inherited if context.get_start_method() == "fork" else []
                    process = new_process(target=_serve, args=(theirs, inherited, work), daemon=True)
                    with warnings.catch_warnings():
                        # Newer Pythons warn of forking beside threads; the workers touch nothing of those.
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
    """Works on jobs until the pipe is closed."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    cv2.setNumThreads(0)  # the workers are the parallelism
    outbox: SimpleQueue[object] = SimpleQueue()
    threading.Thread(target=_post, args=(connection, outbox), daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = work(job)
        except Exception as error:
            answer = _Failure(error, traceback.format_exc())
        outbox.put(answer)


def _post(connection: Connection, outbox: SimpleQueue[object]) -> None:
    """Sends results while the next ones are worked on."""
    try:
        while True:
            connection.send(outbox.get())
    except OSError:
        pass  # nobody reads any more, and the main thread hears the same
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # the reader would wait for ever
