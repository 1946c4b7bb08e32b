"""``iccld bench PLAN``: compares training methods over several seeds and tasks."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from iccld.bench.engine import Resources, outlook, run_plan
from iccld.bench.launchers import Launcher, LauncherName, get_launcher
from iccld.bench.plan import Plan, read_plan
from iccld.bench.results import Result, find_result, read_results
from iccld.bench.tables import plan_page, plan_tables
from iccld.commands.flags import Jobs, JsonFile
from iccld.commands.output import STDOUT, human_text, write_result
from iccld.errors import InputError
from iccld.files import write_text
from iccld.machine import usable_cores
from iccld.outputs import Places


@dataclass(frozen=True)
class BenchArgs:
    """Trains and evaluates the missing runs of a plan, and writes tables and a report of all results.

    To continue an interrupted bench, run the same command again. Example: iccld bench benchmarks/plans/development.toml
    --roots camvid=data/camvid --jobs 2
    """

    plan: Positional[Path]
    """TOML file with tasks (source and target), variants (method and settings) and seeds. Examples are in
    benchmarks/plans."""
    results: Path = Path("benchmarks/results")
    """Folder for the results, with one JSON file per run."""
    work: Path = Path("runs/bench")
    """Folder for the runs and for rendered scenes."""
    jobs: Jobs = 0
    """Number of parallel worker processes. 0 means one process per core, or a single process if there is a GPU."""
    threads: Jobs = 0
    """Number of CPU threads per worker process. 0 means the number of cores divided by the number of worker
    processes."""
    launcher: LauncherName = "local"
    """How runs are started: as processes on this machine, as jobs of SLURM (submitit), or as tasks of Ray (on this
    machine, or on the cluster in the environment variable RAY_ADDRESS). The folders must be on a shared disk."""
    submit: tuple[str, ...] = ()
    """Parameters of submitit as KEY=VALUE, such as slurm_partition=gpu timeout_min=600 gpus_per_node=1."""
    only: tuple[str, ...] = ()
    """Select only the runs whose TASK/VARIANT/SEED matches one of these glob patterns, such as '*/iccld/*'."""
    roots: tuple[str, ...] = ()
    """Folders of data sets as NAME=FOLDER, such as camvid=data/camvid. NAME is the kind of the data set (such as
    gta5), or the last part of the data set's path in the plan."""
    dry_run: bool = False
    """Only print the missing runs and their expected duration in hours."""
    table: bool = False
    """Only write the tables and the report of existing results."""
    json: JsonFile = None
    """JSON file for the plan's results and failures."""

    def run(self) -> int:
        """Runs the bench and returns the exit code."""
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
            failures = [] if self.table else run_plan(plan, runs, resources, self._launcher())
            results = read_results(self.results)
            self._write_tables(plan, results)
        found = {run.name: find_result(run, results) for run in runs}
        facts = {name: result.facts if result else None for name, result in found.items()}
        write_result(self.json, {"plan": plan.name, "runs": facts, "failures": failures})
        for failure in failures:
            print(f"iccld: error: {failure}", file=sys.stderr)
        return 1 if failures else 0

    def _write_tables(self, plan: Plan, results: list[Result]) -> None:
        text = plan_tables(plan, results)
        path = write_text(self.results / plan.name / "tables.md", text)
        report = write_text(path.with_name("report.html"), plan_page(plan, results))
        print(f"\n{text}\ntables: {path}\nreport: {report}")

    def _resources(self) -> Resources:
        import torch

        cores = usable_cores()
        jobs = self.jobs or (1 if torch.cuda.is_available() else cores)
        if bad := next((entry for entry in self.roots if not entry.partition("=")[2]), ""):
            raise InputError(f"--roots {bad}: give NAME=FOLDER, such as camvid=data/camvid")
        roots = dict(entry.split("=", 1) for entry in self.roots)
        return Resources(self.results, self.work, jobs, self.threads or max(1, cores // jobs), roots)

    def _launcher(self) -> Launcher:
        if bad := next((entry for entry in self.submit if not entry.partition("=")[2]), ""):
            raise InputError(f"--submit {bad}: give KEY=VALUE, such as timeout_min=600")
        given = dict(entry.split("=", 1) for entry in self.submit)
        options = {key: int(value) if value.isdecimal() else value for key, value in given.items()}
        return get_launcher(self.launcher, self.work, options)
