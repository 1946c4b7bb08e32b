"""COCO's instances, stuff and panoptic annotations, and Roboflow's folders, become label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_data import save_rgb
from foreign_files import SIZE, coco, compressed, draw, polygon, read_map, run_lengths, save_image, save_json

from iccld.data.foreign.coco import BOXES, CROWDS, NO_POINTS
from iccld.data.foreign.raster import EMPTY
from iccld.errors import InputError

CAR, ROAD = 0, 1
OUTER = [(4.0, 3.0), (40.3, 5.2), (35.7, 30.1), (8.0, 33.4)]
HOLE = [(12.0, 10.0), (25.0, 10.0), (25.0, 20.0), (12.0, 20.0)]
APART = [(45.0, 30.0), (58.0, 31.0), (50.0, 39.0)]


def flat(points: list[tuple[float, float]]) -> list[float]:
    return [value for point in points for value in point]


def test_polygons_holes_and_order(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    ring = {"segmentation": [flat(APART), flat(HOLE), flat(OUTER)], "category_id": 7}
    save_json(
        tmp_path / "annotations/instances_train2017.json",
        coco(["a.jpg"], [ring, {"segmentation": [flat(APART)]}]),
    )
    done = draw(tmp_path)
    labels = read_map(tmp_path, "train/a.png")
    expected = np.full(SIZE, 255)
    expected[(polygon(OUTER) & ~polygon(HOLE))] = ROAD
    expected[polygon(APART)] = CAR  # the second annotation covers the first
    np.testing.assert_array_equal(labels, expected)
    assert done.facts["unlabeled"] == pytest.approx((expected == 255).mean(), abs=1e-5)
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["classes"] == ["car", "road"]


@pytest.mark.parametrize("kind", ["list", "text"])
def test_run_lengths(kind: str, tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    mask = np.random.default_rng(4).random(SIZE) > 0.6
    mask[:, 20:45] = False
    mask[5:35, 48:52] = True
    counts = run_lengths(mask)
    segmentation = {"size": list(SIZE), "counts": counts if kind == "list" else compressed(counts)}
    save_json(tmp_path / "x.json", coco(["a.jpg"], [{"segmentation": segmentation}]))
    draw(tmp_path)
    np.testing.assert_array_equal(read_map(tmp_path, "train/a.png"), np.where(mask, CAR, 255))


def test_crowds_are_ignored_and_drawn_first(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    crowd = np.zeros(SIZE, bool)
    crowd[:20] = True
    whole = {"segmentation": [[0, 0, 60, 0, 60, 10, 0, 10]], "category_id": 7}
    many = {"segmentation": {"size": list(SIZE), "counts": run_lengths(crowd)}, "iscrowd": 1}
    save_json(tmp_path / "x.json", coco(["a.jpg"], [whole, many]))
    done = draw(tmp_path, unlabeled="background")
    labels = read_map(tmp_path, "train/a.png")
    assert (labels[:10] == 2).all()
    assert (labels[10:20] == 255).all()
    assert (labels[20:] == 0).all()
    assert done.facts["dropped"] == {CROWDS: 1}
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["classes"] == ["background", "car", "road"]


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    for name in "abc":
        save_image(tmp_path / f"{name}.jpg")
    save_image(tmp_path / "small.jpg", (20, 20))
    boxes = [
        {"segmentation": []},
        {"segmentation": [[1, 1, 5, 5]]},
        {"segmentation": [[70, 1, 90, 1, 90, 9]]},
    ]
    real = {"segmentation": [flat(OUTER)]}
    lost = [{"image_id": 3, "segmentation": [flat(HOLE)]}, {"image_id": 99, "segmentation": [flat(HOLE)]}]
    other = [{"image_id": 4, "segmentation": [flat(HOLE)]}]
    save_json(
        tmp_path / "x.json", coco(["a.jpg", "b.jpg", "gone.jpg", "small.jpg"], [*boxes, real, *lost, *other])
    )
    done = draw(tmp_path)
    assert done.facts["images"] == 1
    assert done.facts["dropped"] == {
        BOXES: 1,
        NO_POINTS: 1,
        EMPTY: 1,
        "annotations for images that are not listed": 1,
        "annotations for missing images": 1,
        "images of another size than in their annotations": 1,
        "images that are listed but missing": 1,
        "images without a shape that can be drawn": 1,
    }
    assert done.guess.splits["train"].list == "iccld_labels/train.txt"
    assert (tmp_path / "iccld_labels/train.txt").read_text() == "a.jpg\n"


def test_roboflow_folders(tmp_path: Path) -> None:
    for split, name in (("train", "1_jpg.rf.ab.jpg"), ("valid", "2_jpg.rf.cd.jpg")):
        save_image(tmp_path / split / name)
        value = coco([name], [{"segmentation": [flat(OUTER)], "category_id": 7}])
        value["categories"].insert(0, {"id": 0, "name": "street-things", "supercategory": "none"})
        for category in value["categories"][1:]:
            category["supercategory"] = "street-things"
        save_json(tmp_path / split / "_annotations.coco.json", value)
    done = draw(tmp_path)
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["classes"] == ["car", "road"]
    assert {split: entry.images for split, entry in done.guess.splits.items()} == {
        "train": "train/*.jpg",
        "val": "valid/*.jpg",
    }
    np.testing.assert_array_equal(read_map(tmp_path, "val/2_jpg.rf.cd.png") == ROAD, polygon(OUTER))


def test_stuff_lies_below_instances(tmp_path: Path) -> None:
    save_image(tmp_path / "val2017/000000000139.jpg")
    names = ["000000000139.jpg"]
    thing, stuff = {"segmentation": [flat(HOLE)]}, {"segmentation": [flat(OUTER)], "category_id": 7}
    save_json(tmp_path / "annotations/instances_val2017.json", coco(names, [thing]))
    save_json(tmp_path / "annotations/stuff_val2017.json", coco(names, [stuff]))
    save_json(
        tmp_path / "annotations/captions_val2017.json", {"images": [], "annotations": [{"caption": "x"}]}
    )
    draw(tmp_path)
    labels = read_map(tmp_path, "val/000000000139.png")
    expected = np.where(polygon(HOLE), CAR, np.where(polygon(OUTER), ROAD, 255))
    np.testing.assert_array_equal(labels, expected)


def test_panoptic(tmp_path: Path) -> None:
    save_image(tmp_path / "val2017/1.jpg")
    ids = np.zeros(SIZE, np.uint32)
    ids[:10], ids[10:20], ids[20:30], ids[30:35] = 70_000, 300, 9, 5
    channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)
    save_rgb(tmp_path / "annotations/panoptic_val2017/1.png", channels)
    infos = [(70_000, 1, 0), (300, 5, 0), (9, 1, 1)]
    segments = [
        {"id": i, "category_id": c, "iscrowd": crowd, "bbox": [0, 0, 1, 1], "area": 1}
        for i, c, crowd in infos
    ]
    value = {
        "info": {},
        "licenses": [],
        "images": [{"id": 1, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60], "supercategory": "person"},
            {"id": 5, "name": "sky-other", "isthing": 0, "color": [1, 2, 3], "supercategory": "sky"},
        ],
    }
    save_json(tmp_path / "annotations/panoptic_val2017.json", value)
    done = draw(tmp_path)
    labels = read_map(tmp_path, "val/1.png")
    assert [np.unique(labels[a:b]).tolist() for a, b in ((0, 10), (10, 20), (20, 40))] == [[0], [1], [255]]
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["colors"] == [[220, 20, 60], [1, 2, 3]]
    assert done.facts["dropped"] == {CROWDS: 1, "segments of PNG files that are not listed": 1}


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"segmentation": {"size": list(SIZE), "counts": [5, 7]}}, "add up to 12 pixels"),
        ({"segmentation": {"size": list(SIZE), "counts": [-5, 2405]}}, "whole numbers from 0"),
        ({"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}, "too many"),
        ({"segmentation": {"size": [20, 20], "counts": [100, 300]}}, "20×20 pixels, but the image 60×40"),
        ({"segmentation": {"size": list(SIZE), "counts": "0ooooooooooooooooo"}}, "damaged"),
        ({"segmentation": {"size": list(SIZE), "counts": "0o"}}, "cut off"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "no finite x, y pairs"),
        ({"segmentation": [["1", "2"]]}, "no finite x, y pairs"),
        ({"segmentation": [[1, float("nan"), 3, 4, 5, 6]]}, "not finite"),
        ({"segmentation": 7}, "no polygon and no mask"),
        ({"segmentation": [flat(OUTER)], "category_id": 4}, "category_id 4 is not in categories"),
        ({"segmentation": [flat(OUTER)], "image_id": None}, "image_id"),
    ],
)  # fmt: skip
def test_bad_annotations_are_one_line(annotation: dict[str, object], message: str, tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    save_json(tmp_path / "x.json", coco(["a.jpg"], [annotation]))
    with pytest.raises(InputError, match=message) as caught:
        draw(tmp_path)
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.jpg", "..\\secret.jpg", "images/../../secret.jpg"])
def test_images_outside_are_refused(name: str, tmp_path: Path) -> None:
    save_image(tmp_path / "secret.jpg")
    save_image(tmp_path / "data/a.jpg")
    save_json(tmp_path / "data/x.json", coco([name], [{"segmentation": [flat(OUTER)]}]))
    with pytest.raises(InputError, match="leads out of the folder"):
        draw(tmp_path / "data")
    assert not (tmp_path / "data/iccld_labels").exists()


def test_truncated_json_is_one_line(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    path = save_json(tmp_path / "x.json", coco(["a.jpg"], [{"segmentation": [flat(OUTER)]}]))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"x\.json: is not JSON .*; export the annotations anew"):
        draw(tmp_path)


def test_huge_sizes_are_refused_before_memory_is_allocated(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    save_json(tmp_path / "x.json", coco(["a.jpg"], [{"segmentation": [flat(OUTER)]}], (10**9, 10**9)))
    with pytest.raises(InputError, match=r"no shape that can be drawn.*1 images of another size"):
        draw(tmp_path)


def test_shapes_with_endless_overlaps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iccld.data.foreign.raster._MOST_WORK", 10_000)
    save_image(tmp_path / "a.jpg")
    save_json(tmp_path / "x.json", coco(["a.jpg"], [{"segmentation": [[0, 0, 60, 0, 60, 40, 0, 40]]}] * 5))
    with pytest.raises(InputError, match="too many points or pixels"):
        draw(tmp_path)
