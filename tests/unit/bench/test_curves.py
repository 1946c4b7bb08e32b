"""Learning curves against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from iccld.bench.plan import Run, read_plan
from iccld.bench.results import read_results
from iccld.bench.tables import learning_curve, plan_tables


def _curve(*points: tuple[int, float, float]) -> list[dict[str, float]]:
    return [
        {"step": step, "seconds": seconds, "miou": miou, "entropy": 0.1, "agreement": 0.9}
        for step, seconds, miou in points
    ]


def test_tables(
    write_plan: Callable[[str], Path], plan_text: str, tmp_path: Path, save_result: Callable[..., Path]
) -> None:
    plan = read_plan(write_plan(plan_text))
    runs: dict[str, Run] = {run.name: run for run in plan.runs()}
    curves = {
        "source_only": _curve((20, 5.0, 10.0), (40, 10.0, 20.0)),
        "advent": _curve((20, 8.0, 12.0), (40, 16.0, 18.0)),
        "iccld": _curve((20, 6.0, 18.5), (40, 12.0, 30.0)),
    }
    for name, curve in curves.items():
        save_result(runs[f"near/{name}/3"], miou=curve[-1]["miou"], checkpoints=curve)
    results = read_results(tmp_path / "results")
    found = plan_tables(plan, results)
    assert "| source only | 20.0 | 10 s | 12 s | 120 % |" in found
    assert "| advent | 18.0 | 16 s | 6 s | 38 % |" in found


def test_results_that_do_not_say_how_long_they_took_have_no_curve(
    runs: dict[str, Run], tmp_path: Path, save_result: Callable[..., Path]
) -> None:
    save_result(runs["near/iccld/3"], miou=20.0)
    assert learning_curve(read_results(tmp_path / "results")) == []
