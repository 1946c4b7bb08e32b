from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from iccld.adaptation.self_training import PseudoLabels, Weighting


def _opinions(seed: int, kept: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), size=(2, 5, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    return probabilities, rng.random((2, 5, 7)) < kept


@given(seed=st.integers(0, 1000), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]), kept=st.floats(0, 1))
def test_threshold_equals_plain_numpy(seed: int, threshold: float, kept: float) -> None:
    probabilities, valid = _opinions(seed, kept)
    choose = PseudoLabels("batch", threshold)
    labels, weights = choose(torch.from_numpy(probabilities), torch.from_numpy(valid))
    np.testing.assert_array_equal(labels.numpy(), probabilities.argmax(axis=1))
    sure = probabilities.max(axis=1) >= np.float32(threshold)
    # DACS and DAFormer count the confident pixels among all pixels of the batch, valid or not.
    expected = np.where(valid, sure.sum() / sure.size, 0.0)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


@given(seed=st.integers(0, 1000), keep=st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]), kept=st.floats(0.2, 1))
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
        assert abs(counted.sum() - keep * of_class.sum()) <= 0.5
        if not counted.any():
            continue
        ranks = stats.rankdata(confidence[of_class])
        assert ranks[counted].min() >= (ranks[~counted].max() if (~counted).any() else 0)
        np.testing.assert_allclose(
            weights.numpy()[of_class][counted], confidence[of_class].mean() ** 3, rtol=1e-5
        )


@given(
    keep=st.floats(0, 1), sizes=st.lists(st.integers(0, 40), min_size=3, max_size=3), seed=st.integers(0, 99)
)
def test_a_saturated_teacher_keeps_no_more_than_its_share(keep: float, sizes: list[int], seed: int) -> None:
    """All pixels are equally confident, so the pixels to keep are drawn at random."""
    torch.manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    probabilities = torch.nn.functional.one_hot(labels, 3).float().T.reshape(1, 3, 1, -1)
    valid = torch.ones(1, 1, len(labels), dtype=torch.bool)
    _, weights = PseudoLabels("class", keep=keep)(probabilities, valid)
    for index, size in enumerate(sizes):
        assert abs(int((weights[0, 0][labels == index] == 1).sum()) - keep * size) <= 0.5 + 1e-4


def test_equally_sure_pixels_count_from_all_over_the_image() -> None:
    torch.manual_seed(0)
    probabilities = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 40, 50)
    _, weights = PseudoLabels("class", keep=0.1)(probabilities, torch.ones(1, 40, 50, dtype=torch.bool))
    assert int(weights.sum()) == 200
    assert 50 < int(weights[:, :20].sum()) < 150


@pytest.mark.parametrize("weighting", ["class", "batch"])
def test_nothing_valid_weighs_nothing(weighting: Weighting) -> None:
    probabilities = torch.full((1, 2, 3, 3), 0.5)
    _, weights = PseudoLabels(weighting, 0.1)(probabilities, torch.zeros(1, 3, 3, dtype=torch.bool))
    assert bool((weights == 0).all())
