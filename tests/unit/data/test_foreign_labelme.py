"""labelme's JSON becomes label maps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import SIZE, draw, png_base64, polygon, read_map, save_image, save_json

from iccld.data.foreign.find import find_format
from iccld.errors import InputError

POINTS = [(5.0, 5.0), (50.5, 8.0), (20.0, 35.0)]


def shape(label: str, kind: str, points: list[Any], **more: Any) -> dict[str, Any]:
    rest = {"group_id": None, "description": "", "shape_type": kind, "flags": {}, "mask": None}
    return {"label": label, "points": points} | rest | more


def save(
    path: Path, shapes: list[dict[str, Any]], image: str = "a.jpg", size: tuple[int, int] = SIZE
) -> Path:
    sizes = {"imageHeight": size[0], "imageWidth": size[1]}
    rest = {"imagePath": image, "imageData": None}
    return save_json(path, {"version": "5.5.0", "flags": {}, "shapes": shapes} | rest | sizes)


def test_all_kinds_of_shapes(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    mask = np.random.default_rng(0).random((6, 9)) > 0.5
    shapes = [
        shape("road", "polygon", [list(p) for p in POINTS]),
        shape("car", "rectangle", [[40.0, 38.0], [30.0, 30.0]]),
        shape("sign", "circle", [[50.0, 20.0], [53.0, 24.0]]),
        shape("car", "mask", [[1.0, 30.0], [9.0, 35.0]], mask=png_base64(mask)),
        shape("__ignore__", "polygon", [[0, 0], [4, 0], [4, 4], [0, 4]]),
        shape("car", "linestrip", [[1, 1], [2, 2]]),
        shape("car", "point", [[1, 1]]),
        shape("car", "polygon", [[1, 1], [2, 2]]),
    ]
    save(tmp_path / "a.json", shapes)
    done = draw(tmp_path, unlabeled="background")
    background, car, road, sign = range(4)
    expected = np.full(SIZE, background)
    expected[polygon(POINTS)] = road
    expected[30:38, 30:40] = car
    for row, column in np.ndindex(*SIZE):
        if math.hypot(column + 0.5 - 50, row + 0.5 - 20) < 5:
            expected[row, column] = sign
    expected[30:36, 1:10][mask] = car
    expected[:4, :4] = 255
    np.testing.assert_array_equal(read_map(tmp_path, "train/a.png"), expected)
    assert done.facts["dropped"] == {
        "polygons with fewer than three points": 1,
        "shapes of the kind 'linestrip'": 1,
        "shapes of the kind 'point'": 1,
    }


def test_files_in_another_folder_and_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save_image(tmp_path / split / "img/a.jpg")
        save(
            tmp_path / split / "ann/a.json",
            [shape(split, "polygon", [list(p) for p in POINTS])],
            "..\\img\\a.jpg",
        )
    done = draw(tmp_path)
    assert {k: (v.images, v.labels) for k, v in done.guess.splits.items()} == {
        "train": ("train/img/*.jpg", "iccld_labels/train/*.png"),
        "val": ("val/img/*.jpg", "iccld_labels/val/*.png"),
    }
    np.testing.assert_array_equal(read_map(tmp_path, "val/a.png") == 1, polygon(POINTS))


def test_exif_rotation(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is shown after a turn by 90° clockwise
    Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "a.jpg", exif=exif)
    corner = shape("x", "rectangle", [[0, 0], [10, 5]])
    save(tmp_path / "a.json", [corner])
    draw(tmp_path)
    labels = read_map(tmp_path, "train/a.png")
    assert labels.shape == SIZE[::-1]
    assert (labels[:10, -5:] == 0).all()
    assert (labels == 0).sum() == 50
    save(tmp_path / "a.json", [corner], size=(SIZE[1], SIZE[0]))
    draw(tmp_path)
    assert (read_map(tmp_path, "train/a.png")[:5, :10] == 0).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("x", "mask", [[1, 1], [4, 4]], mask="no base64!"), "is not base64"),
        (shape("x", "mask", [[1, 1], [4, 4]], mask="AAAA"), "not a PNG"),
        (shape("x", "mask", [[1, 1], [4, 4]], mask=png_base64(np.ones((5, 5)))), "5×5 pixels does not fit"),
        (shape("x", "mask", [[1, 1], [4, 4]]), "mask = None must be a text"),
        (shape("x", "circle", [[1, 1]]), "1 points instead of 2"),
        (shape("x", "polygon", [[1, 1], [2, float("inf")], [3, 3]]), "not finite"),
        (shape("x", "polygon", [[1, 1], [2], [3, 3]]), "no finite x, y pairs"),
        (shape("x", "polygon", "points"), "points = 'points' must be a list"),  # type: ignore[arg-type]
        (shape(7, "polygon", [[1, 1]]), "label = 7 must be a text"),  # type: ignore[arg-type]
    ],
)
def test_bad_shapes_are_one_line(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    save(tmp_path / "a.json", [bad])
    with pytest.raises(InputError, match=message) as caught:
        draw(tmp_path)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_far_points_are_dropped_and_outside_paths_are_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "data/a.jpg")
    far = shape("x", "polygon", [[1, 1], [1e300, 2], [3, 3]])
    save(tmp_path / "data/a.json", [far, shape("x", "polygon", [list(p) for p in POINTS])])
    assert draw(tmp_path / "data").facts["dropped"] == {
        "shapes with coordinates of more than a million pixels": 1
    }
    save(tmp_path / "data/a.json", [far], "../../etc/passwd")
    with pytest.raises(InputError, match="leads out of the folder"):
        draw(tmp_path / "data")


def test_other_json_files_are_no_annotations(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    (tmp_path / "settings.json").write_text(json.dumps({"shapes": 3}))
    assert find_format(tmp_path) is None
