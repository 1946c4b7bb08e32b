from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from iccld.diffusion import add_noise, draw_times, sample, self_aligned_state, signal_and_noise


def _denoise(noisy: Tensor, time: Tensor) -> Tensor:
    """Any function of state and time will do."""
    return torch.tanh(0.7 * noisy.flip(1) + time.view(-1, 1, 1, 1)) - 0.2


def _answer(noise: Tensor, rows: Tensor) -> Tensor:
    """What that function says of pure noise."""
    assert len(noise) == len(rows)
    return _denoise(noise, torch.ones(len(noise)))


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_no_signal_at_the_end_and_no_noise_at_the_start() -> None:
    alpha, sigma = signal_and_noise(torch.tensor([0.0, 1.0]))
    assert alpha.flatten().tolist() == [1.0, 0.0]
    assert sigma.flatten().tolist() == [0.0, 1.0]


def test_noise_falls_and_signal_rises_towards_the_start() -> None:
    alpha, sigma = signal_and_noise(torch.linspace(0, 1, 50))
    assert bool((alpha.flatten().diff() < 0).all())
    assert bool((sigma.flatten().diff() > 0).all())


@given(st.floats(0, 1))
def test_unit_latents_keep_unit_variance_at_every_time(time: float) -> None:
    clean, noise = _normal(4, 8, 32, 32), _normal(4, 8, 32, 32, seed=1)
    noisy = add_noise(clean, noise, torch.full((4,), time))
    assert float(noisy.var()) == pytest.approx(1, abs=0.03)


def test_each_sample_has_its_own_time() -> None:
    clean, noise = _normal(3, 2, 4, 4), _normal(3, 2, 4, 4, seed=1)
    noisy = add_noise(clean, noise, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(noisy[0], clean[0])
    torch.testing.assert_close(noisy[1], (clean[1] + noise[1]) * 0.5**0.5)
    assert torch.equal(noisy[2], noise[2])


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_share_of_samples_at_pure_noise(share: float) -> None:
    torch.manual_seed(0)
    times = draw_times(4000, share_at_one=share)
    assert float((times == 1).float().mean()) == pytest.approx(share, abs=0.03)
    rest = times[times < 1]
    assert bool((rest >= 0).all())
    if share < 1:
        counts = torch.histc(rest, bins=4, min=0, max=1) / len(rest)
        torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.04, rtol=0)


@given(num_steps=st.integers(2, 12), seed=st.integers(0, 100))
def test_self_aligned_state_is_where_the_sampler_stands(num_steps: int, seed: int) -> None:
    noise = _normal(2, 4, 3, 5, seed=seed)
    visited: list[tuple[Tensor, Tensor]] = []

    def recording(noisy: Tensor, time: Tensor) -> Tensor:
        visited.append((noisy, time))
        return _denoise(noisy, time)

    sample(recording, noise, num_steps)
    state, time = visited[1]
    own = self_aligned_state(
        _answer, torch.full_like(noise, torch.nan), noise, time, torch.ones(2, dtype=torch.bool)
    )
    torch.testing.assert_close(own, state, atol=1e-5, rtol=1e-5)


def _reencode(clean: Tensor) -> Tensor:
    return clean.sign()


def test_self_aligned_state_is_where_the_sampler_stands_after_reencoding() -> None:
    noise = _normal(2, 4, 3, 5)
    visited: list[tuple[Tensor, Tensor]] = []

    def recording(noisy: Tensor, time: Tensor) -> Tensor:
        visited.append((noisy, time))
        return _denoise(noisy, time)

    sample(recording, noise, 5, _reencode)
    for before, (state, time) in pairwise(visited):
        # At every step the noise is the one that the sampler began with.
        expected = add_noise(_reencode(_denoise(*before)), noise, time)
        torch.testing.assert_close(state, expected)
    aligned = torch.ones(2, dtype=torch.bool)
    own = self_aligned_state(
        lambda n, rows: _reencode(_answer(n, rows)), noise, noise, visited[1][1], aligned
    )
    torch.testing.assert_close(own, visited[1][0])


def test_one_step_is_not_reencoded() -> None:
    def refuse(clean: Tensor) -> Tensor:
        raise AssertionError("called")

    noise = _normal(2, 4, 3, 5)
    assert torch.equal(sample(_denoise, noise, 1, refuse), sample(_denoise, noise, 1))


def test_answers_are_asked_only_where_something_is_left_of_them() -> None:
    noise, time = _normal(4, 2, 3, 3), torch.tensor([1.0, 0.5, 1.0, 0.2])
    asked: list[int] = []

    def answer(rows_noise: Tensor, rows: Tensor) -> Tensor:
        assert torch.equal(rows_noise, noise[rows])
        asked.extend(rows.tolist())
        return rows_noise

    state = self_aligned_state(
        answer, torch.full_like(noise, torch.nan), noise, time, torch.ones(4, dtype=torch.bool)
    )
    assert asked == [1, 3]
    assert torch.equal(state[0], noise[0])


def test_only_the_chosen_samples_are_self_aligned() -> None:
    clean, noise, time = _normal(2, 4, 3, 5), _normal(2, 4, 3, 5, seed=1), torch.tensor([0.3, 0.6])
    state = self_aligned_state(_answer, clean, noise, time, torch.tensor([True, False]))
    own = add_noise(_denoise(noise, torch.ones(2)), noise, time)
    torch.testing.assert_close(state[0], own[0])
    torch.testing.assert_close(state[1], add_noise(clean, noise, time)[1])


def test_self_alignment_sends_no_gradient_through_the_models_own_prediction() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    clean, noise = _normal(1, 2, 2, 2), _normal(1, 2, 2, 2, seed=1)
    state = self_aligned_state(
        lambda z, t: weight * z, clean, noise, torch.tensor([0.5]), torch.ones(1, dtype=torch.bool)
    )
    assert not state.requires_grad


def test_nothing_aligned_means_no_extra_pass() -> None:
    def refuse(noisy: Tensor, time: Tensor) -> Tensor:
        raise AssertionError("called")

    clean, noise = _normal(1, 2, 2, 2), _normal(1, 2, 2, 2, seed=1)
    state = self_aligned_state(refuse, clean, noise, torch.tensor([0.5]), torch.zeros(1, dtype=torch.bool))
    torch.testing.assert_close(state, add_noise(clean, noise, torch.tensor([0.5])))


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_a_perfect_denoiser_is_left_alone(num_steps: int) -> None:
    truth = _normal(2, 3, 4, 4)
    assert torch.equal(sample(lambda z, t: truth, _normal(2, 3, 4, 4, seed=1), num_steps), truth)


def test_sampling_times_are_trailing() -> None:
    times: list[float] = []

    def recording(noisy: Tensor, time: Tensor) -> Tensor:
        times.append(float(time[0]))
        return noisy

    sample(recording, _normal(1, 1, 1, 1), 4)
    assert times == [1.0, 0.75, 0.5, 0.25]


def test_sampling_needs_a_step() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sample(_denoise, _normal(1, 2, 1, 1), 0)
