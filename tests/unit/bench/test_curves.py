"""Ranks against scipy; learning curves and the published order against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from iccld.bench.plan import Run, read_plan
from iccld.bench.results import Pace, learning_curve, read_results
from iccld.bench.tables import plan_tables, ranks


@given(st.lists(st.integers(0, 9).map(float), min_size=3, max_size=9))
def test_ranks_are_those_of_scipy(values: list[float]) -> None:
    expected = scipy.stats.rankdata([-v for v in values])
    assert list(ranks({str(i): v for i, v in enumerate(values)}).values()) == pytest.approx(expected)


def _curve(*points: tuple[int, float, float]) -> list[dict[str, float]]:
    return [
        {"step": step, "seconds": seconds, "miou": miou, "entropy": 0.1, "agreement": 0.9}
        for step, seconds, miou in points
    ]


def test_tables(
    write_plan: Callable[[str], Path], plan_text: str, tmp_path: Path, save_result: Callable[..., Path]
) -> None:
    text = plan_text.replace('method = "advent"', 'method = "advent"\npublished = 45.5')
    text = text.replace('title = "source only"', 'title = "source only"\npublished = 36.6')
    text = text.replace('title = "ICCLD"', 'title = "ICCLD"\npublished = 74.4')
    plan = read_plan(write_plan(text))
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
    # Side by side ADVENT takes half a second a step all the time, and ICCLD one second before step 16 of 40.
    paces = {"near": {"advent": Pace(0.5, 0.5), "iccld": Pace(1.0, 2.0)}}
    assert runs["near/iccld/3"].config.adaptation.start == 0.4
    assert "| advent | 18.0 | 20 s | 24 s | 120 % |" in plan_tables(plan, results, paces)
    # Here ICCLD, source-only, ADVENT; published ICCLD, ADVENT, source-only: 1 - 6 (0 + 1 + 1) / (3 · 8).
    assert "Spearman's ρ = 0.50 with the published one" in found
    assert "| advent | 45.5 | 2 | 3.0 |" in found


def test_paces_measured_side_by_side_give_the_time(
    runs: dict[str, Run], tmp_path: Path, save_result: Callable[..., Path]
) -> None:
    run = runs["near/iccld/3"]
    early = round(run.config.adaptation.start * run.config.steps)
    save_result(run, miou=20.0, checkpoints=_curve((early // 2, 1.0, 10.0), (early + 2, 2.0, 20.0)))
    found = learning_curve(read_results(tmp_path / "results"), Pace(warmup=2.0, adapting=3.0))
    assert early > 1
    assert [point.seconds for point in found] == [early // 2 * 2.0, early * 2.0 + 2 * 3.0]


def test_results_that_do_not_say_how_long_they_took_have_no_curve(
    runs: dict[str, Run], tmp_path: Path, save_result: Callable[..., Path]
) -> None:
    save_result(runs["near/iccld/3"], miou=20.0)
    assert learning_curve(read_results(tmp_path / "results")) == []
