"""COCO files compared with pycocotools, an independent implementation of the format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from foreign_files import SIZE, coco, draw, read_map, save_image, save_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from iccld.models.regions import find_regions, to_coco

NAMES = ("road", "car", "sky")
# pycocotools 2.0.11 converts its arrays in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _drawn(folder: Path, annotations: list[dict[str, Any]]) -> np.ndarray:
    save_image(folder / "train" / "a.jpg")
    save_json(folder / "instances.json", coco(["train/a.jpg"], annotations))
    draw(folder)
    return read_map(folder, "train/a.png") != 255


@given(mask=arrays(bool, SIZE))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest.mark.parametrize("form", ["text", "list"])
def test_masks_of_pycocotools_are_read_exactly(
    mask: np.ndarray, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mask[0, 0] = True  # an image without labels is left out
    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    encoded["counts"] = encoded["counts"].decode()
    if form == "list":
        flat = np.concatenate([[0], mask.ravel(order="F"), [2]]).astype(int)
        counts = np.diff([0, *np.flatnonzero(np.diff(flat))]).tolist()
        encoded["counts"] = counts
        repacked = coco_mask.frPyObjects({"size": list(SIZE), "counts": counts}, *SIZE)
        np.testing.assert_array_equal(coco_mask.decode(repacked), mask)
    folder = tmp_path_factory.mktemp("coco")
    np.testing.assert_array_equal(_drawn(folder, [{"segmentation": encoded}]), mask)


@given(
    corners=st.lists(
        st.tuples(st.floats(0, SIZE[1], width=32), st.floats(0, SIZE[0], width=32)), min_size=3, max_size=3
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_polygons_differ_from_pycocotools_only_at_the_border(
    corners: list[tuple[float, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    points = [*corners, (0, 0), (8, 0), (8, 8), (0, 8)]  # the square keeps the image from being empty
    polygons = [[float(v) for p in part for v in p] for part in (points[:3], points[3:])]
    ours = _drawn(tmp_path_factory.mktemp("coco"), [{"segmentation": [p]} for p in polygons])
    theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE))).astype(bool)
    border = np.zeros(SIZE, np.uint8)
    for polygon in polygons:
        outline = np.round(np.reshape(polygon, (-1, 1, 2)) * 16 - 8).astype(np.int32)
        cv2.polylines(border, [outline], True, 1, thickness=3, shift=4)
    np.testing.assert_array_equal(ours[border == 0], theirs[border == 0])


@given(labels=arrays(np.uint8, (13, 17), elements=st.sampled_from([0, 1, 2, 255])))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pycocotools_reads_our_masks_exactly(
    labels: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    regions = find_regions(labels, None, NAMES)
    path = tmp_path_factory.mktemp("coco") / "masks.json"
    path.write_text(json.dumps(to_coco(regions, NAMES, labels.shape, "a.png")))
    data = COCO(str(path))
    assert [entry["name"] for entry in data.loadCats(data.getCatIds())] == list(NAMES)
    read = np.full(labels.shape, 255)
    for annotation in data.loadAnns(data.getAnnIds(imgIds=1)):
        mask = data.annToMask(annotation).astype(bool)
        assert mask.sum() == annotation["area"]
        box = coco_mask.toBbox(data.annToRLE(annotation))
        assert box.tolist() == annotation["bbox"]
        assert (read[mask] == 255).all(), "regions do not overlap"
        read[mask] = annotation["category_id"] - 1
    np.testing.assert_array_equal(read, labels)
