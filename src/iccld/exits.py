"""How a process of ours ends: exit codes, and one line on stderr instead of a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable

from iccld.errors import InputError

EXIT_USAGE = 2
"""Bad input or a usage error: the user can mend it."""
EXIT_INTERRUPTED = 130
"""Ctrl-C or SIGTERM (128 + SIGINT)."""
EXIT_BROKEN_PIPE = 141
"""The reader of our output went away (128 + SIGPIPE)."""


def run_guarded(work: Callable[[], int]) -> int:
    """Does some work and turns every way it can end into an exit code and, at most, one line on stderr."""
    try:
        code = work()
        sys.stdout.flush()  # here, where a broken pipe is still caught
        return code
    except InputError as error:
        if os.environ.get("ICCLD_DEBUG") == "1":
            traceback.print_exc()
        return _fail(str(error))
    except KeyboardInterrupt:
        print("iccld: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; let it write to nowhere.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _fail(message: str) -> int:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    print(f"iccld: error: {line}", file=sys.stderr)
    return EXIT_USAGE
