"""Ctrl-C and SIGTERM: the first signal ends the run after the current step, a second signal ends it immediately."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from iccld.exits import interruption_by

# A single event can cause several signals. Linux sends the parent-death signal once for every thread of the parent.
# Ranks get Ctrl-C from the terminal and again from their launcher. Signals within this time after the first signal
# count as one signal.
_ONE_EVENT_SECONDS = 1.0


class Interruption:
    """Context in which the first SIGINT or SIGTERM is only recorded.

    A further signal, more than a second after the first, raises ``KeyboardInterrupt``. Only the main thread can set
    signal handlers, so in other threads this context has no effect. The attribute ``signal`` is the number of the first
    signal, or 0 before any signal.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._came_at = 0.0
        self._raises = False
        self._previous: dict[int, Any] = {}

    def has_come(self) -> bool:
        """Returns whether a signal was received."""
        return self.signal != 0

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Context in which a signal raises ``KeyboardInterrupt``. A signal can thus end a wait without a time limit.

        If a signal is already recorded, the exception is raised at the start of the context.
        """
        self._raises = True
        try:
            if self.signal:
                raise interruption_by(self.signal)
            yield
        finally:
            self._raises = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._came_at = number, time.monotonic()
        if self._raises or time.monotonic() - self._came_at > _ONE_EVENT_SECONDS:
            raise interruption_by(number)
