"""Regions of label maps, against the point test of matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon

from iccld.models.regions import Region, find_regions, to_coco, to_shapes

NAMES = ("road", "car", "sky")
maps = arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255])
)


def _regions(labels: np.ndarray, **settings: Any) -> list[Region]:
    probabilities = np.linspace(0, 1, 3 * labels.size, dtype=np.float32).reshape(3, *labels.shape)
    return find_regions(labels, probabilities, NAMES, **settings)


def _inside(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    centers = np.stack([columns.ravel(), rows.ravel()], axis=1)
    return Polygon(np.concatenate([ring, ring[:1]])).contains_points(centers).reshape(size)


@given(labels=maps)
def test_pixels_with_centers_inside_the_polygons_are_the_region(labels: np.ndarray) -> None:
    drawn = np.full_like(labels, 255)
    for region in _regions(labels):
        mask = _inside(region.outline, labels.shape)
        for hole in region.holes:
            mask &= ~_inside(hole, labels.shape)
        assert mask.sum() == region.area
        left, top, width, height = region.box
        np.testing.assert_array_equal(mask[top : top + height, left : left + width], region.mask)
        assert (drawn[mask] == 255).all(), "regions do not overlap"
        drawn[mask] = region.class_index
    np.testing.assert_array_equal(drawn, np.where(labels < 3, labels, 255))


@given(labels=maps)
def test_run_lengths_are_those_of_the_region(labels: np.ndarray) -> None:
    regions = _regions(labels)
    coco = to_coco(regions, NAMES, labels.shape, "a.png")
    assert [c["name"] for c in coco["categories"]] == list(NAMES)
    drawn = np.full_like(labels, 255)
    for annotation in coco["annotations"]:
        counts = annotation["segmentation"]["counts"]
        values = np.arange(len(counts)) % 2 == 1
        mask = np.repeat(values, counts).reshape(labels.shape[::-1]).T  # column order
        assert mask.sum() == annotation["area"]
        drawn[mask] = annotation["category_id"] - 1
    np.testing.assert_array_equal(drawn, np.where(labels < 3, labels, 255))


@given(labels=maps)
def test_shapes_drawn_in_order_are_the_label_map(labels: np.ndarray) -> None:
    labels = np.minimum(labels, 2)  # every pixel has a class, so holes are covered by the regions inside them
    drawn = np.full_like(labels, 255)
    shapes = to_shapes(_regions(labels), labels.shape, "a.png")
    for shape in shapes["shapes"]:
        assert len(shape["points"]) >= 4
        drawn[_inside(np.array(shape["points"]), labels.shape)] = NAMES.index(shape["label"])
    np.testing.assert_array_equal(drawn, labels)
    assert (shapes["imageHeight"], shapes["imageWidth"]) == labels.shape


def test_largest_first_and_small_ones_left_out() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[0, 0], labels[4:7, 4:7], labels[5, 5] = 1, 1, 2
    assert [(r.name, r.area, len(r.holes)) for r in _regions(labels)] == [
        ("road", 54, 1),
        ("car", 8, 1),
        ("car", 1, 0),
        ("sky", 1, 0),
    ]
    assert [r.name for r in _regions(labels, min_area=2)] == ["road", "car"]
    (car,) = (r for r in _regions(labels, min_area=2) if r.name == "car")
    expected = np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8)[1][labels == 1]
    assert car.score == pytest.approx(expected[1:].mean())
