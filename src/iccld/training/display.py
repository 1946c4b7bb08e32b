"""What the terminal shows of a run, with the time that is left."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import SupportsFloat

from iccld.progress import format_seconds, is_live, training_bar

_WINDOW = 20
"""Steps whose pace counts."""


@dataclass(frozen=True)
class Costs:
    """What a step before (``early``) and after (``late``) step ``change`` and an evaluation take, in seconds."""

    early: float = 1.0
    late: float = 1.0
    change: int = 0
    evaluation: float = 0.0

    def of_steps(self, start: int, end: int) -> float:
        """Seconds of the steps from ``start`` to before ``end``."""
        early = max(0, min(end, self.change) - start)
        return early * self.early + (end - start - early) * self.late


class Outlook:
    """The time left: the costs of steps and evaluations to come, the former scaled by the pace of the last steps."""

    def __init__(self, costs: Costs, start: int, end: int, *, evaluations: int = 0) -> None:
        self.costs, self.start, self.end, self.evaluations = costs, start, end, evaluations
        self.evaluation_seconds = costs.evaluation
        self._step = start
        self._recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW)  # seconds, expected seconds

    def advance(self, seconds: float) -> None:
        """Notes that a step took so long; evaluations and checkpoints are not counted."""
        if self._step == self.start + 1:
            self._recent.clear()  # the first step prepared kernels and loaders
        self._recent.append((seconds, self.costs.of_steps(self._step, self._step + 1)))
        self._step += 1

    def evaluated(self, seconds: float) -> None:
        """Notes that an evaluation took so long."""
        self.evaluation_seconds, self.evaluations = seconds, max(0, self.evaluations - 1)

    @property
    def seconds_per_step(self) -> float:
        """Mean of the last steps."""
        return sum(seconds for seconds, _ in self._recent) / max(1, len(self._recent))

    def seconds_left(self) -> float:
        """Estimates the rest of the run."""
        spent, expected = (sum(values) for values in zip((0.0, 0.0), *self._recent, strict=True))
        steps = self.costs.of_steps(self._step, self.end) * (spent / expected if expected else 1.0)
        return steps + self.evaluations * self.evaluation_seconds


class TrainingDisplay:
    """Shows steps, speed, loss, mIoU and time left: a bar in a terminal, a plain line now and then elsewhere.

    Args:
        title: of the run.
        outlook: where it begins and ends, and what it takes.
        enabled: False shows nothing, as on all ranks but the first.

    Attributes:
        miou: the last one measured, in percent, once there is one.
    """

    miou: float | None = None

    def __init__(self, title: str, outlook: Outlook, *, enabled: bool = True) -> None:
        start, end = outlook.start, outlook.end
        self.title, self.outlook, self.enabled = title, outlook, enabled
        self._bar = training_bar(title, start, end) if enabled and is_live() else None
        self._interval = 0.5 if self._bar else 15.0
        self._last_shown = self._last_step = time.monotonic()
        self._first_line = start + max(3, math.ceil(0.05 * (end - start)))
        self._step = start
        self._figures: list[str] = []

    def __enter__(self) -> TrainingDisplay:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Says, in a terminal, what is done between the steps, which do not take that time."""
        self._draw(name)
        begun = time.monotonic()
        yield
        seconds = time.monotonic() - begun
        self._last_step += seconds
        if name == "evaluating":
            self.outlook.evaluated(seconds)
        self._draw()

    def show(self, step: int, figures: Mapping[str, SupportsFloat]) -> None:
        """Reports that ``step`` steps are done; figures are read only when a line is written."""
        now = time.monotonic()
        self.outlook.advance(now - self._last_step)
        self._step, self._last_step = step, now
        left = self.outlook.seconds_left()
        # The first line comes early, if the run is long enough for anybody to wait for it.
        due = step == self.outlook.end or now - self._last_shown >= self._interval
        if not self.enabled or not (due or (step == self._first_line and left > self._interval)):
            return
        self._last_shown = now
        parts = [f"{name.removeprefix('train/')} {float(value):.3f}" for name, value in figures.items()]
        pace = f"{self.outlook.seconds_per_step:.2f} s/step"
        self._figures = [pace, f"{format_seconds(left)} left", *parts]
        if self._bar:
            self._draw()
        else:
            print(
                f"{self.title}: step {step}/{self.outlook.end}  {self._text()}", file=sys.stderr, flush=True
            )

    def _draw(self, phase: str = "training") -> None:
        if self._bar:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._step, figures=self._text(), phase=phase, refresh=True)

    def _text(self) -> str:
        miou = [] if self.miou is None else [f"mIoU {self.miou:.1f}"]
        return "  ".join([*self._figures, *miou])
