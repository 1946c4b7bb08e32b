"""Committees and dropout of the benchmark of uncertainty."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from iccld.config import with_settings
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction
from iccld.presets import get_preset

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def uncertainty(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import uncertainty as module

    return module


class Fixed:
    """Answers with what it was given."""

    label_space = CAMVID11

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities

    def predict(self, images: Any, **settings: Any) -> Prediction:
        zeros = np.zeros(self.probabilities.shape[1:], np.float32)
        return Prediction(self.probabilities.argmax(axis=0).astype(np.uint8), self.probabilities, zeros)


def test_disagreement_is_the_entropy_of_the_mean_less_the_mean_of_entropies(uncertainty: ModuleType) -> None:
    several = np.random.default_rng(0).dirichlet(np.ones(11), size=(3, 4, 5)).astype(np.float32)
    several = np.moveaxis(several, -1, 1)
    answer = uncertainty.Committee([Fixed(one) for one in several]).predict(None)
    mean = several.mean(axis=0)
    expected = scipy.stats.entropy(mean, axis=0) - scipy.stats.entropy(several, axis=1).mean(axis=0)
    np.testing.assert_allclose(answer.mutual_information, expected, atol=1e-5)
    np.testing.assert_array_equal(answer.labels, mean.argmax(axis=0))


def test_dropout_lasts_as_long_as_it_is_asked_for(uncertainty: ModuleType) -> None:
    torch.manual_seed(0)
    model = ICCLD(CAMVID11, diffusion=False, width=16).eval()
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    before = model.predict(image).probabilities
    with uncertainty.dropout(model, 0.5) as dropping:
        first, second = (dropping.predict(image, seed=seed).probabilities for seed in (0, 1))
        np.testing.assert_array_equal(first, dropping.predict(image, seed=0).probabilities)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(model.predict(image).probabilities, before)


def test_temperature_is_found_again(uncertainty: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels drawn from known probabilities, and a model that is twice as sure as it should be."""
    rng = np.random.default_rng(3)
    config = with_settings(get_preset("demo").config, {"data.target_size": [64, 96]})
    truth = rng.dirichlet(np.full(11, 0.5), size=(64, 96)).astype(np.float32)
    labels = (truth.cumsum(axis=-1) < rng.random((64, 96, 1))).sum(axis=-1).clip(max=10).astype(np.uint8)
    sure = np.moveaxis(truth**2 / (truth**2).sum(axis=-1, keepdims=True), -1, 0)

    class Noise:
        def __len__(self) -> int:
            return 4

        def image(self, index: int) -> np.ndarray:
            return np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)

        def label(self, index: int) -> np.ndarray:
            return labels

    monkeypatch.setattr(
        uncertainty, "open_training", lambda *_: SimpleNamespace(labeled=Noise(), target=Noise())
    )
    model = Fixed(sure)
    assert uncertainty.fit_temperature(model, config, 4) == pytest.approx(2, rel=0.1)
    cooled = uncertainty.Tempered(model, 2.0).predict(None).probabilities
    np.testing.assert_allclose(cooled, np.moveaxis(truth, -1, 0), atol=1e-4)
