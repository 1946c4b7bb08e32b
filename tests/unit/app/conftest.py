from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iccld.app.models import AppModel
from iccld.labels import CITYSCAPES19, LabelSpace
from iccld.models.prediction import Prediction


class PixelModel:
    """Reads its answer from the image: the class from red, the uncertainty from green."""

    def __init__(self, space: LabelSpace) -> None:
        self.label_space, self.calls = space, []

    def predict(self, images: np.ndarray, **settings: Any) -> Prediction:
        self.calls.append(settings)
        labels = np.minimum(images[..., 0], len(self.label_space) - 1)
        probabilities = np.eye(len(self.label_space), dtype=np.float32)[labels].transpose(2, 0, 1)
        uncertainty = images[..., 1].astype(np.float32) / 255
        return Prediction(
            labels, np.ascontiguousarray(probabilities), uncertainty, np.zeros_like(uncertainty)
        )


@pytest.fixture
def make_model() -> Callable[..., AppModel]:
    """Makes a model of the page that reads its answer from the image."""

    def make(space: LabelSpace = CITYSCAPES19, name: str = "mine") -> AppModel:
        return AppModel(name, PixelModel(space), space)

    return make
