"""Tests of the distance between the latents of two domains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from iccld.adaptation.iccld import sliced_wasserstein


def _latents(n: int, *size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(5, 1, 1, generator=generator) + 0.5
    return scale * torch.randn(n, 5, *size, generator=generator)


def _cells(latents: Tensor) -> np.ndarray:
    return np.moveaxis(latents.double().numpy(), 1, -1).reshape(-1, latents.shape[1])


def _scipys(first: Tensor, second: Tensor, num: int) -> float:
    """Returns scipy's distance, averaged over the same random directions."""
    drawn = torch.randn(first.shape[1], num, generator=torch.Generator().manual_seed(0)).double().numpy()
    directions = drawn / np.linalg.norm(drawn, axis=0)
    one, other = _cells(first) @ directions, _cells(second) @ directions
    return float(np.mean([wasserstein_distance(one[:, i], other[:, i]) for i in range(num)]))


@given(seed=st.integers(0, 1000), num=st.integers(1, 40))
def test_equal_sizes_give_scipys_distance(seed: int, num: int) -> None:
    first, second = _latents(2, 4, 6, seed=seed), _latents(3, 2, 8, seed=seed + 1) + 0.3
    assert float(sliced_wasserstein(first, second, num)) == pytest.approx(
        _scipys(first, second, num), rel=1e-4
    )


@pytest.mark.parametrize("sizes", [(4, 7), (7, 4), (3, 8)])
def test_unequal_sizes_come_close(sizes: tuple[int, int]) -> None:
    first, second = (_latents(n, 16, 16, seed=n) for n in sizes)
    second = second + torch.tensor([1.0, 0.0, 0.0, -1.0, 0.5]).view(5, 1, 1)
    assert float(sliced_wasserstein(first, second)) == pytest.approx(_scipys(first, second, 32), rel=0.02)


def test_equal_sets_are_no_distance_apart_whatever_their_order() -> None:
    latents = _latents(3, 4, 4, seed=0)
    assert float(sliced_wasserstein(latents, latents)) == 0
    assert float(sliced_wasserstein(latents, latents.flip(0, 2, 3))) == pytest.approx(0, abs=1e-6)


def test_it_grows_with_a_shift_and_looks_both_ways() -> None:
    latents = _latents(3, 4, 4, seed=0)
    direction = torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0]).view(5, 1, 1)
    distances = [float(sliced_wasserstein(latents, latents + size * direction)) for size in (0.1, 0.5, 2.0)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert distances[2] == pytest.approx(20 * distances[0], rel=1e-3), "a shift of the whole set moves it all"
    other = _latents(3, 4, 4, seed=1)
    assert float(sliced_wasserstein(other, latents)) == pytest.approx(
        float(sliced_wasserstein(latents, other))
    )


def test_it_moves_no_random_state_and_carries_no_gradient() -> None:
    first, second = _latents(2, 4, 4, seed=0).requires_grad_(), _latents(2, 4, 4, seed=1)
    before = torch.get_rng_state()
    one = sliced_wasserstein(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not one.requires_grad
    torch.rand(3)
    assert torch.equal(sliced_wasserstein(first, second), one)
