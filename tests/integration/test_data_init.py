"""``iccld data init`` and the sheet of ``iccld data check`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iccld.cli import main


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Images with black-and-white masks."""
    folder = tmp_path / "my set"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(folder / f"images/{i}.jpg")
        mask = np.zeros((6, 8), np.uint8)
        mask[i:] = 255
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
    return folder


def test_from_a_folder_to_a_sheet(masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "init", str(masks), "--classes", "sky", "ground", "--role", "source"]) == 0
    out = capsys.readouterr().out
    assert "train: 3 images, 3 with a label map" in out
    assert out.splitlines()[-1] == f"next: iccld data check folder '{masks}'"
    assert 'role = "source"' in (masks / "dataset.toml").read_text(encoding="utf-8")
    report, sheet = masks.parent / "report.json", masks.parent / "sheet.png"
    assert main(["data", "check", "folder", str(masks), "--json", str(report), "--sheet", str(sheet)]) == 0
    assert f"sheet: {sheet} (3 of 3 images)" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.width > 600
    found = json.loads(report.read_text())
    assert {c["name"]: c["pixels"] for c in found["classes"]} == {"sky": 24, "ground": 120}


def test_check_tells_about_the_sheet_only_where_it_helps(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "init", str(masks)]) == 0
    assert main(["data", "check", "folder", str(masks)]) == 0
    assert capsys.readouterr().out.endswith("the same command with --sheet FILE.png\n")
    (masks / "masks/0.png").unlink()
    assert main(["data", "check", "folder", str(masks)]) == 2
    assert "--sheet" not in capsys.readouterr().out
    assert main(["data", "check", "folder", str(masks), "--sheet", "sheet.jpg"]) == 2
    assert "give a name that ends in .png" in capsys.readouterr().err


def test_a_file_that_is_there_is_kept(masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = 'images = "images/*.jpg"\n'
    path = masks / "dataset.toml"
    path.write_text(mine)
    assert main(["data", "init", str(masks)]) == 2
    assert f"{path}: is there already; --force replaces it" in capsys.readouterr().err
    assert main(["data", "init", str(masks), "--dry-run"]) == 0
    assert 'labels = "masks/*.png"' in capsys.readouterr().out
    assert path.read_text() == mine
    assert main(["data", "init", str(masks), "--force"]) == 0
    assert 'labels = "masks/*.png"' in path.read_text(encoding="utf-8")
    assert sorted(p.name for p in masks.iterdir()) == ["dataset.toml", "images", "masks"]  # no temporary file


def test_into_another_folder(masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "described"
    assert main(["data", "init", str(masks), "--out", str(out)]) == 0
    assert not (masks / "dataset.toml").exists()
    assert capsys.readouterr().out.endswith(f"next: iccld data check folder {out} --follow-outside\n")
    assert main(["data", "check", "folder", str(out), "--follow-outside"]) == 0


def test_nothing_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert main(["data", "init", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "looked for Cityscapes, GTA5, SYNTHIA" in captured.err
    assert "1 .txt" in captured.err
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


def test_written_scenes_are_known_as_cityscapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--count", "1", "--height", "48", "--width", "64"]
    assert main(["data", "scenes", str(tmp_path), *small, "--split", "val"]) == 0
    assert main(["data", "init", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Cityscapes is built in too: --data.source cityscapes" in out
    assert out.splitlines()[-1] == f"next: iccld data check folder {tmp_path} --split val"
    assert main(["data", "check", "folder", str(tmp_path), "--split", "val"]) == 0
