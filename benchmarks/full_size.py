"""Imitations of GTA5, SYNTHIA and Cityscapes in the real sizes and file formats, for ``benchmarks/data.py``.

The pictures are rendered street scenes, upscaled and with added sensor noise. The noise makes a PNG file about 2 MB
large, so that decoding takes about as long as for a file of the real data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from iccld.data.street_scenes import StreetScenes
from iccld.labels import CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, SYNTHIA_ID_TO_TRAIN_ID

NOISE = 1.1
"""Standard deviation of the sensor noise in gray levels. The channels of a pixel have the same noise. The noise
determines the size of the files."""
SYNTHIA_CAR = 8


@dataclass(frozen=True)
class DataSet:
    """The format of a data set as it is published, and the image size in training.

    Attributes:
        look: Look of the rendered scenes.
        size: Height and width of the files in pixels.
        base: Height and width in pixels to which images are resized in training.
        ids: Raw id of the label files → trainId.
        write: Function that writes a file pair, given root folder, number, image, and label map of raw ids.
    """

    look: str
    size: tuple[int, int]
    base: tuple[int, int]
    ids: Mapping[int, int]
    write: Callable[[Path, int, np.ndarray, np.ndarray], None]


def write_files(root: Path, kind: DataSet, count: int) -> None:
    """Writes images and label maps in the folder layout of a data set.

    Args:
        root: Folder of the data set.
        kind: Format of the data set.
        count: Number of images.
    """
    height, width = kind.size
    scenes = StreetScenes(kind.look, count=count, height=height // 2, width=width // 2)
    raw_ids = np.zeros(256, np.uint8)
    for raw, train_id in kind.ids.items():
        if train_id != IGNORE:
            raw_ids[train_id] = raw
    rng = np.random.default_rng(0)
    for i in range(count):
        image = cv2.resize(scenes.image(i), (width, height), interpolation=cv2.INTER_CUBIC)
        label = cv2.resize(scenes.label(i), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        kind.write(root, i, _noisy(image, rng), raw_ids[label])


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, NOISE, (*image.shape[:2], 1))
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _save(path: Path, array: np.ndarray, palette: list[int] | None = None) -> None:
    """Writes a PNG file with Pillow, whose filters and compression are used in most published files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def _write_gta5(root: Path, number: int, image: np.ndarray, ids: np.ndarray) -> None:
    _save(root / "images" / f"{number + 1:05d}.png", image)
    palette = [channel for i in range(256) for channel in (i, 255 - i, 7 * i % 256)]
    _save(root / "labels" / f"{number + 1:05d}.png", ids, palette)


def _write_synthia(root: Path, number: int, image: np.ndarray, ids: np.ndarray) -> None:
    _save(root / "RGB" / f"{number:07d}.png", image)
    path = root / "GT" / "LABELS" / f"{number:07d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    instances = cv2.connectedComponents((ids == SYNTHIA_CAR).astype(np.uint8))[1]
    # OpenCV orders channels as blue (empty), green (instance), red (class).
    channels = np.stack([np.zeros_like(ids), instances, ids], axis=2).astype(np.uint16)
    assert cv2.imwrite(str(path), channels), path


def _write_cityscapes(root: Path, number: int, image: np.ndarray, ids: np.ndarray) -> None:
    frame = f"train/aachen/aachen_{number:06d}_000019"
    _save(root / "leftImg8bit" / f"{frame}_leftImg8bit.png", image)
    _save(root / "gtFine" / f"{frame}_gtFine_labelIds.png", ids)


DATA_SETS: Mapping[str, DataSet] = {
    "gta5": DataSet("game", (1052, 1914), (720, 1280), CITYSCAPES_ID_TO_TRAIN_ID, _write_gta5),
    "synthia": DataSet("game", (760, 1280), (760, 1280), SYNTHIA_ID_TO_TRAIN_ID, _write_synthia),
    "cityscapes": DataSet("camera", (1024, 2048), (512, 1024), CITYSCAPES_ID_TO_TRAIN_ID, _write_cityscapes),
}
