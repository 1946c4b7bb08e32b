"""Writes the tables in docs (results, backbones, performance) and README.md from benchmark results: ``make results``.

All numbers between the markers are generated. Run the script after a bench. With ``--check``, the script only checks
whether the documents are up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from performance_tables import performance_tables

from iccld.bench.plan import Plan, read_plan
from iccld.bench.results import Pace, Paces, Result, find_result, read_results
from iccld.bench.tables import overview, plan_tables
from iccld.files import write_text

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin (make results) -->", "<!-- results: end -->"


def main() -> int:
    """Rewrites the documents. With ``--check``, changes no file and returns 1 if a document is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    check = parser.parse_args().check
    plans = [read_plan(path) for path in sorted((ROOT / "benchmarks" / "plans").glob("*.toml"))]
    results = read_results(ROOT / "benchmarks" / "results")
    paces = {plan.name: read_paces(plan) for plan in plans}
    tables = [plan_tables(plan, results, paces[plan.name]) for plan in plans]
    texts = {
        ROOT / "docs" / "results.md": "\n".join(tables) + _origin(results),
        ROOT / "README.md": _summary(plans, results),
        ROOT / "docs" / "backbones.md": _memory(),
        ROOT / "docs" / "performance.md": performance_tables(),
    }
    stale = []
    for path, text in texts.items():
        before = path.read_text(encoding="utf-8")
        after = _between_markers(before, text, path)
        if after != before:
            stale.append(path.name)
            if not check:
                write_text(path, after)
    if check and stale:
        print(f"{', '.join(stale)}: not up to date; run make results", file=sys.stderr)
        return 1
    return 0


def _between_markers(document: str, text: str, path: Path) -> str:
    if BEGIN not in document or END not in document:
        sys.exit(f"{path}: has no lines {BEGIN} and {END}")
    head, rest = document.split(BEGIN, 1)
    return f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{rest.split(END, 1)[1]}"


def read_paces(plan: Plan) -> Paces | None:
    """Reads the step times that ``benchmarks/step_times.py`` measured for a plan.

    Returns:
        Task → variant → step times, or ``None`` without measurements. Tables then use the step times of the runs.
    """
    path = ROOT / "benchmarks" / "step_times" / f"{plan.name}.json"
    if not path.is_file():
        return None
    seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    return {task: {name: Pace(**pace) for name, pace in found.items()} for task, found in seconds.items()}


def _summary(plans: list[Plan], results: list[Result]) -> str:
    """Returns the table that compares the methods on the reported pairs."""
    plan = next(plan for plan in plans if plan.name == "pairs")
    tasks = {name: replace(task, title=task.title.partition(", ")[0]) for name, task in plan.tasks.items()}
    table = overview(replace(plan, tasks=tasks), results).markdown()
    if not table:
        return "The reported pairs have not been run yet."
    runs = plan.runs()
    done = sum(find_result(run, results) is not None for run in runs)
    seeds = f"mean ± standard deviation of {len(plan.seeds)} seeds"
    state = (
        seeds
        if done == len(runs)
        else f"{done} of the {len(runs)} runs are done; the table will show {seeds}"
    )
    return f"{table}\n\n*EfficientNet-Lite0 from ImageNet, 1500 steps; {state}.*"


def _memory() -> str:
    """Returns the table of the memory that ``benchmarks/memory.py`` measured."""
    path = ROOT / "benchmarks" / "memory.json"
    if not path.is_file():
        return "Not measured yet."
    facts = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "| backbone | M parameters | crop | batch | GiB measured | GiB announced |",
        "|---|---|---|---|---|---|",
    ]
    for case in facts["cases"]:
        name = f"`{case['backbone']}`" + (", mixed domain and adversary" if case["paper"] else "")
        crop = f"{case['crop'][0]}×{case['crop'][1]}"
        lines.append(
            f"| {name} | {case['parameters'] / 1e6:.1f} | {crop} | {case['batch_size']} "
            f"| {case['measured_gib']:.2f} | {case['predicted_gib']:.2f} |"
        )
    machine = facts["machine"]
    origin = (
        f"`{facts['command']}`, commit {facts['commit']}{' with changes' if facts['changed'] else ''}, "
        f"{machine['cpu']}, {facts['precision']}, torch {machine['torch']}."
    )
    return "\n".join([*lines, "", origin])


def _origin(results: list[Result]) -> str:
    """Returns a sentence on the commits and machines of the results."""
    if not results:
        return ""
    commits = sorted({f"{r.facts['commit']}{' with changes' if r.facts['changed'] else ''}" for r in results})
    machines = sorted({_machine(r) for r in results})
    return (
        f"\n{len(results)} results of commits {', '.join(commits)}, on {'; '.join(machines)}. "
        "Each JSON file under `benchmarks/results` names command, seed, commit, machine and every setting.\n"
    )


def _machine(result: Result) -> str:
    m = result.facts["machine"]
    # The first results lack the precision. Both processors of these results support bf16.
    precision = m.get("precision", "bf16")
    return f"{m.get('gpu', m['cpu'])}, {m['threads']} of {m['cores']} cores a run, {precision}, torch {m['torch']}"


if __name__ == "__main__":
    sys.exit(main())
