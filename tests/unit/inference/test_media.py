from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from iccld.data.inputs import InputImage, find_inputs
from iccld.drawing import colorize
from iccld.errors import InputError
from iccld.inference.media import OUTPUT_KINDS, predict_files
from iccld.inference.segmenter import PredictSettings
from iccld.labels import CITYSCAPES19, SYNTHIA16, LabelSpace

LABELS = np.kron(np.array([[0, 13, 10], [8, 2, 18]], np.uint8), np.ones((5, 7), np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "city").mkdir(parents=True)
    Image.fromarray(colorize(LABELS, CITYSCAPES19)).save(root / "a.png")
    Image.fromarray(colorize(LABELS[:5, :9], CITYSCAPES19)).save(root / "city" / "b.bmp")
    return root


KEY = {"classes.json", "legend.png"}


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_every_kind_of_output_at_the_size_of_its_image(model: Any, photos: Path, tmp_path: Path):
    out = tmp_path / "out"
    images = find_inputs([str(photos)])
    assert predict_files(model, images, out, settings=PredictSettings(steps=2, seed=3)) == []
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert written == {f"{kind}/{name}.png" for kind in OUTPUT_KINDS for name in ("a", "city/b")} | KEY
    assert np.array_equal(read(out / "labels" / "a.png"), LABELS)
    assert np.array_equal(read(out / "color" / "a.png"), colorize(LABELS, CITYSCAPES19))
    # The image is painted in the class colors, so the overlay is the image.
    assert np.array_equal(read(out / "overlay" / "a.png"), colorize(LABELS, CITYSCAPES19))
    assert read(out / "uncertainty" / "a.png").shape == (10, 21, 3)
    assert read(out / "labels" / "city" / "b.png").shape == (5, 9)
    assert {(c["steps"], c["seed"]) for c in model.calls} == {(2, 3)}


def test_annotations_of_each_image(model: Any, photos: Path, tmp_path: Path):
    out = tmp_path / "out"
    predict_files(model, find_inputs([str(photos)]), out, write=["coco", "labelme", "labels"])
    coco = json.loads((out / "coco" / "city" / "b.json").read_text())
    assert (out / "coco" / "city" / coco["images"][0]["file_name"]).resolve() == (photos / "city" / "b.bmp")
    assert [c["name"] for c in coco["categories"]] == list(CITYSCAPES19.names)
    large = json.loads((out / "coco" / "a.json").read_text())["annotations"]
    assert sorted(a["category_id"] - 1 for a in large) == sorted(np.unique(LABELS))
    assert all(a["area"] == 35 for a in large), "blocks of 5×7 pixels"
    shapes = json.loads((out / "labelme" / "a.json").read_text())
    assert {s["label"] for s in shapes["shapes"]} == {CITYSCAPES19.names[i] for i in np.unique(LABELS)}
    assert (out / "labelme" / shapes["imagePath"]).resolve() == photos / "a.png"
    assert (out / "labels" / "a.png").is_file()
    assert not (out / "color").exists()


def test_brighter_heat_where_the_model_is_less_sure(model: Any, tmp_path: Path):
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 255
    Image.fromarray(image).save(tmp_path / "x.png")
    predict_files(model, [InputImage(str(tmp_path / "x.png"), "x")], tmp_path / "out", write=["uncertainty"])
    heat = read(tmp_path / "out" / "uncertainty" / "x.png").astype(int).sum(-1)
    assert heat[:, :4].max() < 20
    assert heat[:, 4:].min() > 600
    assert not (tmp_path / "out" / "labels").exists()


@pytest.mark.parametrize(("ids", "bicycle"), [("train", 18), ("index", 15), ("cityscapes", 33)])
def test_numbers_of_the_label_maps(make_model: Any, photos: Path, tmp_path: Path, ids: Any, bicycle: int):
    images = find_inputs([str(photos / "a.png")])
    predict_files(make_model(SYNTHIA16), images, tmp_path / "out", write=["labels"], ids=ids)
    values = read(tmp_path / "out" / "labels" / "a.png")
    assert values[-1, -1] == bicycle
    assert len(np.unique(values)) == 6


def test_own_classes_have_no_cityscapes_ids(make_model: Any, photos: Path, tmp_path: Path):
    model = make_model(LabelSpace.from_names("cracks", ["asphalt", "crack"]))
    images = find_inputs([str(photos / "a.png")])
    with pytest.raises(InputError, match="'asphalt' of cracks has no Cityscapes id"):
        predict_files(model, images, tmp_path / "out", ids="cityscapes")
    assert not (tmp_path / "out").exists()
    predict_files(model, images, tmp_path / "out", write=["labels"])
    assert set(np.unique(read(tmp_path / "out" / "labels" / "a.png"))) <= {0, 1}


def test_a_bad_file_is_reported_and_the_others_are_done(model: Any, photos: Path, tmp_path: Path):
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "empty.jpg").touch()
    failures = predict_files(model, find_inputs([str(photos)]), tmp_path / "out", write=["labels"])
    assert len(failures) == 2
    assert failures[0].startswith(f"{photos / 'broken.png'}: ")
    assert failures[1].startswith(f"{photos / 'empty.jpg'}: ")
    done = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")}
    assert done == {"labels/a.png", "labels/city/b.png", "legend.png"}


@pytest.mark.parametrize("name", ["x.jp2", "x.gif", "x.avif", "x.png"])
def test_pictures_that_are_not_read_are_named_and_the_others_are_done(
    model: Any, photos: Path, tmp_path: Path, name: str
):
    content = {".jp2": b"\0\0\0\x0cjP  \r\n\x87\n", ".avif": b"\0\0\0\x1cftypavif\0\0\0\0"}
    (photos / name).write_bytes(content.get(Path(name).suffix, b"GIF89a"))
    (failure,) = predict_files(model, find_inputs([str(photos)]), tmp_path / "out")
    assert failure.startswith(f"{photos / name}: is a")
    assert "PNG" in failure
    assert (tmp_path / "out" / "labels" / "a.png").is_file()


def test_an_image_that_needs_more_memory_than_there_is_costs_itself_alone(
    model: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(photos / "large.png")
    monkeypatch.setattr("iccld.models.settings.free_memory", lambda: 1_000_000)
    (failure,) = predict_files(model, find_inputs([str(photos)]), tmp_path / "out")
    assert "large.png: an image of 100×100 pixels needs 1.68 MB of memory" in failure
    assert "1 MB are free" in failure
    assert (tmp_path / "out" / "labels" / "a.png").is_file()


def test_an_image_that_cannot_be_predicted_is_reported_with_its_name(
    model: Any, photos: Path, tmp_path: Path
):
    def predict(*_: Any, **__: Any) -> None:
        raise InputError("window is too large")

    model.predict = predict
    (failure,) = predict_files(model, find_inputs([str(photos / "a.png")]), tmp_path / "out")
    assert failure == f"{photos / 'a.png'}: window is too large"


def test_files_of_an_earlier_run_are_replaced_and_nothing_else_is_left(
    model: Any, photos: Path, tmp_path: Path
):
    out = tmp_path / "out"
    images = find_inputs([str(photos / "a.png")])
    (out / "labels").mkdir(parents=True)
    (out / "labels" / "a.png").write_bytes(b"old")
    predict_files(model, images, out, write=["labels"])
    assert np.array_equal(cv2.imread(str(out / "labels" / "a.png"), cv2.IMREAD_UNCHANGED), LABELS)
    assert [p.name for p in (out / "labels").iterdir()] == ["a.png"]


def test_an_output_folder_that_cannot_be_written_ends_the_work(model: Any, photos: Path, tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out/classes\.json: cannot be written"):
        predict_files(model, find_inputs([str(photos)]), tmp_path / "out")
