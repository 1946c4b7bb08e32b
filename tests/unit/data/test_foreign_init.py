"""``iccld data init`` with annotations: files, splits, other folders, repetition, and our own annotation files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_data import save_gray
from foreign_files import SIZE, coco, draw, polygon, read_map, save_image, save_json

from iccld.cli import main
from iccld.data.datasets import open_dataset
from iccld.data.foreign import convert as module
from iccld.errors import InputError
from iccld.models.regions import find_regions, to_coco, to_shapes

POINTS = [(5.0, 5.0), (50.5, 8.0), (20.0, 35.0)]
FLAT = [value for point in POINTS for value in point]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two splits in one folder, and COCO files that tell them apart."""
    root = tmp_path / "my set"
    for name in ("day/a.jpg", "day/b.jpg", "night/c.jpg", "night/unused.jpg"):
        save_image(root / "images" / name)
    one = {"segmentation": [FLAT], "category_id": 7}
    for split, names in (("train", ["day/a.jpg", "night/c.jpg"]), ("val", ["day/b.jpg"])):
        rows = [one | {"image_id": i} for i in range(1, len(names) + 1)]
        save_json(root / f"annotations/instances_{split}.json", coco(names, rows))
    return root


def test_from_annotations_to_a_checked_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = folder.parent / "report.json"
    assert main(["data", "init", str(folder), "--role", "source", "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "annotations in COCO's JSON" in out
    assert "have no annotation and became 255 (ignore)" in out
    facts = json.loads(report.read_text())
    share = 1 - polygon(POINTS).mean()
    assert facts["annotations"] == {
        "format": "COCO's JSON",
        "images": 3,
        "dropped": {},
        "unlabeled_as": "ignore",
        "unlabeled": pytest.approx(share, abs=1e-5),
    }
    assert facts["classes"] == ["car", "road"]
    for split, names in (("train", ["day/a.jpg", "night/c.jpg"]), ("val", ["b.jpg"])):
        data = open_dataset("folder", folder, split=split)
        assert [data.file_name(i) for i in range(len(data))] == names
        np.testing.assert_array_equal(data.label(0), np.where(polygon(POINTS), 1, 255))
        assert main(["data", "check", "folder", str(folder), "--split", split]) == 0


def test_into_another_folder(folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    out = tmp_path / "described"
    assert main(["data", "init", str(folder), "--out", str(out), "--unlabeled", "background"]) == 0
    assert sorted(folder.rglob("*")) == before
    assert main(["data", "check", "folder", str(out), "--follow-outside"]) == 0
    np.testing.assert_array_equal(read_map(out, "val/b.png"), np.where(polygon(POINTS), 2, 0))
    text = (out / "dataset.toml").read_text()
    assert f'"background",  # {1 - polygon(POINTS).mean():.2%} of the pixels read' in text


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    assert main(["data", "init", str(folder), "--dry-run"]) == 0
    assert 'labels = "iccld_labels/train/**/*.png"' in capsys.readouterr().out
    assert sorted(folder.rglob("*")) == before


def test_an_interrupted_call_can_be_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module.write_png
    calls: list[Path] = []

    def interrupted(path: Path, *rest: object) -> Path:
        if calls:
            raise KeyboardInterrupt
        calls.append(path)
        return whole(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw(folder)
    assert not (folder / "dataset.toml").exists()
    monkeypatch.undo()
    assert main(["data", "init", str(folder)]) == 0
    assert main(["data", "init", str(folder)]) == 2  # dataset.toml is there
    assert main(["data", "init", str(folder), "--force"]) == 0
    assert len(list((folder / "iccld_labels").rglob("*.png"))) == 3


def test_drawn_label_maps_are_no_images_of_the_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / f"part/{name}.png")
    save_image(tmp_path / "c.png")
    rows = [{"image_id": i, "segmentation": [FLAT]} for i in (1, 2, 3)]
    save_json(tmp_path / "x.json", coco(["part/a.png", "part/b.png", "c.png"], rows))
    for _ in range(2):
        assert main(["data", "init", str(tmp_path), "--force"]) == 0
        data = open_dataset("folder", tmp_path)
        assert sorted(data.file_name(i) for i in range(len(data))) == ["c.png", "part/a.png", "part/b.png"]


def test_other_files_in_the_folder_for_label_maps_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = save_gray(folder / "iccld_labels/train/mine.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match="is not empty"):
        draw(folder)
    assert mine.exists()
    shutil.rmtree(folder / "iccld_labels")
    (tmp_path / "photos").mkdir()
    photo = save_image(tmp_path / "photos/p.png")
    (folder / "iccld_labels").symlink_to(tmp_path / "photos")
    with pytest.raises(InputError, match="leads out of the folder"):
        draw(folder)
    (folder / "iccld_labels").unlink()
    draw(folder)
    shutil.rmtree(folder / "iccld_labels/val")
    (folder / "iccld_labels/val").symlink_to(tmp_path / "photos")
    with pytest.raises(InputError, match="leads out of the folder"):
        draw(folder)
    monkeypatch.setenv("ICCLD_FOLLOW_OUTSIDE", "1")
    with pytest.raises(InputError, match="val: is a link"):
        draw(folder)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == [photo.name]


def test_label_maps_are_preferred_to_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "images/a.jpg")
    labels = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 3
    save_gray(tmp_path / "masks/a.png", labels)
    save_json(tmp_path / "x.json", coco(["a.jpg"], [{"segmentation": [FLAT]}]))
    assert main(["data", "init", str(tmp_path)]) == 0
    assert "The annotations in COCO's JSON were not read" in capsys.readouterr().out
    assert not (tmp_path / "iccld_labels").exists()


def test_a_flag_without_effect_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "images/a.jpg")
    assert main(["data", "init", str(tmp_path), "--unlabeled", "background"]) == 2
    assert "--unlabeled: there are no annotations to draw" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["coco", "labelme"])
def test_our_own_annotations_are_read_back(kind: str, tmp_path: Path) -> None:
    names = ("road", "car", "sky")
    rng = np.random.default_rng(5)
    labels = np.zeros(SIZE, np.uint8)
    for index in rng.integers(0, 3, 12):
        top, left = rng.integers(0, SIZE[0] - 5), rng.integers(0, SIZE[1] - 5)
        labels[top : top + rng.integers(2, 20), left : left + rng.integers(2, 30)] = index
    labels[2:9, 3:10] = 2
    labels[4:6, 5:8] = 1  # a region inside of another
    for k in range(12):  # a diagonal border
        labels[20 + k, 30 : 30 + k + 1] = 1
    save_image(tmp_path / "images/a.jpg")
    probabilities = np.ones((3, *SIZE), np.float32) / 3
    regions = find_regions(labels, probabilities, names)
    source = "../images/a.jpg"
    value = to_coco(regions, names, SIZE, source) if kind == "coco" else to_shapes(regions, SIZE, source)
    save_json(tmp_path / kind / "a.json", value)
    done = draw(tmp_path)
    assert done.guess.meaning is not None
    classes = done.guess.meaning.keys["classes"]
    drawn = read_map(tmp_path, "train/a.png")
    assert drawn.max() < 3
    assert [classes[i] for i in drawn.ravel()] == [names[i] for i in labels.ravel()]
