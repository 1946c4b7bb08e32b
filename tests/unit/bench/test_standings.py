"""Ranks against scipy, and curves against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from iccld.bench.plan import Run, read_plan
from iccld.bench.results import read_results
from iccld.bench.standings import first_reached, learning_curve, rank_methods, ranks
from iccld.bench.tables import plan_tables

FIGURES = st.lists(st.integers(0, 9).map(float), min_size=3, max_size=9)


@given(FIGURES)
def test_ranks_are_those_of_scipy(values: list[float]) -> None:
    expected = scipy.stats.rankdata([-v for v in values])
    assert list(ranks({str(i): v for i, v in enumerate(values)}).values()) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)), min_size=3, max_size=9))
def test_the_correlation_is_that_of_scipy(values: list[tuple[int, int, int]]) -> None:
    published = {str(i): float(v[0]) for i, v in enumerate(values)}
    tasks = [{str(i): float(v[k]) for i, v in enumerate(values)} for k in (1, 2)]
    ranking = rank_methods(tasks, published)
    assert ranking is not None
    means = [sum(ranks(task)[name] for task in tasks) for name in published]
    if len(set(means)) == 1 or len(set(published.values())) == 1:
        assert ranking.correlation != ranking.correlation
    else:
        expected = scipy.stats.spearmanr([-m for m in means], list(published.values())).statistic
        assert ranking.correlation == pytest.approx(expected)


def test_tasks_that_lack_a_method_do_not_count() -> None:
    published = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert rank_methods([{"a": 1.0, "b": 2.0}], published) is None
    ranking = rank_methods([{"a": 1.0, "b": 2.0}, {"a": 9.0, "b": 8.0, "c": 7.0, "d": 99.0}], published)
    assert ranking is not None
    assert ranking.here == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert ranking.correlation == pytest.approx(1.0)


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
    assert "### Order of the methods: Spearman's ρ = 0.50 with the published one" in found
    assert "| ICCLD | 74.4 | 1 | 1.0 |" in found
    assert "| source only | 36.6 | 3 | 2.0 |" in found
    curve = learning_curve([result for result in results if "advent" in result.facts["run"]])
    assert first_reached(curve, 18.1) is None


def test_results_that_do_not_say_how_long_they_took_have_no_curve(
    runs: dict[str, Run], tmp_path: Path, save_result: Callable[..., Path]
) -> None:
    save_result(runs["near/iccld/3"], miou=20.0)
    assert learning_curve(read_results(tmp_path / "results")) == []
