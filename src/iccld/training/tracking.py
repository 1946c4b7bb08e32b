"""A run's figures: ``metrics.csv``, rewritten whole and atomically, and what the terminal shows."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import SupportsFloat

from iccld.errors import InputError
from iccld.escaping import shortened, visible
from iccld.files import read_bounded, write_text
from iccld.progress import format_seconds, is_live, training_bar
from iccld.training.outlook import Outlook

_EARLY = 0.05

_LARGEST_TABLE = 200_000_000


class MetricsLog:
    """Rows of figures by step. Resuming drops the rows after the step that is resumed from."""

    def __init__(self, path: Path, *, resume_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if resume_step and path.is_file():
            self.rows = [row for row in read_metrics(path) if int(row["step"]) <= resume_step]

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds a row, or figures to the row of the same step, and writes the file."""
        if not self.rows or int(self.rows[-1]["step"]) != step:
            self.rows.append({"step": str(step)})
        self.rows[-1] |= {key: f"{value:.6g}" for key, value in figures.items()}
        names = ["step", *sorted({key for row in self.rows for key in row} - {"step"})]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Reads ``metrics.csv``; figures that a row lacks are left out.

    Raises:
        InputError: no such file, or no table of numbers by step.
    """
    try:
        text = read_bounded(path, _LARGEST_TABLE).decode("utf-8")
        table = csv.DictReader(io.StringIO(text, newline=""))
        if table.fieldnames and "step" not in table.fieldnames:
            raise ValueError("no column 'step'")
        rows = [{k: v for k, v in row.items() if v} for row in table]
        for row in rows:
            if None in row:
                raise ValueError("a row has more cells than the head")
            if not re.fullmatch("[0-9]{1,12}", row.get("step", "")):
                raise ValueError(f"a row has no step but {shortened(row.get('step'))}")
            for value in row.values():
                float(value)
    except InputError:
        raise
    except (ValueError, csv.Error) as error:
        what = visible(str(error)[:200])
        raise InputError(f"{path}: is no table of numbers ({what}); give the metrics.csv of a run") from error
    return rows


class TrainingDisplay:
    """Shows steps, speed, loss, mIoU and time left: a bar in a terminal, a plain line now and then elsewhere.

    Args:
        title: of the run.
        start_step: where it begins.
        outlook: where it ends, and what it takes.
        enabled: False shows nothing, as on all ranks but the first.

    Attributes:
        miou: the last one measured, in percent, once there is one.
    """

    miou: float | None = None

    def __init__(self, title: str, start_step: int, outlook: Outlook, *, enabled: bool = True) -> None:
        self.title, self.outlook, self.end_step, self.enabled = title, outlook, outlook.end, enabled
        self._bar = training_bar(title, start_step, self.end_step) if enabled and is_live() else None
        self._interval = 0.5 if self._bar else 15.0
        self._last_shown = self._last_step = time.monotonic()
        self._first_line = start_step + max(3, math.ceil(_EARLY * (self.end_step - start_step)))
        self._step = start_step
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
        """Reports that ``step`` steps are done; figures are looked at only when a line is written."""
        now = time.monotonic()
        self.outlook.advance(step, now - self._last_step)
        self._step, self._last_step = step, now
        left = self.outlook.seconds_left()
        # The first line comes early, if the run is long enough for anybody to wait for it.
        due = step == self.end_step or now - self._last_shown >= self._interval
        if not self.enabled or not (due or (step == self._first_line and left > self._interval)):
            return
        self._last_shown = now
        parts = [f"{name.removeprefix('train/')} {float(value):.3f}" for name, value in figures.items()]
        self._figures = [f"{self.outlook.seconds_per_step:.2f} s/step", *parts]
        if self._bar:
            self._figures.insert(1, f"{format_seconds(left)} left")
            self._draw()
            return
        head = [
            f"{self.title}: step {step}/{self.end_step}",
            self._figures[0],
            f"{format_seconds(left)} left",
        ]
        print("  ".join([*head, *parts, *self._miou_text()]), file=sys.stderr, flush=True)

    def _draw(self, phase: str = "training") -> None:
        if self._bar:
            text = "  ".join([*self._figures, *self._miou_text()])
            self._bar.update(
                self._bar.task_ids[0], completed=self._step, figures=text, phase=phase, refresh=True
            )

    def _miou_text(self) -> list[str]:
        return [] if self.miou is None else [f"mIoU {self.miou:.1f}"]
