from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iccld.bench.plan import Plan, Run, read_plan
from iccld.config import to_dict
from iccld.files import write_json

PLAN = """
title = "Side by side"
seeds = [3, 1]
predictions = [[1, 1], [2, 1]]

[tasks.near]
title = "Near"
preset = "demo"
settings = { steps = 40, "data.crop" = [64, 96], "model.backbone" = "compact" }

[tasks.far]
preset = "scenes_to_camvid"

[variants.source_only]
title = "source only"
method = "source_only"

[variants.advent]
method = "advent"
settings = { "adaptation.start" = 0.25 }
tasks = ["near"]

[variants.iccld]
title = "ICCLD"
method = "iccld"
predictions = [[1, 1], [4, 1], [1, 8]]

[variants.oracle]
method = "oracle"
tasks = ["near"]
"""


@pytest.fixture
def plan_text() -> str:
    return PLAN


@pytest.fixture
def write_plan(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "plans" / "side.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plans") / "side.toml"
    path.write_text(PLAN, encoding="utf-8")
    return read_plan(path)


@pytest.fixture(scope="session")
def runs(plan: Plan) -> dict[str, Run]:
    return {run.name: run for run in plan.runs()}


@pytest.fixture
def save_result(tmp_path: Path) -> Callable[..., Path]:
    """Writes what a worker would have written for a run, with figures of our choice."""

    def save(run: Run, folder: Path | None = None, /, **facts: Any) -> Path:
        folder = folder or tmp_path / "results" / run.plan / run.task.name
        value = {
            "run": run.name,
            "miou": 10.0,
            "iou": {"road": 80.0, "car": None},
            "seconds": 60.0,
            "seconds_per_adapting_step": 0.5,
            "peak_gib": 1.25,
            "checkpoints": [{"step": 40, "miou": 10.0, "entropy": 0.5, "agreement": 0.9}],
            "predictions": [{"steps": s, "draws": n, "miou": 10.0} for s, n in run.variant.predictions],
            "settings": to_dict(run.config),
        }
        return write_json(folder / f"{run.variant.name}-seed{run.seed}.json", value | facts)

    return save
