from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iccld.pseudo_labels import pseudo_labels


@pytest.mark.parametrize("per_pixel", [True, False])
@given(seed=st.integers(0, 1000), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]), kept=st.floats(0, 1))
def test_equals_plain_numpy(per_pixel: bool, seed: int, threshold: float, kept: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), size=(2, 5, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    valid = rng.random((2, 5, 7)) < kept
    labels, weights = pseudo_labels(
        torch.from_numpy(probabilities), threshold, torch.from_numpy(valid), per_pixel
    )
    np.testing.assert_array_equal(labels.numpy(), probabilities.argmax(axis=1))
    for image in range(2):
        sure = probabilities[image].max(axis=0) >= np.float32(threshold)
        share = sure[valid[image]].mean() if valid[image].any() else 0.0
        expected = np.where(valid[image], sure if per_pixel else share, 0.0)
        np.testing.assert_allclose(weights[image].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("per_pixel", [True, False])
def test_nothing_valid_weighs_nothing(per_pixel: bool) -> None:
    probabilities = torch.full((1, 2, 3, 3), 0.5)
    _, weights = pseudo_labels(probabilities, 0.1, torch.zeros(1, 3, 3, dtype=torch.bool), per_pixel)
    assert bool((weights == 0).all())
