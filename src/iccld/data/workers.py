"""Work in processes of its own: results come in order, and no process is waited for that has ended.

Every worker has a pipe of its own and nothing else: no locks, which a killed process would keep for ever, and no
shared memory, which containers have little of. A worker that ends closes its pipe, and its reader learns of it at
once.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, TypeVar

import cv2

from iccld.machine import end_with_parent

J = TypeVar("J")
R = TypeVar("R")

_AHEAD = 2
"""Jobs that each worker has been given at a time: while one result waits for its reader, the next is worked on."""
_GRACE_SECONDS = 2.0


class WorkerDiedError(RuntimeError):
    """A worker ended in the middle of its work; the message says how, such as ``was killed by SIGKILL``."""


def ordered_map(work: Callable[[J], R], jobs: Iterable[J], num_workers: int) -> Iterator[R]:
    """Does jobs in worker processes and yields their results in order.

    The workers ignore SIGINT and SIGTERM, which terminals and job queues send to whole groups: this process answers
    them. They end when the iterator is closed or exhausted, and when this process ends, even if it is killed.

    Args:
        work: what to do with a job. It reaches the workers by fork on Linux, pickled elsewhere.
        jobs: small, picklable values.
        num_workers: 1 or more.

    Raises:
        OSError: a worker could not be started.
        WorkerDiedError: a worker was killed.
        Exception: what ``work`` raised, with the worker's traceback as a note.
    """
    pool = _Pool(work, num_workers)
    try:
        rest = iter(jobs)
        waiting: deque[_Worker] = deque()
        for job, worker in zip(islice(rest, num_workers * _AHEAD), cycle(pool.workers), strict=False):
            worker.send(job)
            waiting.append(worker)
        while waiting:
            worker = waiting.popleft()
            result = worker.receive()
            for job in islice(rest, 1):
                worker.send(job)
                waiting.append(worker)
            yield result
    finally:
        pool.close()


@dataclass(frozen=True)
class _Failure:
    """What ``work`` raised."""

    error: Exception
    where: str


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, context: BaseContext, work: Callable[[Any], Any], others: list[_Worker]) -> None:
        self.connection, theirs = context.Pipe()
        # A forked worker inherits this process's ends of the pipes, and would keep them open.
        inherited = (
            [*(o.connection for o in others), self.connection] if context.get_start_method() == "fork" else []
        )
        process = context.Process(target=_serve, args=(theirs, inherited, work), daemon=True)  # type: ignore[attr-defined]
        self.process: BaseProcess = process
        try:
            with warnings.catch_warnings():
                # Newer Pythons warn of forking beside threads; the workers touch nothing of the parent's threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()

    def send(self, job: object) -> None:
        try:
            self.connection.send(job)
        except OSError as error:
            raise WorkerDiedError(self._epitaph()) from error

    def receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(self._epitaph()) from error
        if isinstance(answer, _Failure):
            if isinstance(answer.error, MemoryError):
                raise WorkerDiedError("ran out of memory") from answer.error
            answer.error.add_note(f"in a worker process:\n{answer.where}")
            raise answer.error
        return answer

    def _epitaph(self) -> str:
        self.process.join(_GRACE_SECONDS)
        code = self.process.exitcode
        if code is None or code >= 0:
            return "ended without an answer" if not code else f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}" + (
            ", as happens when memory runs out" if -code == getattr(signal, "SIGKILL", 9) else ""
        )


class _Pool:
    """The processes of one ``ordered_map``."""

    def __init__(self, work: Callable[[Any], Any], num_workers: int) -> None:
        self.workers: list[_Worker] = []
        self._owner = os.getpid()
        # Only where forking is safe: spawned workers import the caller's script again.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        # OpenCV's threads do not survive a fork, but what waits for them does: they are ended before.
        num_threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        # Python's own end terminates daemons politely, which they ignore, and would wait for them for ever.
        atexit.register(self.close)
        try:
            for _ in range(num_workers):
                self.workers.append(_Worker(context, work, self.workers))
        except BaseException:
            self.close()
            raise
        finally:
            cv2.setNumThreads(num_threads)

    def close(self) -> None:
        """Ends the processes: by closing their pipes, and with force if one does not end by itself."""
        if os.getpid() != self._owner:  # a copy of this object in a process that was forked
            return
        atexit.unregister(self.close)
        workers, self.workers = self.workers, []
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


def _serve(connection: Connection, inherited: list[Connection], work: Callable[[Any], Any]) -> None:
    """The life of a worker: it works on jobs until its pipe is closed."""
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
            answer = _Failure(_portable(error), traceback.format_exc())
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


def _portable(error: Exception) -> Exception:
    """The error itself if it can travel, else its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
