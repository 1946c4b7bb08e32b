"""Ctrl-C and SIGTERM: the step in hand is finished and saved; a second signal, a second later, stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from iccld.exits import interruption_by

# Linux repeats the signal that a process has asked for at the death of its parent for every thread of the parent, and
# Ctrl-C reaches ranks from the terminal and once more from their launcher.
_ONE_EVENT_SECONDS = 1.0


class Interruption:
    """A context in which the first SIGINT or SIGTERM is only noted, and one a second later raises KeyboardInterrupt.

    Outside of the main thread, which alone may set handlers, it notes nothing.

    Attributes:
        signal: the first one that came; 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._came_at = 0.0
        self._raises = False
        self._previous: dict[int, Any] = {}

    def has_come(self) -> bool:
        """Whether a signal came."""
        return self.signal != 0

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Makes the first signal raise too, for a wait that may never end otherwise."""
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._came_at = number, time.monotonic()
        if self._raises or time.monotonic() - self._came_at > _ONE_EVENT_SECONDS:
            raise interruption_by(number)
