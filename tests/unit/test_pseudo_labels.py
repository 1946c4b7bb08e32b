from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from iccld.pseudo_labels import PseudoLabels, Weighting


def _opinions(seed: int, kept: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), size=(2, 5, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    return probabilities, rng.random((2, 5, 7)) < kept


@pytest.mark.parametrize("weighting", ["pixel", "image"])
@given(seed=st.integers(0, 1000), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]), kept=st.floats(0, 1))
def test_threshold_equals_plain_numpy(weighting: Weighting, seed: int, threshold: float, kept: float) -> None:
    probabilities, valid = _opinions(seed, kept)
    choose = PseudoLabels(weighting, threshold)
    labels, weights = choose(torch.from_numpy(probabilities), torch.from_numpy(valid))
    np.testing.assert_array_equal(labels.numpy(), probabilities.argmax(axis=1))
    for image in range(2):
        sure = probabilities[image].max(axis=0) >= np.float32(threshold)
        share = sure[valid[image]].mean() if valid[image].any() else 0.0
        expected = np.where(valid[image], sure if weighting == "pixel" else share, 0.0)
        np.testing.assert_allclose(weights[image].numpy(), expected, rtol=1e-6)


@given(seed=st.integers(0, 1000), keep=st.sampled_from([0.1, 0.5, 0.8, 1.0]), kept=st.floats(0.2, 1))
def test_classes_keep_their_surest_share(seed: int, keep: float, kept: float) -> None:
    probabilities, valid = _opinions(seed, kept)
    choose = PseudoLabels("class", keep=keep, trust=3.0)
    labels, weights = choose(torch.from_numpy(probabilities), torch.from_numpy(valid))
    truth, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    np.testing.assert_array_equal(labels.numpy(), truth)
    assert not weights.numpy()[~valid].any()
    for index in range(4):
        of_class = (truth == index) & valid
        if not of_class.any():
            continue
        counted = weights.numpy()[of_class] > 0
        # The rank that is dropped is rounded and the pixel at the border counts, hence the slack of one pixel.
        assert abs(counted.sum() - keep * of_class.sum()) <= 1.5
        ranks = stats.rankdata(confidence[of_class])
        assert ranks[counted].min() >= (ranks[~counted].max() if (~counted).any() else 0)
        np.testing.assert_allclose(
            weights.numpy()[of_class][counted], confidence[of_class].mean() ** 3, rtol=1e-5
        )


@given(seed=st.integers(0, 1000), kept=st.floats(0, 1))
def test_spread_leaves_the_weighing_to_the_caller(seed: int, kept: float) -> None:
    probabilities, valid = _opinions(seed, kept)
    labels, weights = PseudoLabels("spread", 0.99)(torch.from_numpy(probabilities), torch.from_numpy(valid))
    np.testing.assert_array_equal(labels.numpy(), probabilities.argmax(axis=1))
    np.testing.assert_array_equal(weights.numpy(), valid.astype(np.float32))


@pytest.mark.parametrize("weighting", ["class", "pixel", "image", "spread"])
def test_nothing_valid_weighs_nothing(weighting: Weighting) -> None:
    probabilities = torch.full((1, 2, 3, 3), 0.5)
    _, weights = PseudoLabels(weighting, 0.1)(probabilities, torch.zeros(1, 3, 3, dtype=torch.bool))
    assert bool((weights == 0).all())
