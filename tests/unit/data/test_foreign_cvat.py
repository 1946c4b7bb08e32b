"""The XML of 'CVAT for images 1.1' and the JSON of Label Studio become label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import SIZE, brush, draw, polygon, read_map, run_lengths, save_image, save_json

from iccld.errors import InputError

POINTS = [(5.0, 5.0), (50.5, 8.0), (20.0, 35.0)]
TEXT = ";".join(f"{x:.2f},{y:.2f}" for x, y in POINTS)
CAR, ROAD = 0, 1
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id><name>streets</name><size>1</size><mode>annotation</mode><subset>Validation</subset>
      <labels>
        <label><name>car</name><color>#ff0102</color><type>any</type><attributes></attributes></label>
        <label><name>road</name><color>#804080</color><type>any</type><attributes></attributes></label>
      </labels>
    </task>
    <dumped>2024-05-01 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="{name}" subset="{subset}" task_id="4" width="{width}" height="{height}">
    {shapes}
  </image>
</annotations>
"""


def save(
    root: Path, shapes: str, name: str = "a.jpg", subset: str = "Validation", width: int = SIZE[1]
) -> Path:
    save_image(root / "images/a.jpg")
    path = root / "annotations.xml"
    path.write_text(XML.format(shapes=shapes, name=name, subset=subset, width=width, height=SIZE[0]))
    return path


def test_shapes_in_the_order_of_z(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((7, 11)) > 0.5
    rle = ", ".join(map(str, run_lengths(mask, "C")))
    shapes = f"""
    <polygon label="car" source="manual" occluded="0" points="{TEXT}" z_order="2">
      <attribute name="a">1</attribute></polygon>
    <box label="road" source="manual" occluded="0" xtl="0.0" ytl="0.0" xbr="60.0" ybr="20.0" z_order="1"></box>
    <mask label="road" source="semi-auto" occluded="0" rle="{rle}"
      left="48" top="32" width="11" height="7" z_order="3"></mask>
    <ellipse label="car" source="manual" occluded="0" cx="6.0" cy="32.0" rx="4.0" ry="2.0" z_order="0"></ellipse>
    <polyline label="car" source="manual" occluded="0" points="1,1;2,2" z_order="0"></polyline>
    <points label="car" source="manual" occluded="0" points="1,1" z_order="0"></points>
    <tag label="car" source="manual"></tag>
    """
    save(tmp_path, shapes)
    done = draw(tmp_path)
    expected = np.full(SIZE, 255)
    for row, column in np.ndindex(*SIZE):
        if ((column + 0.5 - 6) / 4) ** 2 + ((row + 0.5 - 32) / 2) ** 2 < 1:
            expected[row, column] = CAR
    expected[:20] = ROAD
    expected[polygon(POINTS)] = CAR
    expected[32:39, 48:59][mask] = ROAD
    np.testing.assert_array_equal(read_map(tmp_path, "val/a.png"), expected)
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["colors"] == [[255, 1, 2], [128, 64, 128]]
    assert done.facts["dropped"] == {
        f"shapes of the kind {kind!r}": 1 for kind in ("points", "polyline", "tag")
    }


def test_rotated_boxes_turn_clockwise(tmp_path: Path) -> None:
    save(tmp_path, '<box label="car" xtl="10" ytl="18" xbr="50" ybr="22" rotation="30" z_order="0"></box>')
    draw(tmp_path)
    rows, columns = np.nonzero(read_map(tmp_path, "val/a.png") == CAR)
    slope = np.polyfit(columns, rows, 1)[0]
    assert slope == pytest.approx(np.tan(np.pi / 6), abs=0.05)  # rows grow downwards
    assert len(rows) == pytest.approx(160, abs=6)


POLYGON = f'<polygon label="car" points="{TEXT}" z_order="0"></polygon>'


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ('<polygon label="dog" points="1,1;2,2;3,3" z_order="0"/>', "label 'dog' is not in its list"),
        ('<polygon label="car" points="1,1;2;3,3" z_order="0"/>', "no x,y pairs"),
        ('<polygon label="car" points="nan,1;2,2;3,3" z_order="0"/>', "'nan' is no finite number"),
        ('<box label="car" xtl="1" ytl="1" xbr="2" z_order="0"/>', "'' is no finite number"),
        (
            '<mask label="car" rle="3, 4" left="0" top="0" width="5" height="5" z_order="0"/>',
            "add up to 7 pixels",
        ),
        (
            '<mask label="car" rle="3, x" left="0" top="0" width="5" height="5" z_order="0"/>',
            "'x' is no finite",
        ),
        (
            '<mask label="car" rle="9" left="0" top="0" width="-3" height="-3" z_order="0"/>',
            "has the size -3×-3",
        ),
        ('<polygon label="car" points="1,1;2,2;3,3" z_order="1.5"/>', "is no whole number"),
        ("<polygon", "is no valid XML"),
        ("<a>" * 100_000, "nested too deeply"),
    ],
)
def test_bad_shapes_are_one_line(shapes: str, message: str, tmp_path: Path) -> None:
    save(tmp_path, shapes)
    with pytest.raises(InputError, match=message) as caught:
        draw(tmp_path)
    assert "annotations.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!doctype x SYSTEM "http://example.org/x.dtd">',
    ],
)
def test_entities_are_refused(dtd: str, tmp_path: Path) -> None:
    path = save(tmp_path, POLYGON)
    start, rest = path.read_text().split("\n", 1)
    path.write_text(f"{start}\n{dtd}\n{rest}")
    with pytest.raises(InputError, match="DOCTYPE or entities, which are not read"):
        draw(tmp_path)
    path.write_bytes(path.read_text().replace("utf-8", "utf-16").encode("utf-16"))
    from iccld.data.foreign.reading import elements

    with pytest.raises(InputError, match="is no XML in UTF-8"):
        list(elements(path))


def test_images_outside_are_refused_and_others_counted(tmp_path: Path) -> None:
    save(tmp_path, POLYGON, "../../secret.jpg")
    with pytest.raises(InputError, match="leads out of the folder"):
        draw(tmp_path)
    save(tmp_path, POLYGON, "../../a.jpg")  # an image of this name lies in the folder
    draw(tmp_path)
    save(tmp_path, POLYGON, "gone.jpg")
    with pytest.raises(
        InputError, match="1 annotations for missing images, 1 images that are listed but missing"
    ):
        draw(tmp_path)
    save(tmp_path, POLYGON, width=61)
    with pytest.raises(InputError, match="1 images of another size"):
        draw(tmp_path)


def result(kind: str, value: dict[str, Any], label: str = "car") -> dict[str, Any]:
    origin = {"from_name": "label", "to_name": "image", "type": kind, "origin": "manual", "id": "qX1"}
    sizes = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return sizes | {"value": value | {kind: [label]}} | origin


def save_task(root: Path, results: list[dict[str, Any]], image: str = "/data/upload/1/7f-a.jpg") -> None:
    annotation = {
        "id": 1,
        "completed_by": 1,
        "result": results,
        "was_cancelled": False,
        "ground_truth": False,
    }
    task = {
        "id": 12,
        "annotations": [annotation],
        "file_upload": "7f-a.jpg",
        "drafts": [],
        "data": {"image": image},
    }
    save_json(root / "project-1.json", [task])


def test_label_studio(tmp_path: Path) -> None:
    save_image(tmp_path / "images/7f-a.jpg")
    mask = np.random.default_rng(1).random(SIZE) > 0.8
    mask[:, 30:] = False
    percent = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in POINTS]
    results = [
        result("polygonlabels", {"points": percent, "closed": True}, "road"),
        result("brushlabels", {"format": "rle", "rle": brush(mask)}),
        result("rectanglelabels", {"x": 75.0, "y": 75.0, "width": 10.0, "height": 20.0, "rotation": 0}),
        result("keypointlabels", {"x": 1, "y": 1, "width": 1}),
    ]
    save_task(tmp_path, results)
    done = draw(tmp_path)
    expected = np.where(polygon(POINTS), ROAD, 255)
    expected[mask] = CAR
    expected[30:38, 45:51] = CAR
    np.testing.assert_array_equal(read_map(tmp_path, "train/7f-a.png"), expected)
    assert done.facts["dropped"] == {"shapes of the kind 'keypointlabels'": 1}


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        (brush(np.ones(SIZE))[:9], "is cut off"),
        (brush(np.ones((2, 2))), "has 16 values"),
        ([1, 2, 300], "not a list of bytes"),
        (None, "not a list of bytes"),
    ],
)
def test_bad_brushes_are_one_line(rle: Any, message: str, tmp_path: Path) -> None:
    save_image(tmp_path / "images/7f-a.jpg")
    save_task(tmp_path, [result("brushlabels", {"format": "rle", "rle": rle})])
    with pytest.raises(InputError, match=message):
        draw(tmp_path)
