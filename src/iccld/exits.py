"""End of a process: exit codes, and one line on stderr instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator

from iccld.errors import InputError, RunFailedError
from iccld.escaping import one_line, visible_streams

EXIT_FAILED = 1  # the work or a part of it failed, and the user's input is not the cause
EXIT_USAGE = 2  # bad input or usage, which the user can correct
EXIT_INTERRUPTED = 130  # Ctrl-C (128 + SIGINT)
EXIT_TERMINATED = 143  # SIGTERM (128 + 15)
EXIT_BROKEN_PIPE = 141  # the reader of the output closed the pipe (128 + SIGPIPE)

OUTCOMES = {"finished": 0, "stopped": 0, "interrupted": EXIT_INTERRUPTED, "terminated": EXIT_TERMINATED}
"""Exit codes by outcome of a training. The outcomes are explained in ``iccld.api.Run``."""


class Terminated(KeyboardInterrupt):
    """Exception for SIGTERM. As a subclass of ``KeyboardInterrupt``, it causes the same cleanup as Ctrl-C."""


def interruption_by(number: int) -> KeyboardInterrupt:
    """Returns the exception for a signal: ``Terminated`` for SIGTERM, otherwise ``KeyboardInterrupt``."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


_MISTAKES = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EROFS, errno.EEXIST),
)
"""Error numbers of file errors that the user can correct, such as a wrong name or a missing permission."""
# Out-of-memory messages of torch, its GPU backends, OpenCV and C++ in errors other than ``MemoryError``.
_OUT_OF_MEMORY = re.compile("DefaultCPUAllocator|out of memory|Insufficient memory|bad_alloc|bad allocation")


def run_guarded(work: Callable[[], int]) -> int:
    """Runs ``work`` and returns its exit code. An error becomes an exit code and one line on stderr.

    ``SystemExit`` is raised again, because it is the normal end of a command that printed its help.
    """
    ended: SystemExit | None = None
    with visible_streams() as output:
        try:
            code = _run(work)
        except SystemExit as error:
            code, ended = int(bool(error.code)), error
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
        sys.stdout.flush()  # inside the try block, so that a broken pipe is handled
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
    """Raises ``Terminated`` at SIGTERM, so that ``finally`` blocks clean up as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: Exception) -> int:
    """Prints one line about an error and returns the exit code."""
    text = str(error)
    match error:
        case InputError():
            return _end(EXIT_USAGE, text)
        case RunFailedError():
            return _end(EXIT_FAILED, text)
        case _ if is_out_of_memory(error):
            advice = "ask for less at a time (smaller images, crops, batches or networks)"
            first = text.splitlines()[0] if text else "none left"
            return _end(EXIT_FAILED, f"out of memory ({first}); {advice}, or use a larger machine")
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            advice = "raise the limit (ulimit -n) and run the same command again"
            return _end(EXIT_FAILED, f"too many open files; {advice}")
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            code = EXIT_USAGE if error.errno in _MISTAKES else EXIT_FAILED
            return _end(code, f"{os.fsdecode(name)}: {reason}")
        case OSError(errno=errno.ENOSPC):
            return _end(EXIT_FAILED, "the disk is full; free some space and run the same command again")
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    outside = _outside_frame(error)
    if outside is not None:
        return _end(EXIT_FAILED, f"{outside}: {what}; ICCLD_DEBUG=1 shows the traceback")
    return _end(EXIT_FAILED, f"unexpected {what}; {_keep_traceback()}")


def _outside_frame(error: Exception) -> str | None:
    """Returns file and line of the user's own code in which an error was raised, or ``None`` for other errors.

    Frames of installed packages and of Python itself are skipped. The innermost other frame decides.
    """
    own = os.path.dirname(os.path.abspath(__file__))
    installed = [path for path in {*sysconfig.get_paths().values()} if path]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = os.path.abspath(frame.filename)
        if path.startswith(os.path.join(own, "")):
            return None
        if os.path.isfile(path) and not any(path.startswith(os.path.join(each, "")) for each in installed):
            return f"{path}, line {frame.lineno}"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error of Python or of any library means lack of memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch's error class is compared by name, because importing torch here would be slow.
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or _OUT_OF_MEMORY.search(str(error)) is not None


def _keep_traceback() -> str:
    """Writes the traceback to a temporary file for a bug report, and returns a message that asks for the report."""
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
