"""YOLO's segmentation labels become label maps, whatever form ``data.yaml`` has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_files import SIZE, draw, polygon, read_map, save_image

from iccld.data.foreign.coco import BOXES
from iccld.data.foreign.find import find_format
from iccld.data.foreign.yaml_subset import read_yaml
from iccld.data.foreign.yolo import NO_FILE
from iccld.errors import InputError

ULTRALYTICS = """\
# Ultralytics AGPL-3.0 License
path: ../datasets/crack-seg # dataset root dir
train: images/train # train images (relative to 'path')
val: images/val
test: # test images (optional)

# Classes
names:
  0: crack
  1: "road # wet"

download: |
  https://example.org/names: [x].zip
"""
ROBOFLOW = """\
train: ../images/train
val: ../images/val
test: ../test/images

nc: 2
names: ['crack', 'road # wet']

roboflow:
  workspace: me
  names: [other]
"""
DUMPED = "names:\n- crack\n- 'road # wet'\nnc: 2\ntrain: images/train\nval: images/val\n"
FLOW = "names: {0: crack,\n  1: 'road # wet'}\ntrain: [images/train]\nval: images/val/\n"
POINTS = [(6.0, 4.0), (54.0, 8.0), (30.0, 36.0)]
LINE = " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in POINTS)


def make(root: Path, yaml: str, lines: str) -> Path:
    save_image(root / "images/train/a.jpg")
    save_image(root / "images/val/b.jpg")
    for name, text in (("train/a", lines), ("val/b", f"0 {LINE}\n")):
        path = root / f"labels/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "data.yaml").write_text(yaml)
    return root


@pytest.mark.parametrize(
    "yaml", [ULTRALYTICS, ROBOFLOW, DUMPED, FLOW], ids=["ultralytics", "roboflow", "dumped", "flow"]
)
def test_polygons_are_drawn_and_boxes_are_counted(yaml: str, tmp_path: Path) -> None:
    done = draw(make(tmp_path, yaml, f"1 {LINE}\n0 0.5 0.5 0.2 0.2\n\n"))
    np.testing.assert_array_equal(read_map(tmp_path, "train/a.png"), np.where(polygon(POINTS), 1, 255))
    np.testing.assert_array_equal(read_map(tmp_path, "val/b.png"), np.where(polygon(POINTS), 0, 255))
    assert done.facts["dropped"] == {BOXES: 1}
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["classes"] == ["crack", "road # wet"]
    assert done.guess.splits["train"].images == "images/train/*.jpg"
    assert done.guess.splits["train"].list is None


def test_a_bridge_to_a_hole_and_back_leaves_the_hole_empty(tmp_path: Path) -> None:
    outer = [(3.0, 3.0), (50.0, 3.0), (50.0, 35.0), (3.0, 35.0)]
    hole = [(10.0, 10.0), (10.0, 20.0), (30.0, 20.0), (30.0, 10.0)]
    merged = [*outer, outer[0], *hole, hole[0], outer[0]]
    line = " ".join(f"{x / SIZE[1]!r} {y / SIZE[0]!r}" for x, y in merged)
    draw(make(tmp_path, DUMPED, f"0 {line}"))
    expected = polygon(outer) & ~polygon(hole)
    np.testing.assert_array_equal(read_map(tmp_path, "train/a.png") == 0, expected)


def test_images_without_labels_are_left_out_or_background(tmp_path: Path) -> None:
    save_image(make(tmp_path, DUMPED, f"0 {LINE}") / "images/train/bare.jpg")
    done = draw(tmp_path)
    assert done.facts["dropped"] == {NO_FILE: 1, "images without a shape that can be drawn": 1}
    assert not (tmp_path / "iccld_labels/train/bare.png").exists()
    again = draw(tmp_path, unlabeled="background")
    assert (read_map(tmp_path, "train/bare.png") == 0).all()
    assert again.guess.meaning is not None
    assert again.guess.meaning.keys["classes"] == ["background", "crack", "road # wet"]
    draw(tmp_path)  # removes the map that does not belong to the data set any more
    assert not (tmp_path / "iccld_labels/train/bare.png").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 " + LINE, r"a\.txt: line 1: class 2 is not in names \(2 classes\)"),
        ("-1 " + LINE, "class -1 is not in names"),
        ("0.5 " + LINE, "class 0.5 is not in names"),
        ("0 nan 0.5 0.5 0.5 0.1 0.1", "no class id with coordinates"),
        ("0 0.5 0.5", "no class id with coordinates"),
        ("0 0.1 0.1 0.5 0.5 0.1", "not x y pairs"),
        ("0 10 10 300 10 300 200", "export the labels as normalized polygons"),
        ("crack 0.1 0.1 0.5 0.5 0.1 0.2", "a word that is no number"),
    ],
)
def test_bad_lines_are_named(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw(make(tmp_path, DUMPED, line))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [a, b]\ntrain: ../../elsewhere\n", "leads out of the folder"),
        ("names: [a, b]\ntrain: images/none\n", "none of its paths"),
        ("names: &x [a, b]\ntrain: images/train\n", "names cannot be read"),
        ("names: *x\ntrain: images/train\n", "names cannot be read"),
        ("names: !!python/object:os.system [a]\ntrain: images/train\n", "names cannot be read"),
        ("names: [a, [b]]\ntrain: images/train\n", "names cannot be read"),
        ("names: [a, b\ntrain: images/train\n", "names cannot be read"),
        ("names: {0: a, 2: b}\ntrain: images/train\n", "number the classes in order"),
        ("names: [a, a]\nnames: [b]\ntrain: images/train\n", "'names' twice"),
        ("names:\ntrain: images/train\n", "names no classes"),
        ("names: [a]\nkpt_shape: [17, 3]\ntrain: images/train\n", "key points"),
    ],
)
def test_bad_yaml_is_one_line(yaml: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw(make(tmp_path, yaml, f"0 {LINE}"))
    assert "data.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "it's", "a b", "x#y", "http://x", "a, b", "[x]"])
def test_quoted_names_agree_with_a_yaml_library(name: str, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for style in (None, False):
        text = yaml.safe_dump({"names": [name, "other"], "nc": 2}, default_flow_style=style)
        (tmp_path / "data.yaml").write_text(text)
        assert read_yaml(tmp_path / "data.yaml", ("names",))["names"] == yaml.safe_load(text)["names"], text


def test_lists_of_images(tmp_path: Path) -> None:
    make(tmp_path, "names: [a]\ntrain: train.txt\n", f"0 {LINE}")
    (tmp_path / "train.txt").write_text("./images/train/a.jpg\n")
    assert list(draw(tmp_path).guess.splits) == ["train"]
    (tmp_path / "train.txt").write_text("../a.jpg\n")
    with pytest.raises(InputError, match="is no image of the folder"):
        draw(tmp_path)


def test_a_yaml_file_without_label_files_is_no_data_set(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: images\n")
    assert find_format(tmp_path) is None
    (tmp_path / "data.yaml").write_text("names: [a]\n" * 200_000)  # too large for a data.yaml
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"0 {LINE}")
    assert find_format(tmp_path) is None
