"""``iccld data check`` as a user calls it, and the data layer on the real CamVid."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iccld.cli import main
from iccld.data.datasets import open_dataset
from iccld.labels import CITYSCAPES19


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound data set of two images with labels."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(tmp_path / f"images/{i}.jpg")
        Image.fromarray(np.full((6, 8), i, dtype=np.uint8)).save(tmp_path / f"labels/{i}.png")
    return tmp_path


def test_sound_data_set(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    report = tmp_path_factory.mktemp("reports") / "new" / "report.json"
    assert main(["data", "check", "folder", str(folder), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "no errors" in out
    assert json.loads(report.read_text())["classes"][0] == {
        "name": "road",
        "pixels": 48,
        "share": 0.5,
        "images": 1,
    }


def test_what_would_spoil_a_run_is_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels" / "1.png").unlink()
    assert main(["data", "check", "folder", str(folder)]) == 2
    assert "error: 1 of 2 images have no label" in capsys.readouterr().out
    assert main(["data", "check", "folder", str(folder), "--images-only"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["camvid", "MISSING"], "no such folder"),
        (["camvid", "FOLDER", "--split", "val"], "camvid has its images in {split}/images"),
        (["gta", "FOLDER"], "did you mean 'gta5'?"),
        (["folder", "FOLDER", "--label-space", "citiscapes19"], "did you mean 'cityscapes19'?"),
        (["street_scenes", "FOLDER"], "iccld data scenes"),
        (["folder", "FOLDER", "--split", "tset"], "has no split 'tset'; choose from train"),
        (["MISSING"], "no such folder"),
        (["camvid"], "camvid: needs its folder too"),
    ],
)
def test_wrong_calls_are_one_line(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"FOLDER": str(folder), "MISSING": str(folder / "missing")}
    assert main(["data", "check", *(places.get(word, word) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("iccld: error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_a_folder_alone_is_recognized(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = folder.with_name("report.json")
    assert main(["data", "check", str(folder), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"{folder}: taken for images and label maps, whose label maps hold the ids 0 and 1\n"
    )
    assert f"'iccld data init {folder}' writes it down" in out
    assert json.loads(report.read_text())["classes"][1]["name"] == "thing"
    assert main(["data", "init", str(folder), "--classes", "floor", "box"]) == 0
    capsys.readouterr()
    assert main(["data", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "taken for a folder that is described by its dataset.toml" in out
    assert "box" in out
    assert (
        main(
            [
                "data",
                "scenes",
                str(folder.with_name("scenes")),
                "--count",
                "1",
                "--height",
                "48",
                "--width",
                "64",
            ]
        )
        == 0
    )
    assert (
        main(
            ["data", "check", str(folder.with_name("scenes")), "--sheet", str(folder.with_name("sheet.png"))]
        )
        == 0
    )
    assert "taken for Cityscapes, which is built in as 'cityscapes'" in capsys.readouterr().out


def test_soft_labels_and_shared_images_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.kron(np.eye(6, dtype=np.uint8) * 4, np.ones((16, 16), np.uint8))
    soft = np.asarray(Image.fromarray(mask).resize((192, 192), Image.Resampling.BILINEAR))
    data, report = tmp_path / "data", tmp_path / "r.json"
    for split in ("train", "val"):
        for part, pixels in (("images", np.zeros((192, 192, 3), np.uint8)), ("labels", soft)):
            (data / split / part).mkdir(parents=True)
            Image.fromarray(pixels).save(data / split / part / "1.png")
    assert main(["data", "check", "folder", str(data), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 images are in split val too (1.png)" in out
    assert "1 of 1 label maps that were judged are not as they were drawn" in out
    assert json.loads(report.read_text())["files"]["soft_labels"]
    Image.fromarray(soft * 12).save(data / "train/labels/1.png")
    assert main(["data", "check", "folder", str(data)]) == 2
    assert "error: no class for id 24" in (out := capsys.readouterr().out)
    assert "scaling with interpolation" in out


def test_a_source_needs_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/1.png")
    assert main(["data", "init", str(tmp_path), "--role", "source"]) == 2
    assert "a source needs labels to learn from" in capsys.readouterr().err
    assert not (tmp_path / "dataset.toml").exists()
    (tmp_path / "dataset.toml").write_text('images = "images/*.png"\nrole = "source"\n')
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "is a source, which needs labels" in capsys.readouterr().err


@pytest.mark.skipif("ICCLD_CAMVID" not in os.environ, reason="ICCLD_CAMVID names no CamVid folder")
@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_real_camvid(split: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = os.environ["ICCLD_CAMVID"]
    report = tmp_path / "report.json"
    words = ["data", "check", "camvid", root, "--split", split, "--json", str(report)]
    assert main(words) == 0, capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["num_images"] == found["num_labels"] == found["num_labels_read"] == count
    assert found["sizes"] == {"480×360": count}
    assert found["warnings"] == found["errors"] == []
    shares = {c["name"]: c["share"] for c in found["classes"]}
    assert 0.2 < shares["road"] < 0.35
    assert 0.2 < shares["building"] < 0.35
    own, common = (open_dataset("camvid", root, split=split, label_space=s) for s in (None, CITYSCAPES19))
    for i in (0, count // 2, count - 1):
        for name in ("road", "sky", "car"):
            mask = own.label(i) == own.label_space.names.index(name)
            np.testing.assert_array_equal(mask, common.label(i) == CITYSCAPES19.names.index(name))
