from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from iccld.bench.plan import Plan, Run
from iccld.bench.results import read_results
from iccld.bench.tables import plan_page


def test_every_method_has_its_mean_and_spread(
    plan: Plan, runs: dict[str, Run], save_result: Callable[..., Path], tmp_path: Path
) -> None:
    save_result(runs["near/source_only/3"], miou=10.0)
    save_result(runs["near/iccld/3"], miou=20.0)
    save_result(runs["near/iccld/1"], miou=24.0)
    text = plan_page(plan, read_results(tmp_path / "results"))
    assert "<h2>Near</h2>" in text
    assert 'id="task1"' not in text, "the other task has no results"
    assert ">22.0 ± 2.8</td>" in text
    assert ">10.0</td>" in text
    assert "width:22.00%" in text
    assert "left:19.17%;width:5.66%" in text
    for title in ("Scores", "Steps, draws and trust", "IoU of each class"):
        assert f"<h3>{title}</h3>" in text
    assert "<h3>Choosing a checkpoint</h3>" not in text, "no run has several"


def test_a_plan_without_results(plan: Plan) -> None:
    assert "No results yet." in plan_page(plan, [])
