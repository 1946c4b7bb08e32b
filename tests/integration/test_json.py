"""``--json FILE`` and ``--json -`` in the commands that print a result."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from iccld.cli import main
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    """A quick call of each command by its name."""
    labels, images = tmp_path / "data" / "val" / "labels", tmp_path / "data" / "val" / "images"
    for folder in (labels, images):
        folder.mkdir(parents=True)
    assert cv2.imwrite(str(labels / "a.png"), np.arange(4, dtype=np.uint8).repeat(64).reshape(16, 16))
    assert cv2.imwrite(str(images / "a.png"), np.zeros((16, 16, 3), np.uint8))
    model, out = tmp_path / "model", tmp_path / "out"
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(model)
    words = {
        "evaluate": f"evaluate --predictions {labels} --labels {labels} --protocol camvid11",
        "predict": f"predict {model} {images} --out {out} --write labels",
        "data check": f"data check camvid {tmp_path / 'data'} --split val",
        "data scenes": f"data scenes {tmp_path / 'scenes'} --count 1 --height 64 --width 96",
        "data init": f"data init {tmp_path / 'data'} --force",
        "rank": f"rank {model} {images} --out {tmp_path / 'next'}",
        "push": f"push {model} me/streets --folder {tmp_path / 'card'}",
    }
    return {name: text.split() for name, text in words.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evaluate", {"miou": 100.0, "num_images": 1}),
        ("predict", {"images": 1, "videos": [], "failures": []}),
        ("data check", {"passed": True, "num_labels": 1}),
        ("data scenes", {"written": 1, "kept": 0}),
        ("data init", {"layout": "images and label maps", "builtin": None}),
        ("rank", {"failures": []}),
        ("push", {"repo": "me/streets", "address": None}),
    ],
)
def test_result_on_standard_output_alone_or_in_a_file(
    name: str,
    expected: dict[str, Any],
    commands: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = commands[name]
    assert main([*words, "--json", "-"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert {key: result[key] for key in expected} == expected
    assert captured.err, "what is said to people"
    if name == "data scenes":
        return  # the second call has nothing to do
    assert main([*words, "--json", str(tmp_path / "result.json")]) == 0
    captured = capsys.readouterr()
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert captured.out
    assert not captured.out.startswith("{")


def test_what_data_init_and_rank_tell(
    commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*commands["data init"], "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(tmp_path / "data" / "dataset.toml")
    assert found["label_maps"] == "4 ids of your own"
    assert found["classes"] == ["class_0", "class_1", "class_2", "class_3"]
    assert found["splits"]["val"] == {
        "images": "val/images/*.png", "labels": "val/labels/*.png", "list": None, "num_images": 1, "num_labels": 1,
    }  # fmt: skip
    assert any("write the names" in note for note in found["notes"])
    assert main([*commands["data init"], "--dry-run", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {**found, "file": None}
    assert 'images = "val/images/*.png"' in captured.err

    assert main([*commands["rank"], "--json", "-"]) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert ranking["sheets"] == [str(tmp_path / "next" / "contact_sheet.png")]
    (row,) = ranking["frames"]
    with open(tmp_path / "next" / "rank.csv", encoding="utf-8", newline="") as file:
        (written,) = csv.DictReader(file)
    assert f"{row['score']:.6f}" == written["score"]
    assert row == {
        **row,
        "rank": 1,
        "file": written["file"],
        "frame": None,
        "distance": None,
        "neighbor": None,
    }


def test_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    flag = capsys.readouterr().out
    assert "scenes_to_camvid" in json.loads(flag)
    assert main(["presets", "--json", "-"]) == 0
    assert capsys.readouterr().out == flag


def test_a_failure_prints_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--predictions", str(tmp_path), "--labels", str(tmp_path), "--protocol", "camvid11"]
    assert main([*words, "--json", "-"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
