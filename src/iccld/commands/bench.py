"""``iccld bench PLAN``: methods × seeds × tasks, side by side."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from iccld.bench.engine import Resources, outlook, run_plan
from iccld.bench.plan import Plan, read_plan
from iccld.bench.results import Result, find_result, read_results
from iccld.bench.tables import plan_tables
from iccld.commands.flags import JsonFile, Threads
from iccld.commands.output import STDOUT, human_text, write_result
from iccld.errors import InputError
from iccld.files import write_text
from iccld.outputs import Places


@dataclass(frozen=True)
class BenchArgs:
    """Runs what a plan lacks and writes its tables and a report.

    The same command again goes on where it was stopped. Example: iccld bench benchmarks/plans/development.toml
    --roots camvid=data/camvid --jobs 2
    """

    plan: Positional[Path]
    """TOML file with tasks, variants and seeds; benchmarks/plans has examples."""
    results: Path = Path("benchmarks/results")
    """Folder of the results, one JSON file a run."""
    work: Path = Path("runs/bench")
    """Folder for the runs themselves and rendered scenes."""
    jobs: Threads = 0
    """Worker processes at a time; 0: one for each core, or one where there is a GPU."""
    threads: Threads = 0
    """CPU threads of each; 0: the cores divided by the jobs."""
    only: tuple[str, ...] = ()
    """Patterns of TASK/VARIANT/SEED, such as '*/iccld/*'; none runs all."""
    roots: tuple[str, ...] = ()
    """Folders of data sets, such as camvid=data/camvid. The name is the data set's kind, or the last part of the folder
    that the plan names."""
    dry_run: bool = False
    """Only says which runs would be done, and in how many hours."""
    table: bool = False
    """Only writes tables and report of the results that are there."""
    json: JsonFile = None
    """Where to write the plan's results and failures."""

    def run(self) -> int:
        """Runs the bench; returns the exit code."""
        if self.json not in (None, STDOUT) and self.json.resolve().is_relative_to(self.results.resolve()):
            raise InputError(f"--json {self.json}: lies among the results, which are read; give another file")
        resources = self._resources()
        Places(
            files={"--json": (self.json, "json")},
            folders={"--results": self.results, "--work": self.work},
            data=[self.plan, *(root for root in resources.roots.values() if Path(root).exists())],
        ).check()
        plan = read_plan(self.plan)
        runs = plan.runs(self.only)
        if self.dry_run:
            print("\n".join(outlook(runs, resources)))
            return 0
        with human_text(self.json):
            failures = [] if self.table else run_plan(plan, runs, resources)
            results = read_results(self.results)
            self._write_tables(plan, results)
        found = {run.name: find_result(run, results) for run in runs}
        facts = {name: result.facts if result else None for name, result in found.items()}
        write_result(self.json, {"plan": plan.name, "runs": facts, "failures": failures})
        for failure in failures:
            print(f"iccld: error: {failure}", file=sys.stderr)
        return 1 if failures else 0

    def _write_tables(self, plan: Plan, results: list[Result]) -> None:
        from iccld.bench.page import plan_page

        folder, text = self.results / plan.name, plan_tables(plan, results)
        path = write_text(folder / "tables.md", text)
        report = write_text(folder / "report.html", plan_page(plan, results))
        print(f"\n{text}\ntables: {path}\nreport: {report}")

    def _resources(self) -> Resources:
        import torch

        cores = os.cpu_count() or 1
        jobs = self.jobs or (1 if torch.cuda.is_available() else cores)
        roots = {}
        for entry in self.roots:
            name, _, folder = entry.partition("=")
            if not folder:
                raise InputError(f"--roots {entry}: give NAME=FOLDER, such as camvid=data/camvid")
            roots[name] = folder
        return Resources(self.results, self.work, jobs, self.threads or max(1, cores // jobs), roots)
