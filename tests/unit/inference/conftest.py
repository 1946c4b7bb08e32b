from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iccld.drawing import colorize
from iccld.labels import CITYSCAPES19, LabelSpace
from iccld.models.prediction import Prediction


class PaletteModel:
    """Knows the classes by their colors: images painted with ``colorize`` are predicted without error.

    The brighter the image, the less sure it says to be; the settings that it was called with are kept.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self.calls: list[dict[str, Any]] = []
        self.sizes: list[tuple[int, int]] = []

    def predict(self, images: np.ndarray, **settings: Any) -> Prediction:
        assert images.dtype == np.uint8
        assert images.ndim == 3
        self.calls.append(settings)
        self.sizes.append(images.shape[:2])
        palette = np.array(self.label_space.palette, np.int32)
        distance = np.abs(images[None].astype(np.int32) - palette[:, None, None]).sum(-1)
        probabilities = (distance == distance.min(0)).astype(np.float32)
        probabilities /= probabilities.sum(0)
        uncertainty = (images.mean(-1) / 255).astype(np.float32)
        labels = probabilities.argmax(0).astype(np.uint8)
        found = Prediction(labels, probabilities, np.zeros_like(uncertainty))
        vars(found)["uncertainty"] = uncertainty * np.float32(np.log(len(self.label_space)))
        return found


class PaintedDataset:
    """Label maps, and images that are these maps painted in the colors of their space."""

    name = "painted"

    def __init__(self, labels: list[np.ndarray], label_space: LabelSpace) -> None:
        self.labels, self.label_space, self.has_labels = labels, label_space, True

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return colorize(self.labels[index], self.label_space)

    def label(self, index: int) -> np.ndarray:
        return self.labels[index]

    def file_name(self, index: int) -> str:
        return f"town/{index:03d}.png"


@pytest.fixture
def model() -> PaletteModel:
    return PaletteModel(CITYSCAPES19)


@pytest.fixture
def make_model() -> Callable[[LabelSpace], PaletteModel]:
    return PaletteModel


@pytest.fixture
def make_dataset() -> Callable[..., PaintedDataset]:
    """Makes a data set of random blocks of classes, a few of them ignored."""

    def make(
        space: LabelSpace = CITYSCAPES19,
        sizes: tuple[tuple[int, int], ...] = ((24, 40), (16, 24)),
        seed: int = 0,
    ) -> PaintedDataset:
        rng = np.random.default_rng(seed)
        maps = []
        for height, width in sizes:
            blocks = rng.integers(0, len(space), (-(-height // 8), -(-width // 8))).astype(np.uint8)
            blocks[0, 0] = 255
            maps.append(np.kron(blocks, np.ones((8, 8), np.uint8))[:height, :width])
        return PaintedDataset(maps, space)

    return make
