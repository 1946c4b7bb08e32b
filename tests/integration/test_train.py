"""``iccld train`` from the first step to a model that predicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iccld.adaptation.source_only import SourceOnly
from iccld.cli import main
from iccld.models.iccld import ICCLD
from iccld.training.tracking import read_metrics

Flags = Callable[..., list[str]]


@pytest.mark.parametrize("method", ["iccld", "source_only", "oracle"])
def test_a_run_leaves_a_model_and_its_record(
    method: str, flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--method", method)) == 0
    captured = capsys.readouterr()
    assert sorted(p.name for p in out.iterdir() if p.name != "cache") == [
        "checkpoints",
        "config.json",
        "metrics.csv",
        "model.safetensors",
        "run.json",
    ]
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == [
        "step-00000003.safetensors",
        "step-00000006.safetensors",
    ]
    _check_metrics(out, method)
    training = json.loads((out / "config.json").read_text())["training"]
    assert (training["method"], training["step"], training["preset"]) == (method, 6, "demo")
    assert training["weights"] == "ema_teacher"
    model = ICCLD.from_pretrained(out)
    assert model.label_space.name == "camvid11"
    image = np.zeros((64, 96, 3), np.uint8)
    assert model.predict(image, steps=2).labels.shape == (64, 96)
    assert f"method {method}, seed 0 → {out}" in captured.out
    assert "mIoU on folder val" in captured.out
    assert f"iccld predict {out}" in captured.out
    assert "warning" not in captured.err.lower()


def _check_metrics(out: Path, method: str) -> None:
    rows = read_metrics(out / "metrics.csv")
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    domain = "target" if method == "oracle" else "source"
    for row in rows:
        for name in ("loss", f"loss_seg_{domain}", "learning_rate_factor", "seconds_per_step"):
            assert np.isfinite(float(row[f"train/{name}"]))
    adapts = [
        f"train/{name}" in rows[1] for name in ("loss_seg_mixed", "loss_adversarial", "loss_discriminator")
    ]
    assert adapts == [method == "iccld"] * 3
    assert "train/loss_seg_mixed" not in rows[0], "the other branches begin at the third step"
    assert 0 <= float(rows[-1]["val/miou"]) <= 100
    assert 0 <= float(rows[-1]["val/iou/road"]) <= 100


def test_finished_runs_say_so(flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = flags(tmp_path / "run", "--steps", "1", "--method", "source_only")
    assert main(words) == 0
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'run'}: finished earlier (1 steps); nothing to do\n"
    assert captured.err == ""
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_unlabeled_target_trains_without_evaluation(
    flags: Flags, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = flags(tmp_path / "run", "--steps", "3")
    words[words.index("--data.target-root") + 1] = str(tiny_data / "target" / "train" / "images")
    assert main(words) == 0
    assert "evaluation: none (" in capsys.readouterr().out
    assert not any("val/" in key for row in read_metrics(tmp_path / "run" / "metrics.csv") for key in row)


def test_evaluation_on_the_way(flags: Flags, tmp_path: Path) -> None:
    words = flags(tmp_path / "run", "--method", "source_only", "--steps", "4", "--eval-every", "2")
    assert main(words) == 0
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert [row["step"] for row in rows if "val/miou" in row] == ["2", "4"]


def test_evaluating_on_the_way_changes_no_weight(flags: Flags, tmp_path: Path) -> None:
    for name, more in (("plain", ()), ("watched", ("--eval-every", "1", "--log-every", "3"))):
        assert main(flags(tmp_path / name, "--steps", "4", *more)) == 0
    plain, watched = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("plain", "watched"))
    assert plain == watched


@pytest.mark.parametrize(
    "switches", [("--model.no-diffusion",), ("--model.no-context-links", "--model.no-detail-links")]
)
def test_ablations_train(flags: Flags, tmp_path: Path, switches: tuple[str, ...]) -> None:
    assert main(flags(tmp_path / "run", "--steps", "4", *switches)) == 0
    spec = ICCLD.from_pretrained(tmp_path / "run").spec
    assert (spec.diffusion, spec.context_links) == (
        "--model.no-diffusion" not in switches,
        len(switches) == 1,
    )


def test_every_micro_batch_draws_its_own_random_numbers(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seeds = SourceOnly.segmenter_step, []

    def record(*arguments: Any) -> Any:
        seeds.append(torch.initial_seed())
        return original(*arguments)

    monkeypatch.setattr(SourceOnly, "segmenter_step", record)
    words = ("--method", "source_only", "--steps", "3", "--optim.accumulation", "2")
    assert main(flags(tmp_path / "one", *words)) == 0
    assert len(set(seeds)) == 6
    assert main(flags(tmp_path / "other", *words, "--seed", "1")) == 0
    assert len(set(seeds)) == 12
