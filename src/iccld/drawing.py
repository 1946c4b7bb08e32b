"""Drawing of label maps and uncertainty as images, and the legend of class colors."""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from iccld.labels import LabelSpace

Image = UInt8[np.ndarray, "h w 3"]
LabelMap = UInt8[np.ndarray, "h w"]

_MOST_ROWS, _LONGEST_NAME = 20, 40
_EDGE, _SWATCH, _ROW, _GAP = 10, (28, 18), 26, 24  # margin, color box, row height and column gap in pixels


def colorize(labels: LabelMap, space: LabelSpace) -> Image:
    """Returns an RGB image in which each pixel has the color of its class. Pixels without a class are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(space)] = space.palette
    return table[labels]


def overlay(image: Image, labels: LabelMap, space: LabelSpace, *, opacity: float = 0.5) -> Image:
    """Blends class colors with weight ``opacity`` (0 to 1) over an RGB image. Pixels without a class stay unchanged."""
    assert image.shape[:2] == labels.shape, (image.shape, labels.shape)
    blended = cv2.addWeighted(image, 1 - opacity, colorize(labels, space), opacity, 0)
    return np.where((labels < len(space))[..., None], blended, image)


def heat_map(uncertainty: Float32[np.ndarray, "h w"]) -> Image:
    """Draws uncertainties in colors, from black (0) to pale yellow (1). The color scale is the same for all images."""
    return paint_levels(to_levels(uncertainty))


def to_levels(uncertainty: Float32[np.ndarray, "h w"]) -> LabelMap:
    """Quantizes uncertainties in [0, 1] to integer levels in [0, 255], which need less memory than floats."""
    return (np.clip(uncertainty, 0, 1) * 255).round().astype(np.uint8)


def paint_levels(levels: LabelMap) -> Image:
    """Draws uncertainty levels in [0, 255] in the colors of ``heat_map``."""
    heat = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)
    return np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def draw_legend(space: LabelSpace) -> Image:
    """Draws a legend: the class names beside their colors, in columns of up to 20 rows."""
    font = ImageFont.load_default(16)
    names = [n if len(n) <= _LONGEST_NAME else f"{n[: _LONGEST_NAME - 1]}…" for n in space.names]
    num_columns = max(1, math.ceil(len(names) / _MOST_ROWS))
    num_rows = math.ceil(len(names) / num_columns)
    width = _SWATCH[0] + 8 + math.ceil(max(map(font.getlength, names), default=0))
    size = (2 * _EDGE + num_columns * width + (num_columns - 1) * _GAP, 2 * _EDGE + max(1, num_rows) * _ROW)
    picture = PillowImage.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for index, (name, color) in enumerate(zip(names, space.palette, strict=True)):
        left = _EDGE + index // num_rows * (width + _GAP)
        middle = _EDGE + index % num_rows * _ROW + _ROW // 2
        top = middle - _SWATCH[1] // 2
        box = (left, top, left + _SWATCH[0] - 1, top + _SWATCH[1] - 1)
        pen.rectangle(box, fill=color, outline="gray")
        pen.text((left + _SWATCH[0] + 8, middle), name, fill="black", font=font, anchor="lm")
    return np.array(picture)
