"""How a process of ours ends: exit codes, and one line on stderr instead of a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping

from iccld.errors import InputError, RunFailedError

EXIT_FAILED = 1
"""The work failed, through no fault of the input."""
EXIT_USAGE = 2
"""Bad input or a usage error: the user can mend it."""
EXIT_INTERRUPTED = 130
"""Ctrl-C (128 + SIGINT)."""
EXIT_TERMINATED = 143
"""SIGTERM (128 + 15)."""
EXIT_BROKEN_PIPE = 141
"""The reader of our output went away (128 + SIGPIPE)."""


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


def run_guarded(work: Callable[[], int]) -> int:
    """Does some work and turns every way it can end into an exit code and, at most, one line on stderr."""
    try:
        with _sigterm_raises():
            code = work()
        sys.stdout.flush()  # here, where a broken pipe is still caught
        return code
    except InputError as error:
        if os.environ.get("ICCLD_DEBUG") == "1":
            traceback.print_exc()
        return _fail(str(error), EXIT_USAGE)
    except RunFailedError as error:
        return _fail(str(error), EXIT_FAILED)
    except Terminated:
        print("iccld: terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        print("iccld: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; let it write to nowhere.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


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


def _fail(message: str, code: int) -> int:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    print(f"iccld: error: {line}", file=sys.stderr)
    return code
