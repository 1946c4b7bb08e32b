from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from iccld.errors import InputError
from iccld.inference.video import TemporalSmoothing
from iccld.models.prediction import Prediction


def predictions(count: int, seed: int = 0) -> list[Prediction]:
    logits = np.random.default_rng(seed).normal(size=(count, 5, 6, 8)).astype(np.float32)
    found = []
    for one in np.exp(logits):
        probabilities = one / one.sum(0)
        labels = probabilities.argmax(0).astype(np.uint8)
        found.append(Prediction(labels, probabilities, np.zeros((6, 8), np.float32)))
    return found


STILL = np.full((6, 8, 3), 90, np.uint8)


def test_without_strength_a_prediction_passes_untouched():
    smooth = TemporalSmoothing(0)
    for prediction in predictions(3):
        assert smooth(STILL, prediction) is prediction


def test_the_mean_of_the_past_with_falling_weights():
    smooth, several = TemporalSmoothing(0.8), predictions(6)
    smoothed = [smooth(STILL, prediction) for prediction in several]
    for index, answer in enumerate(smoothed):
        weights = np.array([0.8 ** (index - i) * (0.2 if i else 1) for i in range(index + 1)])
        assert weights.sum() == pytest.approx(1)
        expected = np.tensordot(weights, [p.probabilities for p in several[: index + 1]], 1)
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
        assert np.array_equal(answer.labels, answer.probabilities.argmax(0))
        np.testing.assert_allclose(answer.uncertainty, entropy(expected, axis=0), atol=1e-5)
        assert answer.mutual_information is several[index].mutual_information


def test_it_starts_anew_at_a_cut_or_another_size():
    smooth, several = TemporalSmoothing(0.9), predictions(4)
    smooth(STILL, several[0])
    assert not np.array_equal(smooth(STILL + 5, several[1]).probabilities, several[1].probabilities)
    bright = np.full_like(STILL, 200)
    assert np.array_equal(smooth(bright, several[2]).probabilities, several[2].probabilities)
    (small,) = predictions(1)
    small = Prediction(*(m[..., :3] for m in vars(small).values()))
    assert np.array_equal(smooth(bright[:, :3], small).probabilities, small.probabilities)


@pytest.mark.parametrize("strength", [-0.1, 1.0, float("nan")])
def test_strengths_that_make_no_sense(strength: float):
    with pytest.raises(InputError, match="smoothing is"):
        TemporalSmoothing(strength)
