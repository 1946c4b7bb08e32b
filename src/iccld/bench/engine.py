"""Runs what a plan lacks, in worker processes that share the cores; killed at any time, it goes on where it was."""

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
from typing import TextIO

from iccld.bench.data import refuse_changed_data, root_name, with_roots
from iccld.bench.plan import Plan, Run
from iccld.bench.results import Result, find_result, read_results, result_path
from iccld.config import to_dict
from iccld.documents import read_json
from iccld.escaping import undisguised, visible
from iccld.files import write_json
from iccld.progress import format_seconds

_POLL_SECONDS = 0.5
_LINE_SECONDS = 30.0
_STOP_SECONDS = 120.0
"""For a worker that was asked to stop: the step in hand, and a checkpoint."""


@dataclass(frozen=True)
class Resources:
    """What a bench may use.

    Attributes:
        results: folder of the JSON files.
        work: folder of the runs.
        jobs: worker processes at a time.
        threads: of each.
        roots: folders of data sets by name.
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

    def step(self) -> int:
        """How far it is, from the last row of its metrics."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
            return int(lines[-1].split(",")[0])
        return 0


def run_plan(plan: Plan, runs: Sequence[Run], resources: Resources) -> list[str]:
    """Runs what has no result yet.

    Ctrl-C and SIGTERM stop the workers, which save checkpoints; the same call goes on from there.

    Args:
        plan: for messages.
        runs: wanted.
        resources: what may be used.

    Returns:
        A line for each run that failed.

    Raises:
        KeyboardInterrupt: it was stopped.
        InputError: results that cannot be read or were measured on other data, or files that cannot be written.
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
    """What ``run_plan`` would do, a line each run that has no result, and the hours that all of them take.

    Hours are guessed from results of the same variant on the same task, or else of its task; where there are none of
    the task either, only the runs are told.

    Raises:
        InputError: results that cannot be read.
    """
    known = read_results(resources.results)
    waiting = [run for run in runs if find_result(run, known) is None]
    clock = _Clock(known, len(runs), resources.jobs)
    lines = [f"{len(runs)} runs, {len(runs) - len(waiting)} done, {len(waiting)} to do"]
    seconds = [clock.guess(run) for run in waiting]
    for run, guess in zip(waiting, seconds, strict=True):
        took = "unknown time" if guess is None else f"about {format_seconds(guess)}"
        lines.append(f"{run.name}: {run.config.steps} steps, {took}")
    guesses = [guess for guess in seconds if guess is not None]
    if guesses:
        some = "" if len(guesses) == len(seconds) else f" for {len(guesses)} of them"
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
    planned = run.config.data
    names = [
        root_name(kind, root, resources.roots)
        for kind, root in ((planned.source, planned.source_root), (planned.target, planned.target_root))
    ]
    used = sorted({name for name in names if name is not None})
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
        # The worker ends when its standard input does: none outlives a bench that was killed.
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
    _close(worker)
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
    finally:  # also at a second signal
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            _close(worker)


def _close(worker: _Worker) -> None:
    if worker.process.stdin is not None:
        worker.process.stdin.close()


def _draw(stream: TextIO, text: str) -> None:
    """Writes text in place of the line that stands there."""
    print(f"\r\x1b[2K{text}", end="", file=undisguised(stream), flush=True)


class _Clock:
    """Progress and the time left, from how long runs of each kind took."""

    def __init__(self, known: Sequence[Result], total: int, jobs: int) -> None:
        self.total, self.jobs, self.live = total, jobs, sys.stderr.isatty()
        self.took: dict[tuple[str, str], float] = {}
        for result in known:
            task, variant, _ = str(result.facts["run"]).split("/")
            self.took[task, variant] = float(result.facts["seconds"])
        self.last = time.monotonic()

    def add(self, worker: _Worker, facts: Mapping[str, object]) -> None:
        run, seconds = worker.run, float(str(facts["seconds"]))
        self.took[run.task.name, run.variant.name] = seconds
        self.line(f"{run.name}: mIoU {float(str(facts['miou'])):.2f} in {format_seconds(seconds)}")

    def line(self, text: str) -> None:
        """Prints a line above the live one."""
        if self.live:
            _draw(sys.stdout, f"{visible(text)}\n")
        else:
            print(text, flush=True)

    def show(self, workers: Sequence[_Worker], waiting: Sequence[Run]) -> None:
        now = time.monotonic()
        if now - self.last < (1.0 if self.live else _LINE_SECONDS) or not workers:
            return
        self.last = now
        done = self.total - len(workers) - len(waiting)
        running = ", ".join(f"{w.run.name} {w.step()}/{w.run.config.steps}" for w in workers)
        left = self._left(workers, waiting, now)
        text = f"{done}/{self.total} runs{left}; running {running}"
        if self.live:
            _draw(sys.stderr, visible(text))
        else:
            print(text, file=sys.stderr, flush=True)

    def _left(self, workers: Sequence[_Worker], waiting: Sequence[Run], now: float) -> str:
        if not self.took:
            return ""
        running = sum(max(0.0, self._expected(w.run) - (now - w.started)) for w in workers)
        seconds = (running + sum(map(self._expected, waiting))) / self.jobs
        return f", about {format_seconds(seconds)} left"

    def guess(self, run: Run) -> float | None:
        """Seconds that a run will take, by runs of its kind; None without any of its task."""
        return self._expected(run) if any(task == run.task.name for task, _ in self.took) else None

    def _expected(self, run: Run) -> float:
        own = self.took.get((run.task.name, run.variant.name))
        if own is not None:
            return own
        of_task = [s for (task, _), s in self.took.items() if task == run.task.name] or [*self.took.values()]
        return sum(of_task) / len(of_task)
