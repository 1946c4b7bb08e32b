"""Execution of a plan by independent jobs. The folder of a run is its only state.

If the bench is killed, the same call resumes all unfinished runs. Several calls with one folder of results share the
work: a run that another call trains is left to it.
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from iccld.bench.launchers import STOP_SECONDS, Job, Launcher
from iccld.bench.plan import Plan, Run
from iccld.bench.results import (
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

EXIT_TAKEN = 75
"""Exit code of a worker process whose run is being trained by another process."""
_ASK_AGAIN_SECONDS = 20.0


@dataclass(frozen=True)
class Resources:
    """Folders and compute of a bench.

    Attributes:
        results: Folder of the result files.
        work: Folder with one subfolder per run.
        jobs: Number of worker processes that run at the same time.
        threads: Number of threads of each worker process.
        roots: Folders of data sets by name (see ``iccld.bench.results.root_names``).
    """

    results: Path
    work: Path
    jobs: int
    threads: int
    roots: Mapping[str, str]


@dataclass
class _Worker:
    run: Run
    job: Job
    folder: Path
    started: float = field(default_factory=time.monotonic)
    first_step: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_step = self.step()

    def step(self) -> int:
        """Returns the step in the last row of ``metrics.csv``, or 0 if there is no row yet."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
            return int(lines[-1].split(",")[0])
        return 0


def run_plan(plan: Plan, runs: Sequence[Run], resources: Resources, launch: Launcher) -> list[str]:
    """Trains all runs that have no result yet, prints progress, and returns one line for each run that failed.

    ``launch`` starts the worker processes. At most ``resources.jobs`` of them are started at the same time.
    Ctrl-C and SIGTERM stop the worker processes. Each worker process first saves a checkpoint, from which the same call
    resumes the run. Raises ``InputError`` if results cannot be read, if results were computed from other data, or if
    files cannot be written.
    """
    queue = _Queue(runs, resources)
    refuse_changed_data(runs, queue.known, resources.roots)
    print(f"{plan.name}: {queue.summary}", flush=True)
    workers: list[_Worker] = []
    failures: list[str] = []
    try:
        while queue.waiting or workers:
            while len(workers) < resources.jobs and (run := queue.take()):
                workers.append(_start(run, resources, launch))
            time.sleep(0.5)
            for worker in [*workers]:
                code = worker.job.poll()
                if code is not None:
                    workers.remove(worker)
                    failures += _finish(worker, code, queue)
            queue.show(workers)
    finally:
        _stop(workers)
    return failures


def outlook(runs: Sequence[Run], resources: Resources) -> list[str]:
    """Returns lines of text: a summary, each run that ``run_plan`` would execute, and the total duration in hours.

    The duration of a run is estimated from results of the same variant on the same task. If there are no such results,
    results of other variants on this task are used.
    """
    queue = _Queue(runs, resources)
    lines, guesses = [queue.summary], []
    for run in queue.waiting:
        guess = queue.guess(run)
        took = "unknown time" if guess is None else f"about {format_seconds(guess)}"
        lines.append(f"{run.name}: {run.config.steps} steps, {took}")
        guesses += [] if guess is None else [guess]
    if guesses:
        some = "" if len(guesses) == len(queue.waiting) else f" for {len(guesses)} of them"
        hours, jobs = sum(guesses) / 3600, resources.jobs
        lines.append(f"about {hours:.1f} hours of work{some}, {hours / jobs:.1f} with {jobs} at a time")
    return lines


def _start(run: Run, resources: Resources, launch: Launcher) -> _Worker:
    folder = resources.work / run.folder
    data = with_roots(run.config, resources.roots).data
    data = replace(data, scene_cache=str(resources.work / "scenes"))
    config = replace(run.config, data=data, threads=resources.threads, trackers=("csv",))
    used = sorted(set(root_names(run.config, resources.roots).values()))
    roots = " ".join([" --roots", *(f"{name}={name.upper()}" for name in used)]) if used else ""
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
    command = [sys.executable, "-m", "iccld.commands.bench_worker", str(folder / "job.json")]
    return _Worker(run, launch(command, folder / "log.txt", resources.threads), folder)


def _finish(worker: _Worker, code: int, queue: _Queue) -> list[str]:
    if code == EXIT_TAKEN:
        queue.put_back(worker.run)
        return []
    path = Path(read_json(worker.folder / "job.json")["result"])
    if code == 0 and path.is_file():
        queue.add(worker.run, read_json(path))
        return []
    log = worker.folder / "log.txt"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit code {code}"
    if code < 0:
        reason = f"killed by {signal.Signals(-code).name}, as happens when memory runs out; {reason}"
    message = f"{worker.run.name}: failed ({reason}); see {log}"
    queue.line(message)
    return [message]


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.job.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    try:
        while any(worker.job.poll() is None for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:  # runs even if a second signal interrupts the wait
        for worker in workers:
            worker.job.kill()
            worker.job.poll()


class _Queue:
    """Runs that wait for a worker process.

    The class also prints the progress and the remaining time, which is estimated from finished runs.
    """

    def __init__(self, runs: Sequence[Run], resources: Resources) -> None:
        self.results, self.known = resources.results, read_results(resources.results)
        self.waiting = [run for run in runs if find_result(run, self.known) is None]
        self.total, self.jobs, self.live = len(runs), resources.jobs, sys.stderr.isatty()
        done = self.total - len(self.waiting)
        self.summary = f"{self.total} runs, {done} done, {len(self.waiting)} to do"
        self.took: dict[tuple[str, str], float] = {}
        for result in self.known:
            task, variant, _ = str(result.facts["run"]).split("/")
            self.took[task, variant] = float(result.facts["seconds"])
        self.last = time.monotonic()
        # Runs that another process trains → time at which they are tried again.
        self.taken: dict[str, float] = {}

    def take(self) -> Run | None:
        """Removes and returns the next run to start, or ``None`` if there is none now.

        Runs that another process has finished in the meantime are removed too.
        """
        for run in [*self.waiting]:
            if self.taken.get(run.name, 0.0) > time.monotonic():
                continue
            self.waiting.remove(run)
            folder = result_path(self.results, run).parent
            result = find_result(run, read_results(folder))
            if result is None:
                return run
            self.line(f"{run.name}: mIoU {float(result.facts['miou']):.2f}, trained by another process")
        return None

    def put_back(self, run: Run) -> None:
        """Puts back a run that another process trains, to try it again later."""
        if run.name not in self.taken:
            self.line(f"{run.name}: another process is training it")
        self.taken[run.name] = time.monotonic() + _ASK_AGAIN_SECONDS
        self.waiting.append(run)

    def add(self, run: Run, facts: Mapping[str, Any]) -> None:
        seconds = float(facts["seconds"])
        self.took[run.task.name, run.variant.name] = seconds
        self.line(f"{run.name}: mIoU {float(facts['miou']):.2f} in {format_seconds(seconds)}")

    def line(self, text: str) -> None:
        """Prints a line to standard output. In a terminal, this line replaces the progress line."""
        self._print(text, sys.stdout, end="\n")

    def show(self, workers: Sequence[_Worker]) -> None:
        now = time.monotonic()
        if now - self.last < (1.0 if self.live else 30.0) or not workers:
            return
        self.last = now
        left = ""
        if self.took:
            running = sum(self._remaining(worker, now - worker.started) for worker in workers)
            seconds = (running + sum(map(self._expected, self.waiting))) / self.jobs
            left = f", about {format_seconds(seconds)} left"
        done = self.total - len(workers) - len(self.waiting)
        steps = ", ".join(f"{w.run.name} {w.step()}/{w.run.config.steps}" for w in workers)
        text = f"{done}/{self.total} runs{left}; running {steps}"
        self._print(text, sys.stderr, end="" if self.live else "\n")

    def _print(self, text: str, stream: TextIO, *, end: str) -> None:
        if self.live:
            stream, text = undisguised(stream), f"\r\x1b[2K{visible(text)}"
        print(text, end=end, file=stream, flush=True)

    def guess(self, run: Run) -> float | None:
        """Returns the expected duration of a run in seconds, or ``None`` if no run on the same task has a result."""
        return self._expected(run) if any(task == run.task.name for task, _ in self.took) else None

    def _remaining(self, worker: _Worker, elapsed: float) -> float:
        """Returns the seconds that a run still needs.

        The result is the longer of two estimates: from the duration of finished runs, and from the pace of this run.
        """
        step = worker.step()
        pace = elapsed / (step - worker.first_step) if step > worker.first_step else 0.0
        return max(0.0, self._expected(worker.run) - elapsed, pace * (worker.run.config.steps - step))

    def _expected(self, run: Run) -> float:
        if (run.task.name, run.variant.name) in self.took:
            return self.took[run.task.name, run.variant.name]
        of_task = [s for (task, _), s in self.took.items() if task == run.task.name]
        return statistics.fmean(of_task or self.took.values())
