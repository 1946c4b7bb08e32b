"""How a process of ours ends: exit codes, and one line on stderr instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping

from iccld.errors import InputError, RunFailedError
from iccld.escaping import one_line, visible_streams

EXIT_FAILED = 1  # the work failed, or a part of it, and what the user asked for is not why
EXIT_USAGE = 2  # bad input or a usage error: the user can mend it
EXIT_INTERRUPTED = 130  # Ctrl-C (128 + SIGINT)
EXIT_TERMINATED = 143  # SIGTERM (128 + 15)
EXIT_BROKEN_PIPE = 141  # the reader of our output went away (128 + SIGPIPE)

OUTCOMES: Mapping[str, int] = {
    "finished": 0,
    "stopped": 0,
    "interrupted": EXIT_INTERRUPTED,
    "terminated": EXIT_TERMINATED,
}
"""The exit code of each way a training can end: done, at ``--stop-at``, by Ctrl-C, by SIGTERM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Whatever cleans up after Ctrl-C does so after this too."""


def interruption_by(number: int) -> KeyboardInterrupt:
    """The exception that stands for a signal: SIGTERM, or SIGINT for all others."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


_MISTAKES = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EROFS, errno.EEXIST),
)
"""What the system says of a file that the user named wrongly or may not use."""
# How torch, its GPU back ends, OpenCV and C++ say that memory is gone, where they raise no MemoryError.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "out of memory",
    "Insufficient memory",
    "bad_alloc",
    "bad allocation",
)


def run_guarded(work: Callable[[], int]) -> int:
    """Does some work and turns every way it can end into an exit code and, at most, one line on stderr.

    ``SystemExit`` passes: the help of a command raises it when it has been printed.
    """
    ended: SystemExit | None = None
    with visible_streams() as output:
        try:
            code = _run(work)
        except SystemExit as error:
            code, ended = 0 if error.code is None else error.code, error  # type: ignore[assignment]
    if output.failure is not None and code == 0:
        reason = output.failure.strerror or str(output.failure)
        return _end(EXIT_FAILED, f"standard output cannot be written ({reason}); give it another place")
    if ended is not None:
        raise ended
    return code


def _run(work: Callable[[], int]) -> int:
    try:
        with _sigterm_raises():
            code = work()
        sys.stdout.flush()  # here, where a broken pipe is still caught
        return code
    except Terminated:
        print("iccld: terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        print("iccld: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if os.environ.get("ICCLD_DEBUG") == "1":
            traceback.print_exc()
        return _explain(error)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Lets SIGTERM end the work as Ctrl-C does, so that ``finally`` blocks clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: Exception) -> int:
    """Says in one line what happened; gives the exit code."""
    text = str(error)
    match error:
        case InputError():
            return _end(EXIT_USAGE, text)
        case RunFailedError():
            return _end(EXIT_FAILED, text)
        case _ if is_out_of_memory(error):
            remedy = (
                "ask for less at a time (smaller images, crops, batches or networks), or use a larger machine"
            )
            first = text.splitlines()[0] if text else "none left"
            return _end(EXIT_FAILED, f"out of memory ({first}); {remedy}")
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            remedy = "raise the limit (ulimit -n) and run the same command again"
            return _end(EXIT_FAILED, f"too many open files; {remedy}")
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            code = EXIT_USAGE if error.errno in _MISTAKES else EXIT_FAILED
            return _end(code, f"{os.fsdecode(name)}: {reason}")
        case OSError(errno=errno.ENOSPC):
            return _end(EXIT_FAILED, "the disk is full; free some space and run the same command again")
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return _end(EXIT_FAILED, f"unexpected {what}; {_keep_traceback()}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that there is not enough memory, in the words of whatever library."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch's class by its name, so that torch is not loaded here.
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def _keep_traceback() -> str:
    """Writes the traceback where a report of the fault can take it from; says where."""
    try:
        number, path = tempfile.mkstemp(".txt", "iccld-")
        with open(number, "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    except OSError:
        return "this is a fault of iccld: run it again with ICCLD_DEBUG=1 and report the traceback"
    return f"this is a fault of iccld: please report it with {path}"


def _end(code: int, message: str) -> int:
    print(f"iccld: error: {one_line(message)}", file=sys.stderr)
    return code
