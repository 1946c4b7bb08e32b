"""Progress for long work: a live bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_PLAIN_INTERVAL = 10.0


def format_seconds(seconds: float) -> str:
    """Formats a duration: 7 s, 2:05, 1:02:05."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"


def track(items: Iterable[T], total: int | None, description: str, *, unit: str = "") -> Iterator[T]:
    """Passes items through while showing how far the work is and when it should end (on stderr).

    Args:
        items: the work.
        total: how many there are; None if nobody knows.
        description: what the work is called.
        unit: of the speed that is shown, in items a second, such as ``fps``; empty to show none.
    """
    if sys.stderr.isatty():
        yield from _track_live(items, total, description, unit)
    else:
        yield from _track_plain(items, total, description, unit)


def _track_live(items: Iterable[T], total: int | None, description: str, unit: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
