"""A run's figures: ``metrics.csv``, rewritten whole and atomically, and what the terminal shows."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import SupportsFloat

from iccld.files import write_text
from iccld.progress import format_seconds


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
    """Reads ``metrics.csv``; figures that a row lacks are left out."""
    with open(path, newline="", encoding="utf-8") as handle:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(handle)]


class TrainingDisplay:
    """Shows steps, speed, loss and time left: a live line in a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, start_step: int, end_step: int, *, enabled: bool = True) -> None:
        self.title, self.end_step, self.enabled = title, end_step, enabled
        self._live = enabled and sys.stderr.isatty()
        self._interval = 0.5 if self._live else 15.0
        self._last_shown = self._start = time.monotonic()
        self._start_step = start_step

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            print(file=sys.stderr)

    def show(self, step: int, figures: Mapping[str, SupportsFloat]) -> None:
        """Reports that ``step`` steps are done; figures are looked at only when a line is written."""
        now = time.monotonic()
        last = step == self.end_step
        if not self.enabled or (now - self._last_shown < self._interval and not last):
            return
        self._last_shown = now
        pace = (now - self._start) / max(1, step - self._start_step)
        left = format_seconds(pace * (self.end_step - step))
        parts = [f"{self.title}: step {step}/{self.end_step}", f"{pace:.2f} s/step", f"{left} left"]
        parts += [f"{name.removeprefix('train/')} {float(value):.3f}" for name, value in figures.items()]
        line = "  ".join(parts)
        if self._live:
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
