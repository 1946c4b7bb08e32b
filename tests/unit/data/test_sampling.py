from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from iccld.data.loaders import RareClassSampler, UniformSampler
from iccld.errors import InputError

count_tables = arrays(
    np.int64,
    st.tuples(st.integers(1, 6), st.integers(1, 8)),
    elements=st.sampled_from([0, 0, 3, 500, 40_000]),
).filter(lambda counts: counts.sum() > 0)


@given(count_tables, st.sampled_from([0.01, 0.1, 1.0]))
def test_probabilities_equal_the_formula(counts: np.ndarray, temperature: float) -> None:
    """The formula is DAFormer's eq. 10 and 11, for the classes with pixels."""
    shares = counts.sum(axis=0) / counts.sum()
    occurs = shares > 0
    expected = np.zeros(counts.shape[1])
    expected[occurs] = softmax((1 - shares[occurs]) / temperature)
    np.testing.assert_allclose(RareClassSampler(counts, temperature).probabilities, expected, rtol=1e-9)


@given(count_tables, st.integers(0, 2**32), st.sampled_from([None, 1, 1000]))
def test_drawn_image_shows_the_drawn_class(counts: np.ndarray, seed: int, min_pixels: int | None) -> None:
    sampler = RareClassSampler(counts, 0.5, min_pixels)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        index, label = sampler.draw(rng)
        assert counts[index, label] > 0
        enough = counts[:, label] >= (min_pixels or 1)
        if min_pixels and enough.any():
            assert counts[index, label] >= min_pixels


def test_draws_follow_the_probabilities() -> None:
    counts = np.array([[900, 0, 50], [900, 100, 0], [900, 0, 0]])
    sampler = RareClassSampler(counts, 0.3, min_pixels=1)
    rng = np.random.default_rng(0)
    drawn = [sampler.draw(rng) for _ in range(4000)]
    shares = np.bincount([label for _, label in drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, sampler.probabilities, atol=0.03)  # four standard deviations
    of_road = np.bincount([index for index, label in drawn if label == 0], minlength=3)
    np.testing.assert_allclose(of_road / of_road.sum(), 1 / 3, atol=0.12)


def test_low_temperature_prefers_rare_classes() -> None:
    counts = np.array([[9000, 900, 90]])
    low = RareClassSampler(counts, 0.01).probabilities
    high = RareClassSampler(counts, 100.0).probabilities
    assert low.argmax() == 2
    assert low[0] < 1e-6
    np.testing.assert_allclose(high, 1 / 3, atol=0.01)


def test_default_minimum_is_that_of_daformer_on_gta5() -> None:
    pixels = 1914 * 1052
    counts = np.array([[pixels - 3000, 3000], [pixels - 2990, 2990]])
    assert RareClassSampler(counts).images[1].tolist() == [0]
    assert RareClassSampler(np.array([[pixels - 9, 9], [pixels, 0]])).images[1].tolist() == [0]


def test_nothing_labeled_is_refused() -> None:
    with pytest.raises(InputError, match="all are 255"):
        RareClassSampler(np.zeros((3, 19), dtype=np.int64))


def test_uniform_covers_every_image_once_an_epoch() -> None:
    sampler = UniformSampler(7, seed=3)
    rng = np.random.default_rng(0)
    epochs = [tuple(sampler.draw(rng, e * 7 + i)[0] for i in range(7)) for e in range(20)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) > 15


def test_uniform_needs_no_history() -> None:
    rng = np.random.default_rng(0)
    sequence = [UniformSampler(5, seed=1).draw(rng, n) for n in range(40)]
    jumping = UniformSampler(5, seed=1)
    for n in (39, 0, 17, 4, 33):
        assert jumping.draw(rng, n) == sequence[n]
    assert [UniformSampler(5, seed=2).draw(rng, n) for n in range(40)] != sequence
    assert all(want is None for _, want in sequence)


def test_uniform_over_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="without images"):
        UniformSampler(0, seed=0)
