"""How long a run still takes, and whether its steps have become slower than they were."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

_WINDOW = 20
_DRIFT_STEPS = 5
_DRIFT = 2.0


@dataclass(frozen=True)
class Costs:
    """What the parts of a run take, in seconds, as trials before the first step found.

    Attributes:
        early: a step before the adaptation starts.
        late: one after that.
        change: the first late step.
        evaluation: an evaluation; 0 if unknown.
    """

    early: float = 1.0
    late: float = 1.0
    change: int = 0
    evaluation: float = 0.0

    def of_steps(self, start: int, end: int) -> float:
        """The steps from ``start`` to before ``end``."""
        early = max(0, min(end, self.change) - start)
        return early * self.early + (end - start - early) * self.late


class Outlook:
    """The time left: from the pace of the last steps, measured against what they should have cost.

    The first step of a process, which prepares kernels and starts the loaders, counts only until there is another.

    Args:
        costs: of the run's parts.
        start: the step to begin at.
        end: the step to end at.
        evaluations: how many are to come, the last included.
    """

    def __init__(self, costs: Costs, start: int, end: int, *, evaluations: int = 0) -> None:
        self.costs, self.end, self.evaluations = costs, end, evaluations
        self.evaluation_seconds = costs.evaluation
        self._step, self._slow = start, 0
        self._recent: deque[tuple[float, float, int]] = deque(maxlen=_WINDOW)  # seconds, cost, steps

    def advance(self, step: int, seconds: float) -> None:
        """Notes that the steps up to ``step`` took so long; evaluations and checkpoints are not among it."""
        if step <= self._step:
            return
        if len(self._recent) == 1 and self._step == self._slow:
            self._recent.clear()
        self._recent.append((seconds, self.costs.of_steps(self._step, step), step - self._step))
        self._slow = self._slow or step
        self._step = step

    def evaluated(self, seconds: float) -> None:
        """Notes that an evaluation took so long."""
        self.evaluation_seconds, self.evaluations = seconds, max(0, self.evaluations - 1)

    @property
    def seconds_per_step(self) -> float:
        """Of the last steps."""
        return sum(seconds for seconds, _, _ in self._recent) / max(
            1, sum(steps for *_, steps in self._recent)
        )

    def seconds_left(self) -> float:
        """An estimate for the rest of the run."""
        spent, cost = sum(seconds for seconds, _, _ in self._recent), sum(cost for _, cost, _ in self._recent)
        steps = self.costs.of_steps(self._step, self.end) * (spent / cost if cost else 1.0)
        return steps + self.evaluations * self.evaluation_seconds


class Drift:
    """Notices steps that take twice or half as long as usual, several times in a row.

    Args:
        usual: seconds of a step, if known; else the first steps tell.
    """

    def __init__(self, usual: float | None = None) -> None:
        self.usual = usual
        self._recent: deque[float] = deque(maxlen=_DRIFT_STEPS)

    def add(self, seconds: float) -> bool:
        """Notes a step; tells whether the last ones drifted, and takes them as usual from then on."""
        self._recent.append(seconds)
        if len(self._recent) < _DRIFT_STEPS:
            return False
        now = median(self._recent)
        if self.usual is not None and self.usual / _DRIFT <= now <= self.usual * _DRIFT:
            return False
        drifted, self.usual = self.usual is not None, now
        self._recent.clear()
        return drifted
