"""``iccld.train``, ``iccld.evaluate`` and ``iccld.predict`` do what the commands do."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iccld
from iccld.cli import main
from iccld.errors import InputError
from iccld.models.image_coder import CompactCoder


@pytest.fixture
def settings(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    narrow = partial(CompactCoder, channels=(8, 12, 16, 24, 32))
    monkeypatch.setattr("iccld.models.image_coder.CompactCoder", narrow)
    return {
        "steps": 4,
        "checkpoint_every": 2,
        "log_every": 2,
        "eval_every": 2,
        "device": "cpu",
        "threads": 1,
        "precision": "fp32",
        "data": {
            "source": "folder",
            "source_root": tiny_data / "source",
            "target": "folder",
            "target_root": str(tiny_data / "target"),
            "source_size": (64, 96),
            "target_size": [64, 96],
            "crop": (64, 64),
            "batch_size": 1,
            "num_workers": 0,
            "label_space": "camvid11",
        },
        "model": {"backbone": "compact", "width": 16, "latent_channels": 4},
        "optim": {"warmup_steps": 2},
    }


def _flags(settings: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in settings.items():
        pairs = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        for flag, item in pairs.items():
            items = item if isinstance(item, list | tuple) else [item]
            words += [f"--{flag.replace('_', '-')}", *map(str, items)]
    return words


def test_train_evaluate_and_predict(
    settings: dict[str, Any], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, float]] = []
    saved: list[tuple[int, bool]] = []
    scores: list[tuple[int, float]] = []
    run = iccld.train(
        "demo",
        tmp_path / "api",
        on_step=lambda step, metrics: steps.append((step, float(metrics["train/loss"]))),
        on_checkpoint=lambda step, folder: saved.append((step, any(folder.glob(f"*{step}.safetensors")))),
        on_evaluation=lambda step, metrics: scores.append((step, metrics["val/miou"])),
        **settings,
    )
    assert main(["train", "demo", "--out", str(tmp_path / "command"), *_flags(settings)]) == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("api", "command")]
    assert weights[0] == weights[1]
    assert run.outcome == "finished"
    assert [step for step, _ in steps] == [1, 2, 3, 4]
    assert saved == [(2, True), (4, True)]
    assert [step for step, _ in scores] == [2, 4]
    assert run.metrics["val/miou"] == pytest.approx(scores[-1][1])
    assert run.metrics["train/loss"] == pytest.approx(np.mean([loss for _, loss in steps[2:]]), rel=1e-4)

    capsys.readouterr()
    measured = iccld.evaluate(run.folder, "folder", tiny_data / "target", threads=1, draws=2)
    words = ["evaluate", str(run.folder), "--dataset", "folder", "--root", str(tiny_data / "target")]
    assert main([*words, "--threads", "1", "--draws", "2", "--json", str(tmp_path / "scores.json")]) == 0
    again = iccld.evaluate(run.model, "folder", tiny_data / "target", draws=2)
    assert again.to_json()["miou"] == measured.to_json()["miou"]
    mapped = iccld.predict(run.model, np.zeros((40, 50, 3), np.uint8), map="cityscapes19")
    assert len(mapped.classes) == 19
    assert measured.to_json()["miou"] == json.loads((tmp_path / "scores.json").read_text())["miou"]
    image = next((tiny_data / "target").rglob("*.png"))
    result = iccld.predict(run.folder, image, threads=1, steps=2)
    np.testing.assert_array_equal(result.labels, run.model.predict(image, steps=2).labels)
    np.testing.assert_array_equal(
        iccld.predict(run.model, [image])[0].labels, run.model.predict(image).labels
    )


def test_an_exception_of_a_callback_ends_the_run(settings: dict[str, Any], tmp_path: Path) -> None:
    def stop(step: int, metrics: object) -> None:
        raise RuntimeError(f"enough at {step}")

    with pytest.raises(RuntimeError, match="enough at 1"):
        iccld.train("demo", tmp_path / "run", on_step=stop, **settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stepz": 3}, "unknown setting 'stepz'"),
        ({"data": {"cropp": 3}}, "unknown setting"),
        ({"foo": {}}, "unknown group of settings 'foo'"),
        ({"data": "photos"}, "data is a group of settings"),
        ({"steps": "many"}, "steps = 'many' must be a whole number"),
        ({"method": "dacz"}, "method = 'dacz' must be one of"),
        ({"method": "minent", "adaptation": {"mixing": "cutmix"}}, "--adaptation.mixing is not read here"),
    ],
)
def test_wrong_settings_are_one_line(
    settings: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        iccld.train("demo", tmp_path / "run", **{**settings, **wrong})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_unknown_preset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown preset 'demoo'; did you mean 'demo'"):
        iccld.train("demoo", tmp_path / "run")
    assert json.dumps(iccld.Run(tmp_path, "stopped").metrics) == "{}"


def test_a_run_starts_from_another_and_resumes_without_it(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = iccld.train("demo", tmp_path / "first", **settings)
    model = {**settings["model"], "init": str(first.folder)}
    begun = iccld.train("demo", tmp_path / "second", **{**settings, "model": model, "stop_at": 2})
    assert f"initial weights: {first.folder}" in capsys.readouterr().out
    assert begun.outcome == "stopped"
    (first.folder / "model.safetensors").unlink()
    assert iccld.train("demo", tmp_path / "second", **{**settings, "model": model}).outcome == "finished"
    assert "initial weights" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit": 0}, "limit = 0 must be"),
        ({"limit": 1.5}, "limit = 1.5 must be"),
        ({"look": "both"}, "look = 'both' must be one of game, camera, night"),
        ({"stepz": 3}, "unknown setting 'stepz'; did you mean 'steps'"),
    ],
)
def test_wrong_settings_of_an_evaluation(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        iccld.evaluate("gone", "street_scenes", **wrong)


def test_numbers_of_numpy_are_numbers(settings: dict[str, Any], tmp_path: Path) -> None:
    more = {"steps": np.int64(2), "optim": {"head_lr": np.float32(1e-3)}}
    assert (
        iccld.train("demo", tmp_path / "run", **{**settings, **more, "eval_every": 0}).outcome == "finished"
    )
