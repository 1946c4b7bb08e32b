"""Annotation files as the tools write them, and independent implementations of polygons and run lengths."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iccld.data.foreign.convert import Conversion, convert
from iccld.data.foreign.find import find_format

SIZE = (40, 60)


def save_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.name.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def save_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def polygon(points: list[tuple[float, float]], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Tests the center of each pixel, one by one, by counting crossings of a ray to the right."""
    mask = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                    inside = not inside
            mask[row, column] = inside
    return mask


def run_lengths(mask: np.ndarray, order: str = "F") -> list[int]:
    """Counts runs of 0 and 1 in turn, beginning with 0, pixel by pixel."""
    counts, value = [0], 0
    for pixel in mask.ravel(order=order).astype(int).tolist():  # type: ignore[call-overload]
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def compressed(counts: list[int]) -> str:
    """Follows rleToString of the COCO API (common/maskApi.c)."""
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


def png_base64(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def brush(mask: np.ndarray) -> list[int]:
    """Follows the brush format of Label Studio: RGBA values as runs and single values, in groups of bits."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4).tolist()
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    place = 0
    while place < len(values):
        end = place
        while end < len(values) and values[end] == values[place] and end - place < 1 << 16:
            end += 1
        if end - place > 8:
            bits += f"1{3:02b}{end - place - 1:016b}{values[place]:08b}"
        else:
            end = min(place + 8, len(values))
            bits += f"0{0:02b}{end - place - 1:03b}" + "".join(f"{v:08b}" for v in values[place:end])
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def coco(
    images: list[str], annotations: list[dict[str, Any]], size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    """A file as the COCO tools and CVAT write it. Image ids begin with 1."""
    return {
        "info": {"year": 2024, "version": "1.0", "description": "", "contributor": "", "url": "", "date_created": ""},
        "licenses": [{"id": 1, "name": "", "url": ""}],
        "categories": [
            {"id": 3, "name": "car", "supercategory": "vehicle"},
            {"id": 7, "name": "road", "supercategory": "ground"},
        ],
        "images": [
            {"id": i, "license": 1, "file_name": name, "height": size[0], "width": size[1], "date_captured": ""}
            for i, name in enumerate(images, 1)
        ],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 3, "area": 10.0, "bbox": [1, 2, 3, 4], "iscrowd": 0} | one
            for i, one in enumerate(annotations, 1)
        ],
    }  # fmt: skip


def draw(root: Path, **options: Any) -> Conversion:
    """Draws the annotations of a folder into the folder itself."""
    found = find_format(root)
    assert found is not None
    return convert(found.read(), root, root, **options)


def read_map(root: Path, name: str) -> np.ndarray:
    with Image.open(root / "iccld_labels" / name) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)
