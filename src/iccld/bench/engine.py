"""Execution of a plan: trains all runs that have no result yet, in worker processes that share the CPU cores.

If the bench is killed at any time, the same call resumes the runs from their checkpoints.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from iccld.bench.plan import Plan, Run
from iccld.bench.results import (
    Result,
    find_result,
    read_results,
    refuse_changed_data,
    result_path,
    root_names,
    with_roots,
)
from iccld.config import to_dict
from iccld.documents import read_json
from iccld.escaping import undisguised, visible
from iccld.files import write_json
from iccld.progress import format_seconds

_POLL_SECONDS = 0.5
_LINE_SECONDS = 30.0
_STOP_SECONDS = 120.0
"""Seconds that a worker process has after SIGTERM to save a checkpoint and end. Then the process is killed."""


@dataclass(frozen=True)
class Resources:
    """Folders and compute of a bench.

    Attributes:
        results: Folder of the result files.
        work: Folder that contains one folder per run.
        jobs: Number of worker processes that run at the same time.
        threads: Number of threads per worker process.
        roots: Name of a data set → folder of the data set (see ``iccld.bench.results.root_names``).
    """

    results: Path
    work: Path
    jobs: int
    threads: int
    roots: Mapping[str, str]


@dataclass
class _Worker:
    run: Run
    process: subprocess.Popen[bytes]
    log: Path
    folder: Path
    started: float

    def close(self) -> None:
        """Closes the standard input of the worker process, so that the process ends."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def step(self) -> int:
        """Returns the step in the last row of ``metrics.csv``, or 0 if there is no row yet."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
            return int(lines[-1].split(",")[0])
        return 0


def run_plan(plan: Plan, runs: Sequence[Run], resources: Resources) -> list[str]:
    """Trains all runs that have no result yet, and prints progress.

    Ctrl-C and SIGTERM stop the worker processes, which save checkpoints. The same call then resumes from these
    checkpoints.

    Args:
        plan: Plan of the runs.
        runs: Runs to execute.
        resources: Folders and compute of the bench.

    Returns:
        One line for each run that failed.

    Raises:
        KeyboardInterrupt: The bench was stopped.
        InputError: Results cannot be read or were computed from other data, or files cannot be written.
    """
    known = read_results(resources.results)
    refuse_changed_data(runs, known, resources.roots)
    waiting = [run for run in runs if find_result(run, known) is None]
    print(f"{plan.name}: {len(runs)} runs, {len(runs) - len(waiting)} done, {len(waiting)} to do", flush=True)
    clock = _Clock(known, len(runs), resources.jobs)
    workers: list[_Worker] = []
    failures: list[str] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < resources.jobs:
                workers.append(_start(waiting.pop(0), resources))
            time.sleep(_POLL_SECONDS)
            for worker in [w for w in workers if w.process.poll() is not None]:
                workers.remove(worker)
                failures += _finish(worker, clock)
            clock.show(workers, waiting)
    finally:
        _stop(workers)
    return failures


def outlook(runs: Sequence[Run], resources: Resources) -> list[str]:
    """Returns one line for each run that ``run_plan`` would execute, and a line with the total duration in hours.

    The duration is estimated from results of the same variant on the same task. If there are no such results, results
    of other variants on this task are used.

    Raises:
        InputError: Results cannot be read.
    """
    known = read_results(resources.results)
    waiting = [run for run in runs if find_result(run, known) is None]
    clock = _Clock(known, len(runs), resources.jobs)
    lines = [f"{len(runs)} runs, {len(runs) - len(waiting)} done, {len(waiting)} to do"]
    guesses = []
    for run in waiting:
        guess = clock.guess(run)
        took = "unknown time" if guess is None else f"about {format_seconds(guess)}"
        lines.append(f"{run.name}: {run.config.steps} steps, {took}")
        guesses += [] if guess is None else [guess]
    if guesses:
        some = "" if len(guesses) == len(waiting) else f" for {len(guesses)} of them"
        hours = sum(guesses) / 3600
        lines.append(
            f"about {hours:.1f} hours of work{some}, {hours / resources.jobs:.1f} with {resources.jobs} at a time"
        )
    return lines


def _start(run: Run, resources: Resources) -> _Worker:
    folder = resources.work / run.folder
    d = with_roots(run.config, resources.roots).data
    data = replace(d, scene_cache=str(resources.work / "scenes"))
    config = replace(run.config, data=data, threads=resources.threads, trackers=("csv",))
    used = sorted({name for name in root_names(run.config, resources.roots) if name is not None})
    roots = f" --roots {' '.join(f'{name}={name.upper()}' for name in used)}" if used else ""
    job = {
        "run": run.name,
        "command": f"iccld bench {run.plan}.toml --only {run.name}{roots}",
        "preset": run.task.preset,
        "predictions": run.variant.predictions,
        "config": to_dict(config),
        "folder": str(folder),
        "result": str(result_path(resources.results, run)),
    }
    write_json(folder / "job.json", job)
    log = folder / "log.txt"
    environment = os.environ | {"OMP_NUM_THREADS": str(resources.threads)}
    with open(log, "ab") as output:
        # If the bench is killed, the operating system closes the pipe ``stdin``, and the worker process then ends.
        process = subprocess.Popen(
            [sys.executable, "-m", "iccld.commands.bench_worker", str(folder / "job.json")],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    return _Worker(run, process, log, folder, time.monotonic())


def _finish(worker: _Worker, clock: _Clock) -> list[str]:
    code = worker.process.returncode
    worker.close()
    path = Path(read_json(worker.folder / "job.json")["result"])
    if code == 0 and path.is_file():
        clock.add(worker, read_json(path))
        return []
    lines = worker.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit code {code}"
    if code < 0:
        reason = f"killed by {signal.Signals(-code).name}, as happens when memory runs out; {reason}"
    message = f"{worker.run.name}: failed ({reason}); see {worker.log}"
    clock.line(message)
    return [message]


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    try:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # runs even if a second signal interrupts the wait
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.close()


class _Clock:
    """Display of progress and remaining time. The remaining time is estimated from the durations of similar runs."""

    def __init__(self, known: Sequence[Result], total: int, jobs: int) -> None:
        self.total, self.jobs, self.live = total, jobs, sys.stderr.isatty()
        self.took: dict[tuple[str, str], float] = {}
        for result in known:
            task, variant, _ = str(result.facts["run"]).split("/")
            self.took[task, variant] = float(result.facts["seconds"])
        self.last = time.monotonic()

    def add(self, worker: _Worker, facts: Mapping[str, Any]) -> None:
        run, seconds = worker.run, float(facts["seconds"])
        self.took[run.task.name, run.variant.name] = seconds
        self.line(f"{run.name}: mIoU {float(facts['miou']):.2f} in {format_seconds(seconds)}")

    def line(self, text: str) -> None:
        """Prints a line to standard output. In a terminal, this line replaces the progress line."""
        self._print(text, sys.stdout, end="\n")

    def show(self, workers: Sequence[_Worker], waiting: Sequence[Run]) -> None:
        now = time.monotonic()
        if now - self.last < (1.0 if self.live else _LINE_SECONDS) or not workers:
            return
        self.last = now
        left = ""
        if self.took:
            running = sum(max(0.0, self._expected(w.run) - (now - w.started)) for w in workers)
            seconds = (running + sum(map(self._expected, waiting))) / self.jobs
            left = f", about {format_seconds(seconds)} left"
        done = self.total - len(workers) - len(waiting)
        steps = ", ".join(f"{w.run.name} {w.step()}/{w.run.config.steps}" for w in workers)
        self._print(
            f"{done}/{self.total} runs{left}; running {steps}", sys.stderr, end="" if self.live else "\n"
        )

    def _print(self, text: str, stream: TextIO, *, end: str) -> None:
        if self.live:
            stream, text = undisguised(stream), f"\r\x1b[2K{visible(text)}"
        print(text, end=end, file=stream, flush=True)

    def guess(self, run: Run) -> float | None:
        """Returns the expected duration of a run in seconds, or ``None`` if no run on the same task has a result."""
        return self._expected(run) if any(task == run.task.name for task, _ in self.took) else None

    def _expected(self, run: Run) -> float:
        own = self.took.get((run.task.name, run.variant.name))
        if own is not None:
            return own
        of_task = [s for (task, _), s in self.took.items() if task == run.task.name] or [*self.took.values()]
        return sum(of_task) / len(of_task)
