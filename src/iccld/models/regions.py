"""Connected regions of label maps as polygons, for annotation tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

Ring = Float[np.ndarray, "_ 2"]


@dataclass(frozen=True)
class Region:
    """Connected region of one class. Pixels that touch only at a corner count as connected.

    Polygons are arrays of (x, y) in pixels. The origin is the upper left corner of the image, so the center of the
    first pixel is (0.5, 0.5). Polygons run a quarter of a pixel inside the border of the region. The pixels whose
    centers lie inside of ``outline`` and outside of all ``holes`` are exactly the pixels of the region.

    Attributes:
        class_index: Index of the class.
        name: Name of the class.
        outline: Outer polygon.
        holes: Polygons around the holes of the region.
        box: Left, top, width and height of the bounding box in pixels.
        area: Number of pixels.
        score: Mean probability of the class in the region.
        mask: Mask of the region's pixels. It has the size of the bounding box.
    """

    class_index: int
    name: str
    outline: Ring
    holes: tuple[Ring, ...]
    box: tuple[int, int, int, int]
    area: int
    score: float
    mask: Bool[np.ndarray, "h w"]


def outer_first(regions: Sequence[Region]) -> list[Region]:
    """Sorts regions by the area inside of their outlines, so that a region comes before the regions in its holes."""
    return sorted(regions, key=lambda region: -cv2.contourArea(region.outline.astype(np.float32)))


def find_regions(
    labels: UInt8[np.ndarray, "h w"],
    probabilities: Float32[np.ndarray, "k h w"] | None,
    names: Sequence[str],
    *,
    min_area: int = 1,
) -> list[Region]:
    """Returns the connected regions of all classes, the largest first.

    Args:
        labels: Class index of each pixel. Pixels with other values belong to no region.
        probabilities: Probabilities of the classes, for the scores. With ``None``, the scores are 1.
        names: Name of each class.
        min_area: Smallest number of pixels of a region. Smaller regions are left out.
    """
    if probabilities is None:
        probabilities = np.broadcast_to(np.float32(1), (len(names), *labels.shape))
    regions = [
        region
        for index, name in enumerate(names)
        for region in _of_class(labels == index, probabilities[index], index, name, min_area)
    ]
    return sorted(regions, key=lambda region: -region.area)


def _of_class(
    mask: Bool[np.ndarray, "h w"],
    probability: Float32[np.ndarray, "h w"],
    index: int,
    name: str,
    min_area: int,
) -> Iterator[Region]:
    num, components, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for component in range(1, num):
        left, top, width, height, area = (int(value) for value in stats[component])
        if area < min_area:
            continue
        inside = (slice(top, top + height), slice(left, left + width))
        own = components[inside] == component
        outline, *holes = _rings(own, (left, top))
        score = float(probability[inside][own].mean())
        yield Region(index, name, outline, tuple(holes), (left, top, width, height), area, score, own)


def _rings(mask: Bool[np.ndarray, "h w"], corner: tuple[int, int]) -> list[Ring]:
    """Returns the outer polygon of one connected region, followed by the polygons of its holes."""
    # OpenCV's contours run through the centers of border pixels, so thin regions would have no area. In the
    # doubled mask, each pixel is a quarter of an original pixel.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    order = np.argsort(hierarchy[0, :, 3] >= 0, kind="stable")  # the outer contour has no parent
    return [(contours[i][:, 0] + 0.5) / 2 + np.array(corner) for i in order]


def to_coco(
    regions: Sequence[Region], names: Sequence[str], size: tuple[int, int], file_name: str = ""
) -> dict[str, Any]:
    """Returns regions as a COCO data set of one image. The masks are stored exactly as run lengths (uncompressed RLE).

    Category ids are class indices plus 1. The ``score`` of an annotation is the score of its region.

    Args:
        regions: Regions of the image.
        names: Name of each class.
        size: Height and width of the image.
        file_name: Name of the image file.
    """
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": region.class_index + 1,
            "bbox": list(region.box),
            "area": region.area,
            "iscrowd": 0,
            "score": round(region.score, 4),
            "segmentation": {"size": list(size), "counts": _run_lengths(region, size)},
        }
        for number, region in enumerate(regions, 1)
    ]
    image = {"id": 1, "file_name": file_name, "height": size[0], "width": size[1]}
    categories = [{"id": index, "name": name} for index, name in enumerate(names, 1)]
    return {"images": [image], "categories": categories, "annotations": annotations}


def _run_lengths(region: Region, size: tuple[int, int]) -> list[int]:
    """Returns the lengths of the runs of 0 and 1 in column order, as defined by the COCO API. The first run is of 0."""
    left, top, width, height = region.box
    columns = np.zeros((width, size[0]), bool)
    columns[:, top : top + height] = region.mask.T
    flat = np.concatenate([[False], columns.ravel(), [False]])
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + left * size[0]
    counts = np.diff([0, *ends, size[0] * size[1]]).tolist()
    return counts if counts[-1] else counts[:-1]


def to_shapes(regions: Sequence[Region], size: tuple[int, int], file_name: str = "") -> dict[str, Any]:
    """Returns regions in the JSON format of LabelMe, which X-AnyLabeling and CVAT import.

    The format has no holes. Outer regions come first, so that a region inside a hole is drawn over the outer region.

    Args:
        regions: Regions of the image, the largest first.
        size: Height and width of the image.
        file_name: Path of the image file.
    """
    shapes = [
        {
            "label": region.name,
            "points": region.outline.tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for region in outer_first(regions)
    ]
    image = {"imagePath": file_name, "imageData": None, "imageHeight": size[0], "imageWidth": size[1]}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, **image}
