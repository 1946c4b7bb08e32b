from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iccld.inference.review import evenly_spaced, unsupervised_scores
from iccld.labels import CITYSCAPES19
from iccld.models.prediction import Prediction


class Fixed:
    """Labels the left ``share`` of an image as road, the rest as sky; uncertainty comes from the red channel."""

    label_space = CITYSCAPES19

    def __init__(self, share: float) -> None:
        self.share = share

    def predict(self, images: np.ndarray, **settings: Any) -> Prediction:
        labels = np.full(images.shape[:2], 10, np.uint8)
        labels[:, : round(self.share * images.shape[1])] = 0
        probabilities = (np.arange(19)[:, None, None] == labels).astype(np.float32)
        uncertainty = images[..., 0].astype(np.float32) / 255
        found = Prediction(labels, probabilities, np.zeros_like(uncertainty))
        vars(found)["uncertainty"] = uncertainty * np.float32(np.log(len(self.label_space)))
        return found


class Grays:
    """Images of one gray level each; labels must not be read."""

    name, label_space, has_labels = "grays", CITYSCAPES19, False

    def __init__(self, levels: list[int]) -> None:
        self.levels = levels
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.levels)

    def image(self, index: int) -> np.ndarray:
        self.asked.append(index)
        return np.full((4, 10, 3), self.levels[index], np.uint8)

    def label(self, index: int) -> np.ndarray:
        raise AssertionError("labels of the target were read")

    def file_name(self, index: int) -> str:
        return f"{index}.png"


def test_a_model_agrees_with_itself() -> None:
    assert unsupervised_scores(Fixed(0.5), Fixed(0.5), Grays([0, 0])) == {"entropy": 0, "agreement": 1}


def test_agreement_is_the_share_of_pixels_labeled_alike() -> None:
    scores = unsupervised_scores(Fixed(0.2), Fixed(0.5), Grays([0]))
    assert scores["agreement"] == pytest.approx(0.7)
    assert unsupervised_scores(Fixed(0), Fixed(1), Grays([0]))["agreement"] == 0


def test_entropy_is_the_mean_of_the_teacher_s() -> None:
    class Clueless(Fixed):
        def predict(self, images: np.ndarray, **settings: Any) -> Prediction:
            return super().predict(np.full_like(images, 255))

    grays = Grays([0, 51, 255])
    assert unsupervised_scores(Fixed(0.5), Clueless(0.5), grays)["entropy"] == pytest.approx(0.4, abs=1e-6)
    assert unsupervised_scores(Clueless(0.5), Fixed(0.5), grays)["entropy"] == 1


@pytest.mark.parametrize(
    ("count", "num_images", "expected"),
    [(5, 5, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (100, 4, [0, 33, 66, 99]), (1, 1, [0]), (7, 1, [0])],
)
def test_indices_at_even_distances(count: int, num_images: int, expected: list[int]) -> None:
    assert evenly_spaced(count, num_images) == expected


def test_few_of_many_images_are_compared() -> None:
    grays = Grays([0] * 64)
    unsupervised_scores(Fixed(0.5), Fixed(0.5), grays, range(1, 64))
    assert (len(grays.asked), grays.asked[0], grays.asked[-1]) == (32, 1, 63)


def test_painted_images(model: Any, make_model: Callable[..., Any], make_dataset: Callable[..., Any]) -> None:
    dataset = make_dataset()
    scores = unsupervised_scores(model, make_model(CITYSCAPES19), dataset)
    brightness = [float(dataset.image(i).mean()) / 255 for i in range(2)]
    assert scores == {"entropy": pytest.approx(np.mean(brightness), abs=1e-6), "agreement": 1}
