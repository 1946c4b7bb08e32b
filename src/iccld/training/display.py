"""Terminal output of a training run: progress, metrics and remaining time."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import SupportsFloat

from iccld.progress import format_seconds, is_live, training_bar


@dataclass(frozen=True)
class Costs:
    """Expected durations of a step and of an evaluation, in seconds.

    The adaptation starts at step ``change``. Earlier steps take ``early`` seconds, and all other steps take ``late``
    seconds.
    """

    early: float = 1.0
    late: float = 1.0
    change: int = 0
    evaluation: float = 0.0

    def of_steps(self, start: int, end: int) -> float:
        """Returns the expected duration in seconds of the steps from ``start`` (included) to ``end`` (excluded)."""
        early = max(0, min(end, self.change) - start)
        return early * self.early + (end - start - early) * self.late


class Outlook:
    """Estimate of the remaining time of a run, from the expected durations of its remaining steps and evaluations.

    The expected durations of steps are corrected by a factor: the measured duration of the last 20 steps, divided by
    the expected duration of the same steps. The run starts or resumes at step ``start``. ``evaluations`` is the number
    of remaining evaluations.
    """

    def __init__(self, costs: Costs, start: int, end: int, *, evaluations: int = 0) -> None:
        self.costs, self.start, self.end, self.evaluations = costs, start, end, evaluations
        self.evaluation_seconds = costs.evaluation
        self._step = start
        self._recent: deque[tuple[float, float]] = deque(maxlen=20)  # seconds, expected seconds

    def advance(self, seconds: float) -> None:
        """Records the duration of a step in seconds, without the time of evaluations and checkpoints."""
        if self._step == self.start + 1:
            self._recent.clear()  # the first step includes preparation of kernels and loaders
        self._recent.append((seconds, self.costs.of_steps(self._step, self._step + 1)))
        self._step += 1

    def evaluated(self, seconds: float) -> None:
        """Records the duration of an evaluation in seconds."""
        self.evaluation_seconds, self.evaluations = seconds, max(0, self.evaluations - 1)

    @property
    def seconds_per_step(self) -> float:
        """Mean duration in seconds of the most recent steps."""
        return sum(seconds for seconds, _ in self._recent) / max(1, len(self._recent))

    def seconds_left(self) -> float:
        """Returns the estimated remaining time of the run in seconds."""
        spent, expected = (sum(values) for values in zip((0.0, 0.0), *self._recent, strict=True))
        steps = self.costs.of_steps(self._step, self.end) * (spent / expected if expected else 1.0)
        return steps + self.evaluations * self.evaluation_seconds


class TrainingDisplay(contextlib.ExitStack):
    """Display of steps, speed, loss, mIoU and remaining time on stderr.

    A terminal shows a progress bar. Without a terminal, a line is printed about every 15 seconds. If ``enabled`` is
    false, as on all ranks but the first, nothing is shown. The attribute ``miou`` is the last evaluated mIoU in
    percent, or ``None`` before the first evaluation.
    """

    miou: float | None = None

    def __init__(self, title: str, outlook: Outlook, *, enabled: bool = True) -> None:
        super().__init__()
        start, end = outlook.start, outlook.end
        self.title, self.outlook, self.enabled = title, outlook, enabled
        self._bar = self.enter_context(training_bar(title, start, end)) if enabled and is_live() else None
        self._interval = 0.5 if self._bar else 15.0
        self._last_shown = self._last_step = time.monotonic()
        self._first_line = start + max(3, math.ceil(0.05 * (end - start)))
        self._step = start
        self._figures: list[str] = []

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Shows the name of work between steps, such as an evaluation. The duration of steps excludes such work."""
        self._draw(name)
        begun = time.monotonic()
        yield
        seconds = time.monotonic() - begun
        self._last_step += seconds
        if name == "evaluating":
            self.outlook.evaluated(seconds)
        self._draw()

    def show(self, step: int, figures: Mapping[str, SupportsFloat]) -> None:
        """Shows the number of finished steps (``step``) and the metrics (``figures``).

        Metrics are read from the device only if output is written, because each read synchronizes the GPU.
        """
        now = time.monotonic()
        self.outlook.advance(now - self._last_step)
        self._step, self._last_step = step, now
        left = self.outlook.seconds_left()
        # An early line is printed after 5 % of the steps (at least three) if the remaining time exceeds the interval.
        due = step == self.outlook.end or now - self._last_shown >= self._interval
        if not self.enabled or not (due or (step == self._first_line and left > self._interval)):
            return
        self._last_shown = now
        parts = [f"{name.removeprefix('train/')} {float(value):.3f}" for name, value in figures.items()]
        pace = f"{self.outlook.seconds_per_step:.2f} s/step"
        self._figures = [pace, f"{format_seconds(left)} left", *parts]
        self._draw()
        if not self._bar:
            line = f"{self.title}: step {step}/{self.outlook.end}  {self._text()}"
            print(line, file=sys.stderr, flush=True)

    def _draw(self, phase: str = "training") -> None:
        if self._bar:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._step, figures=self._text(), phase=phase, refresh=True)

    def _text(self) -> str:
        miou = [] if self.miou is None else [f"mIoU {self.miou:.1f}"]
        return "  ".join([*self._figures, *miou])
