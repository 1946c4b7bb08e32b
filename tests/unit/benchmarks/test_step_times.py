"""The step that the benchmarks time takes what the loaders give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize("method", ["source_only", "iccld", "advent"])
def test_a_step_changes_the_model(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from step_times import make_step, noise_config

    config = noise_config(
        "compact", (64, 64), 1, {"method": method, "model.width": 16, "optim.warmup_steps": 0}
    )
    step = make_step(config)
    before = [p.detach().clone() for p in step.update.model.parameters()]
    step()
    after = list(step.update.model.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_parts_of_a_step_add_up_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from step_parts import measure_parts
    from step_times import make_step, noise_config

    parts = measure_parts(make_step(noise_config("compact", (64, 64), 1, {"model.width": 16})), 1, "cpu")
    assert sum(part["share"] for part in parts) == pytest.approx(1, abs=0.01)
    assert {"image coder", "denoiser", "label decoder", "backward"} <= {part["part"] for part in parts}
