"""Standard output and standard error that may be closed or full without a traceback or a lost run."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Tolerant(io.FileIO):
    """A file descriptor whose first failed write is kept for later; what follows it is dropped.

    Args:
        number: the descriptor.
        closed: it was closed when the process started, and leads to nowhere now.
        keeps_pipe_errors: a reader that went away is still an error at once.
    """

    def __init__(self, number: int, *, closed: bool, keeps_pipe_errors: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.number, self.was_closed, self.keeps_pipe_errors = number, closed, keeps_pipe_errors
        self.failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Writes, or pretends to."""
        size = memoryview(data).nbytes
        if self.was_closed and size:
            self.failure = self.failure or OSError(errno.EBADF, "it is closed")
        if self.failure is None:
            try:
                return super().write(data) or 0
            except BrokenPipeError as error:
                if self.keeps_pipe_errors:
                    raise
                self.failure = error
            except OSError as error:
                self.failure = error
        return size


@contextlib.contextmanager
def tolerant_streams() -> Iterator[list[OSError]]:
    """Makes ``sys.stdout`` and ``sys.stderr`` drop what cannot be written instead of raising.

    A descriptor that is closed is opened to nowhere: a file that is opened later must not take its number, or what
    libraries print would be written into that file. A reader of standard output that went away still raises
    ``BrokenPipeError``. Streams that are not the process's own, such as those of a test, stay as they are.

    Yields:
        A list that has, after the context, why standard output could not be written; empty if it could.
    """
    closed = {number: _fill(number) for number in range(3)}
    before, lost = (sys.stdout, sys.stderr), list[OSError]()
    wrapped: list[tuple[_Tolerant, io.TextIOWrapper]] = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if closed[number] or _is_own(stream, number):
            raw = _Tolerant(number, closed=closed[number], keeps_pipe_errors=number == 1)
            wrapped.append((raw, _wrap(raw, stream)))
            setattr(sys, name, wrapped[-1][1])
    try:
        yield lost
    finally:
        sys.stdout, sys.stderr = before
        for raw, text in wrapped:
            with contextlib.suppress(OSError):
                text.flush()
            text.detach()
            if raw.number == 1 and raw.failure is not None:
                lost.append(raw.failure)


def _fill(number: int) -> bool:
    """Opens a closed descriptor to nowhere; tells whether it was closed."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        os.dup2(opened, number)
        if opened != number:
            os.close(opened)
        return True
    return False


def _is_own(stream: object, number: int) -> bool:
    if not isinstance(stream, io.TextIOWrapper):
        return False
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def _wrap(raw: _Tolerant, stream: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """A text stream onto the descriptor, like the one that was there."""
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace", line_buffering=True)
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
