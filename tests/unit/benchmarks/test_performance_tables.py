"""The tables of docs/performance.md are what ``make results`` makes of the committed figures."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from performance_tables import performance_tables

    return performance_tables()


def test_every_file_of_figures_has_its_table(tables: str) -> None:
    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert tables.strip() in page
    files = list((BENCHMARKS / "performance").glob("*.json"))
    assert tables.count("`python benchmarks/") == len(files) > 0


def test_bars_are_judged_in_both_directions(tables: str) -> None:
    from performance_tables import _verdict

    assert _verdict(0.5, "≤ 0.6") == _verdict(3.0, "≥ 3") == _verdict(0.9, "< 1") == "met"
    assert _verdict(0.7, "≤ 0.6") == _verdict(2.9, "≥ 3") == "**missed**"
    assert _verdict(0.7, "–") == ""
