"""Supervisely's JSON becomes label maps. The expected pixels are those of Pillow's inclusive polygons."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import SIZE, draw, read_map, save_image, save_json
from PIL import Image, ImageDraw

from iccld.data.foreign.find import find_format
from iccld.errors import InputError

META = {
    "classes": [
        {"title": "road", "shape": "polygon", "color": "#804080"},
        {"title": "car", "shape": "bitmap", "color": "#00008E"},
        {"title": "sky", "shape": "any_shape", "color": "#4682B4"},
    ],
    "tags": [],
}


def packed(mask: np.ndarray, mode: str = "RGBA") -> str:
    """Packs a mask as Supervisely does: a PNG with the mask as alpha channel, or of one bit, compressed, in base64."""
    image = Image.fromarray(mask)
    if mode == "RGBA":
        alpha = Image.fromarray(mask.astype(np.uint8) * 255)
        image = Image.merge("RGBA", [Image.new("L", alpha.size, 255)] * 3 + [alpha])
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def thing(title: str, kind: str, exterior: list[list[float]], *interior: list[list[float]]) -> dict[str, Any]:
    points = {"exterior": exterior, "interior": [*interior]}
    return {"classTitle": title, "geometryType": kind, "points": points, "tags": []}


def bitmap(title: str, data: str, origin: list[int]) -> dict[str, Any]:
    values = {"data": data, "origin": origin}
    return {"classTitle": title, "geometryType": "bitmap", "bitmap": values}


def save(
    root: Path, objects: list[dict[str, Any]], dataset: str = "ds0", size: tuple[int, int] = SIZE
) -> Path:
    save_json(root / "meta.json", META)
    save_image(root / dataset / "img" / "a.jpg")
    value = {"description": "", "size": {"height": size[0], "width": size[1]}, "tags": [], "objects": objects}
    return save_json(root / dataset / "ann" / "a.jpg.json", value)


def filled(*rings: list[list[float]]) -> np.ndarray:
    image = Image.new("L", SIZE[::-1])
    for value, ring in zip((1, 0, 0), rings, strict=False):
        ImageDraw.Draw(image).polygon([(x, y) for x, y in ring], fill=value, outline=value)
    return np.array(image, bool)


@pytest.mark.parametrize("mode", ["RGBA", "1"])
def test_all_kinds_of_shapes(tmp_path: Path, mode: str) -> None:
    mask = np.random.default_rng(0).random((6, 9)) > 0.5
    outer, hole = [[5, 5], [50, 5], [50, 35], [5, 35]], [[10, 10], [20, 10], [20, 20], [10, 20]]
    objects = [
        thing("road", "polygon", outer, hole),
        thing("sky", "rectangle", [[58, 3], [52, 0]]),
        bitmap("car", packed(mask, mode), [1, 30]),
        thing("car", "line", [[1, 1], [5, 5]]),
        thing("car", "polygon", [[1, 1], [5, 5]]),
    ]
    save(tmp_path, objects)
    done = draw(tmp_path)
    expected = np.full(SIZE, 255)
    expected[filled(outer, hole)] = 0
    expected[0:4, 52:59] = 2
    expected[30:36, 1:10][mask] = 1
    np.testing.assert_array_equal(read_map(tmp_path, "train/a.png"), expected)
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["classes"] == ["road", "car", "sky"]
    assert done.guess.meaning.keys["colors"] == [[128, 64, 128], [0, 0, 142], [70, 130, 180]]
    assert done.facts["dropped"] == {
        "polygons with fewer than three points": 1,
        "shapes of the kind 'line'": 1,
    }


def test_datasets_are_splits(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        save(tmp_path, [thing("road", "rectangle", [[0, 0], [9, 9]])], split)
    done = draw(tmp_path)
    assert {k: (v.images, v.labels) for k, v in done.guess.splits.items()} == {
        "train": ("train/img/*.jpg", "iccld_labels/train/*.png"),
        "val": ("validation/img/*.jpg", "iccld_labels/val/*.png"),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [bitmap("car", "no base64!", [0, 0])]}, "is not a compressed PNG"),
        ({"objects": [bitmap("car", base64.b64encode(b"x" * 99).decode(), [0, 0])]}, "is not a compressed PNG"),
        ({"objects": [bitmap("car", base64.b64encode(zlib.compress(b"x")).decode(), [0, 0])]}, "is not a PNG"),
        ({"objects": [bitmap("car", packed(np.ones((2, 2), bool)), [0])]}, "no finite x, y pairs"),
        ({"objects": [thing("car", "rectangle", [[0, 0]])]}, "has 1 points instead of 2"),
        ({"objects": [thing("car", "polygon", [[0, 0], [1e300, 0], [0, 9]])]}, "has a point at"),
        ({"objects": [thing("car", "polygon", [[0, 0], [40000, 0], [0, 9]])]}, "has a point at"),
        ({"objects": [{"geometryType": "polygon"}]}, "classTitle = "),
        ({"objects": {}}, "objects = "),
        ({"size": 3}, "size = 3"),
        ({"size": {"height": -1, "width": 4}}, "has the size"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(tmp_path, [])
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as error:
        draw(tmp_path)
    assert "\n" not in str(error.value)


def test_a_bomb_ends_in_bounded_memory(tmp_path: Path) -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 30), 9)).decode()
    save(tmp_path, [bitmap("car", bomb, [0, 0])])
    with pytest.raises(InputError, match="is not a PNG"):
        draw(tmp_path)


def test_the_format_is_found(tmp_path: Path) -> None:
    save(tmp_path, [thing("road", "rectangle", [[0, 0], [9, 9]])])
    found = find_format(tmp_path)
    assert found is not None
    assert found.title == "Supervisely's JSON"
