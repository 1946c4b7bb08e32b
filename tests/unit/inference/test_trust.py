from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iccld.inference.review import SIGNALS, evaluate_trust
from iccld.labels import CITYSCAPES19, PROTOCOLS
from iccld.models.prediction import Prediction
from iccld.models.settings import PredictSettings

PROTOCOL = PROTOCOLS["cityscapes19"]
ROAD, CAR, BUS = 0, 13, 15


class Doubter:
    """Answers every image with the maps that it was given, whatever it shows."""

    label_space = CITYSCAPES19

    def __init__(
        self, labels: np.ndarray, confidence: np.ndarray, entropy: np.ndarray, information: np.ndarray
    ) -> None:
        self.maps = (labels, confidence, entropy, information)
        self.calls: list[dict[str, Any]] = []

    def predict(self, images: np.ndarray, **settings: Any) -> Prediction:
        self.calls.append(settings)
        labels, confidence, entropy, information = (np.asarray(m) for m in self.maps)
        classes = np.arange(19)[:, None, None]
        rest = (1 - confidence) / 18
        probabilities = np.where(classes == labels, confidence, rest).astype(np.float32)
        most = np.float32(np.log(19))
        found = Prediction(labels.astype(np.uint8), probabilities, most * information.astype(np.float32))
        vars(found)["uncertainty"] = most * entropy.astype(np.float32)
        return found


@pytest.fixture
def dataset(make_dataset: Callable[..., Any]) -> Any:
    """One image of six pixels, two of which do not count."""
    painted = make_dataset(sizes=((1, 6),))
    painted.labels = [np.array([[ROAD, CAR, 255, CAR, ROAD, 255]], np.uint8)]
    return painted


def test_known_answers(dataset: Any) -> None:
    model = Doubter(
        labels=np.array([[ROAD, BUS, ROAD, CAR, CAR, BUS]]),
        confidence=np.array([[0.95, 0.55, 0.6, 0.85, 0.75, 0.99]]),
        entropy=np.array([[0.1, 0.9, 0.0, 0.2, 0.15, 1.0]]),
        information=np.array([[0.3, 0.2, 1.0, 0.3, 0.1, 0.0]]),
    )
    scores, trust = evaluate_trust(model, dataset, PROTOCOL)
    assert scores.pixel_accuracy == 50  # the first and the fourth of the four that count
    # Each pixel lies alone in its bin: |0.95 − 1|, |0.55 − 0|, |0.85 − 1|, |0.75 − 0|.
    assert trust["ece"] == pytest.approx((0.05 + 0.55 + 0.15 + 0.75) / 4, abs=1e-6)
    # Wrong ones have entropy 0.9 and 0.15, right ones 0.1 and 0.2: three of four pairs are in order.
    assert trust["auroc_entropy"] == 0.75
    assert trust["auroc_confidence"] == 1  # doubts 0.45 and 0.25 against 0.05 and 0.15
    assert trust["auroc_mutual_information"] == 0
    # Surest first: right, right, wrong, wrong; then right, wrong, right, wrong; then wrong, wrong, right, right.
    assert trust["aurc_confidence"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert trust["aurc_entropy"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert trust["aurc_mutual_information"] == pytest.approx((1 + 1 + 1 / 2 + 1 / 2) / 4)
    # To find both wrong ones, none, one of two, or both right ones are called wrong too.
    assert [trust[f"fpr95_{name}"] for name in SIGNALS[:3]] == [0.5, 0, 1]
    # Of the mean of doubt and information: 0.175 and 0.225 are right, 0.325 and 0.175 wrong.
    assert trust["auroc_combined"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert set(trust) == {"ece", "class_ece"} | {
        f"{figure}_{name}" for figure in ("auroc", "aurc", "fpr95") for name in SIGNALS
    }


@pytest.mark.parametrize("protocol", ["cityscapes19", "camvid11"])
def test_calibration_of_every_class(protocol: str, make_dataset: Callable[..., Any]) -> None:
    """Against a loop over classes and bins."""
    rng = np.random.default_rng(0)
    painted = make_dataset(sizes=((30, 40),))
    painted.labels = [rng.choice(np.array([0, 2, 13, 15, 255], np.uint8), (30, 40))]
    labels, confidence = rng.choice([0, 13, 15, 18], (30, 40)), rng.uniform(0.1, 1, (30, 40))
    model = Doubter(labels, confidence, confidence, confidence)
    _, trust = evaluate_trust(model, painted, PROTOCOLS[protocol])

    space = PROTOCOLS[protocol].space
    table = np.array(CITYSCAPES19.lut_to(space), np.uint8)
    probabilities = model.predict(painted.image(0)).probabilities
    truth = table[painted.labels[0]]
    counted = truth != 255
    errors = []
    for index in range(len(space)):
        of_class = probabilities[table[:19] == index].sum(axis=0)[counted]
        hits = truth[counted] == index
        error = 0.0
        for low in range(15):
            inside = (of_class > low / 15) & (of_class <= (low + 1) / 15)
            if inside.any():
                error += abs(of_class[inside].mean() - hits[inside].mean()) * inside.mean()
        errors.append(error)
    assert trust["class_ece"] == pytest.approx(np.mean(errors), abs=1e-4)


def test_images_add_up_and_settings_arrive(model: Any, make_dataset: Callable[..., Any]) -> None:
    _, trust = evaluate_trust(model, make_dataset(), PROTOCOL, PredictSettings(3, 2, 5))
    assert [(c["steps"], c["draws"], c["seed"]) for c in model.calls] == [(3, 2, 5)] * 2
    # It is never wrong and says so; where nothing is wrong, nothing can be ranked.
    assert trust["ece"] == pytest.approx(0, abs=1e-6)
    assert all(math.isnan(value) for name, value in trust.items() if name.startswith(("auroc", "fpr95")))
    assert all(value == 0 for name, value in trust.items() if name.startswith("aurc"))
    assert trust["class_ece"] == pytest.approx(0, abs=1e-6)


def test_answers_are_judged_by_the_classes_of_the_protocol(dataset: Any) -> None:
    """CamVid has one class for cars and buses: a bus for a car is right there and wrong among 19 classes."""
    maps = np.full((1, 6), 0.5)
    model = Doubter(np.array([[ROAD, BUS, 0, CAR, ROAD, 0]]), np.full((1, 6), 0.9), maps, maps)
    fine = evaluate_trust(model, dataset, PROTOCOL)
    coarse = evaluate_trust(model, dataset, PROTOCOLS["camvid11"])
    assert fine[0].pixel_accuracy == 75
    assert fine[1]["ece"] == pytest.approx(0.15, abs=1e-6)
    assert coarse[0].pixel_accuracy == 100
    assert coarse[1]["ece"] == pytest.approx(0.1, abs=1e-6)
    assert fine[1]["auroc_entropy"] == 0.5
