"""``iccld train`` from the first step to a model that predicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from iccld.adaptation.method import SourceOnly
from iccld.cli import main
from iccld.config import AdaptationConfig
from iccld.models.iccld import ICCLD
from iccld.presets import RECIPES
from iccld.training.tracking import read_metrics

Flags = Callable[..., list[str]]


# What each method logs beside the supervised losses of its labeled domain, once it has begun.
FURTHER = {
    "iccld": {"loss_seg_mixed", "loss_adversarial", "loss_discriminator", "latent_distance"},
    "source_only": set(),
    "oracle": set(),
    "adaptsegnet": {"loss_adversarial", "loss_discriminator"},
    "advent": {"loss_adversarial", "loss_discriminator"},
    "minent": {"loss_entropy_target"},
    "fda": {"loss_entropy_target"},
    "dacs": {"loss_seg_mixed"},
    "daformer": {"loss_seg_mixed"},
    "mic": {"loss_seg_mixed", "loss_seg_masked"},
}


@pytest.mark.parametrize("method", ["iccld", "source_only", "oracle"])
def test_a_run_leaves_a_model_and_its_record(
    method: str, flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--method", method)) == 0
    captured = capsys.readouterr()
    expected = {"checkpoints", "config.json", "curves.png", "metrics.csv", "model.safetensors", "run.json"}
    expected |= {"preprocessor_config.json"}
    expected |= {"README.txt", "report.html", "report.json"}
    expected |= {"tensorboard", "threads.json", "data.json", ".iccld.json"}
    expected |= {"adversary.png"} if method == "iccld" else set()
    assert {p.name for p in out.iterdir() if p.name != "cache"} == expected
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
    assert f"report: {out / 'report.html'}" in captured.out
    assert "warning" not in captured.err.lower()


def _check_metrics(out: Path, method: str) -> None:
    rows = read_metrics(out / "metrics.csv")
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    domain = "target" if method == "oracle" else "source"
    for row in rows:
        for name in ("loss", f"loss_seg_{domain}", "learning_rate_factor", "seconds_per_step"):
            assert np.isfinite(float(row[f"train/{name}"]))
    for name in set().union(*FURTHER.values()):
        assert (f"train/{name}" in rows[1]) == (name in FURTHER[method]), name
        assert f"train/{name}" not in rows[0], "the other branches begin at the third step"
    for row in rows:
        shares = {k: float(v) for k, v in row.items() if k.startswith("train/gradient_share_")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert all(0 <= share <= 1 for share in shares.values())
        assert f"train/gradient_share_seg_{domain}" in shares
    assert 0 <= float(rows[-1]["val/miou"]) <= 100
    assert 0 <= float(rows[-1]["val/iou/road"]) <= 100


@pytest.mark.parametrize("method", list(RECIPES))
def test_rivals_train_by_their_recipe(method: str, flags: Flags, tmp_path: Path) -> None:
    """Nothing but the method's name is asked for."""
    out = tmp_path / "run"
    words = ("--method", method, "--steps", "6", "--checkpoint-every", "6")
    assert main(flags(out, *words)) == 0
    _check_metrics(out, method)
    settings = json.loads((out / "run.json").read_text())
    assert settings["method"] == method
    assert not settings["model"]["diffusion"]
    if method in ("dacs", "daformer", "mic"):
        assert settings["adaptation"]["threshold"] == 0.1, (
            "a flag of the test's own, stronger than the recipe"
        )
    for setting, value in RECIPES[method].items():
        group, name = setting.split(".")
        if name not in ("threshold", "start", "adversarial_warmup"):  # the test's own
            assert settings[group][name] == value, setting
    rows = read_metrics(out / "metrics.csv")
    assert not any("denoising" in name or "reconstruction" in name for row in rows for name in row)
    assert not ICCLD.from_pretrained(out).spec.diffusion
    tensors = load_file(out / "checkpoints" / "step-00000006.safetensors")
    weights = [name for name, _ in ICCLD.from_pretrained(out).named_parameters()]
    learned = [name for name in weights if not name.startswith("label_encoder.")]
    assert len(learned) < len(weights)
    moments = [name for name in tensors if name.startswith("optimizer/") and name.endswith("/exp_avg")]
    assert len(moments) == len(learned), "the label encoder has no gradient, and so no moments"


def test_mixed_domain_and_adversary_can_be_switched_off(flags: Flags, tmp_path: Path) -> None:
    plain = AdaptationConfig()
    assert (plain.mixing, plain.adversarial_weight) == ("classmix", 0.02)
    off = ("--adaptation.mixing", "none", "--adaptation.adversarial-weight", "0")
    assert main(flags(tmp_path / "run", *off)) == 0
    logged = set().union(*read_metrics(tmp_path / "run" / "metrics.csv"))
    assert not any("adversarial" in name or "mixed" in name for name in logged)
    assert not (tmp_path / "run" / "adversary.png").exists()


def test_an_adversary_that_never_begins(flags: Flags, tmp_path: Path) -> None:
    assert main(flags(tmp_path / "run", "--steps", "2", "--adaptation.start", "1")) == 0
    assert not (tmp_path / "run" / "adversary.png").exists()


@pytest.mark.parametrize(
    ("words", "branches"),
    [
        ("", "3 branches"),
        ("--adaptation.masked", "4 branches"),
        ("--adaptation.adversarial-weight 0", "2 branches"),
        ("--adaptation.adversarial-weight 0 --adaptation.mixing none", "1 branch\n"),
        ("--method source_only", "1 branch\n"),
        ("--method mic", "3 branches"),
        ("--method dacs", "2 branches"),
    ],
)
def test_a_run_says_how_many_branches_it_computes(
    words: str, branches: str, flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = ("--stop-at", "1", "--steps", "2")
    assert main(flags(tmp_path / "run", *stop, *words.split())) == 0
    assert f"1 per branch at 64×64, {branches}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "dacs", "--model.diffusion"),
        ("--adaptation.denoising-weight", "0", "--adaptation.reconstruction-weight", "0"),
    ],
)
def test_diffusion_without_the_losses_of_the_label_coder(
    words: tuple[str, ...], flags: Flags, tmp_path: Path
) -> None:
    """It trains, or is refused as bad input; it does not end in a traceback."""
    assert main(flags(tmp_path / "run", "--steps", "2", *words)) in (0, 2)


def test_a_run_that_ended_before_its_report_is_concluded(flags: Flags, tmp_path: Path) -> None:
    """What a kill between the last checkpoint and the report leaves is completed by the same command."""
    run = tmp_path / "run"
    words = flags(run, "--steps", "2", "--method", "source_only")
    assert main(words) == 0
    rows = read_metrics(run / "metrics.csv")
    for name in ("report.html", "curves.png"):
        (run / name).unlink()
    assert main(words) == 0
    assert (run / "report.html").is_file()
    assert (run / "curves.png").is_file()
    assert read_metrics(run / "metrics.csv") == rows


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
        if torch.initial_seed():  # 0 in the trials before the first step
            seeds.append(torch.initial_seed())
        return original(*arguments)

    monkeypatch.setattr(SourceOnly, "segmenter_step", record)
    words = ("--method", "source_only", "--steps", "3", "--optim.accumulation", "2")
    assert main(flags(tmp_path / "one", *words)) == 0
    assert len(set(seeds)) == 6
    assert main(flags(tmp_path / "other", *words, "--seed", "1")) == 0
    assert len(set(seeds)) == 12
