"""Progress display on stderr: a live bar in a terminal, otherwise a plain line about every ten seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

from iccld.escaping import DrawingStream, VisibleStream, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

T = TypeVar("T")

_PLAIN_INTERVAL = 10.0


def format_seconds(seconds: float) -> str:
    """Formats a duration: 7 s, 2:05, 1:02:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"


def is_live() -> bool:
    """Returns whether stderr is a terminal in which lines can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def track(items: Iterable[T], total: int | None, description: str, *, unit: str = "") -> Iterator[T]:
    """Yields the items and shows the progress and the estimated remaining time.

    ``total`` is the number of items, or ``None`` if this number is unknown. With a ``unit`` such as ``fps``, the items
    per second are shown too.
    """
    description = visible(description)
    yield from (_track_live if is_live() else _track_plain)(items, total, description, unit)


@contextlib.contextmanager
def busy(description: str, *, hint: str = "") -> Iterator[None]:
    """Shows a spinner with the elapsed time during work of unknown duration.

    If stderr is not a terminal, the description and the ``hint`` (such as the expected duration) are printed once
    instead. In this case, nothing is printed if ``hint`` is empty.
    """
    if not is_live():
        if hint:
            print(f"{visible(description)}: {hint}", file=sys.stderr, flush=True)
        yield
        return
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    with _bars(SpinnerColumn(), _text("description"), TimeElapsedColumn(), transient=True) as progress:
        progress.add_task(visible(description), total=None)
        yield


def training_bar(title: str, start: int, end: int) -> Progress:
    """Returns the bar of a training run with text fields ``phase`` and ``figures``. The caller starts the bar."""
    from rich.progress import BarColumn, MofNCompleteColumn

    columns = (_text("description"), _text("fields[phase]"), BarColumn(bar_width=20), MofNCompleteColumn())
    bar = _bars(*columns, _text("fields[figures]"), transient=False)
    bar.add_task(visible(title), total=end, completed=start, phase="training", figures="")
    return bar


def _text(field: str) -> ProgressColumn:
    from rich.progress import TextColumn

    return TextColumn(f"{{task.{field}}}", markup=False)


@cache
def _console() -> Console:
    """Returns the console that all progress bars share, so that several bars are drawn below each other."""
    from rich.console import Console

    return Console(file=cast(TextIO, DrawingStream()))


def _bars(*columns: Any, transient: bool) -> Progress:
    """Returns progress bars. Text that is printed meanwhile appears above the bars, with escaped control characters."""
    from rich.file_proxy import FileProxy
    from rich.progress import Progress

    class Bars(Progress):
        def start(self) -> None:
            super().start()
            for name in ("stdout", "stderr"):
                if isinstance(getattr(sys, name), FileProxy):  # rich's proxy does not escape text
                    setattr(sys, name, VisibleStream(getattr(sys, name)))

    return Bars(*columns, console=_console(), transient=transient)


def _track_live(items: Iterable[T], total: int | None, description: str, unit: str) -> Iterator[T]:
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    columns = (_text("description"), BarColumn(), MofNCompleteColumn(), _text("fields[speed]"))
    start = time.monotonic()
    with _bars(*columns, TimeRemainingColumn(), transient=True) as progress:
        task = progress.add_task(description, total=total, speed="")
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(task, advance=1, speed=_speed(done, time.monotonic() - start, unit))


def _track_plain(items: Iterable[T], total: int | None, description: str, unit: str) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= _PLAIN_INTERVAL:
            last = now
            parts = [f"{done}" if total is None else f"{done}/{total}", _speed(done, now - start, unit)]
            if total is not None:
                parts.append(f"{format_seconds((now - start) / done * (total - done))} left")
            print(f"{description}: {', '.join(filter(None, parts))}", file=sys.stderr, flush=True)


def _speed(done: int, seconds: float, unit: str) -> str:
    return f"{done / seconds:.1f} {unit}" if unit and seconds > 0 else ""
