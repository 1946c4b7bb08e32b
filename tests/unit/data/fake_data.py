"""Tiny copies of each data set, with palette, 16-bit and EXIF files, written without the code of ``iccld``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from iccld.labels import LabelSpace

SIZE = (12, 16)


def random_ids(rng: np.random.Generator, choices: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    return rng.choice(choices, size=size).astype(np.uint8)


def random_image(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def save_rgb(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def save_gray(path: Path, ids: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)
    return path


def save_palette(path: Path, ids: np.ndarray) -> Path:
    """Writes a palette file with colors that are unrelated to the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids)
    image.putpalette([value for i in range(256) for value in (255 - i, i * 7 % 256, 3)])
    assert image.mode == "P"
    image.save(path)
    return path


def save_synthia_label(path: Path, ids: np.ndarray) -> Path:
    """Writes a 16-bit RGB file with class, instance number and 0 in the channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    instances = np.arange(ids.size, dtype=np.uint16).reshape(ids.shape) * 300
    blue_green_red = np.stack([np.zeros_like(instances), instances, ids.astype(np.uint16)], axis=2)
    assert cv2.imwrite(str(path), blue_green_red)
    return path


def make_gta5(root: Path, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    labels = []
    for i in range(1, count + 1):
        save_rgb(root / "images" / f"{i:05d}.png", random_image(rng))
        labels.append(random_ids(rng, list(range(35))))
        save_palette(root / "labels" / f"{i:05d}.png", labels[-1])
    return labels


def make_synthia(root: Path, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    labels = []
    for i in range(count):
        save_rgb(root / "RGB" / f"{i:07d}.png", random_image(rng))
        labels.append(random_ids(rng, list(range(23))))
        save_synthia_label(root / "GT" / "LABELS" / f"{i:07d}.png", labels[-1])
    return labels


def make_cityscapes(root: Path, split: str = "train", kind: str = "labelIds") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = {}
    choices = list(range(34)) if kind == "labelIds" else [*range(19), 255]
    for frame in ("aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "ulm/ulm_000000_000019"):
        name = f"{frame}_leftImg8bit.png"
        save_rgb(root / "leftImg8bit" / split / name, random_image(rng))
        labels[name] = random_ids(rng, choices)
        save_gray(root / "gtFine" / split / f"{frame}_gtFine_{kind}.png", labels[name])
        # Further files in the folders of the real data set:
        save_rgb(root / "gtFine" / split / f"{frame}_gtFine_color.png", random_image(rng))
        save_gray(root / "gtFine" / split / f"{frame}_gtFine_instanceIds.png", labels[name])
        (root / "gtFine" / split / f"{frame}_gtFine_polygons.json").write_text("{}")
    return labels


def make_camvid(root: Path, split: str = "train", count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    labels = []
    for i in range(count):
        save_rgb(root / split / "images" / f"0001TP_{i:06d}.jpg", random_image(rng))
        labels.append(random_ids(rng, [0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 13, 255]))
        save_gray(root / split / "labels" / f"0001TP_{i:06d}.png", labels[-1])
    return labels


class ArrayDataset:
    """A data set with images and labels in memory."""

    name = "arrays"
    has_labels = True

    def __init__(self, images: list[np.ndarray], labels: list[np.ndarray], space: LabelSpace) -> None:
        self.images = images
        self.labels = labels
        self.label_space = space

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def label(self, index: int) -> np.ndarray:
        return self.labels[index]

    def file_name(self, index: int) -> str:
        return f"{index}.png"


def truncate(path: Path, keep: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path
