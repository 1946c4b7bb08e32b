"""Pictures of answers: class colors, class colors over the image, uncertainty as heat."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from iccld.labels import LabelSpace

Image = UInt8[np.ndarray, "h w 3"]
LabelMap = UInt8[np.ndarray, "h w"]


def colorize(labels: LabelMap, space: LabelSpace) -> Image:
    """Paints class indices in the colors of their space; other values, 255 among them, are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(space)] = space.palette
    return table[labels]


def overlay(image: Image, labels: LabelMap, space: LabelSpace, *, opacity: float = 0.5) -> Image:
    """Lays the class colors over the image; pixels without a class show the image alone.

    Args:
        image: RGB.
        labels: class indices of the same size, 255 = none.
        space: gives the colors.
        opacity: weight of the color, from 0 (the image alone) to 1 (the color alone).
    """
    assert image.shape[:2] == labels.shape, (image.shape, labels.shape)
    blended = cv2.addWeighted(image, 1 - opacity, colorize(labels, space), opacity, 0)
    return np.where((labels < len(space))[..., None], blended, image)


def heat_map(uncertainty: Float32[np.ndarray, "h w"]) -> Image:
    """Shows values in [0, 1] from black over violet to pale yellow (magma).

    The scale is fixed, so that maps of different images and models compare.
    """
    levels = (np.clip(uncertainty, 0, 1) * 255).round().astype(np.uint8)
    heat = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)
    return np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), dtype=np.uint8)
