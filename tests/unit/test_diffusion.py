from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from iccld.adaptation.losses import TimeSampling
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD, add_noise, signal_and_noise
from iccld.models.networks import ImageFeatures

Denoise = Callable[[Tensor, Tensor], Tensor]


def _denoise(noisy: Tensor, time: Tensor) -> Tensor:
    """Any function of state and time will do."""
    return torch.tanh(0.7 * noisy.flip(1) + time.view(-1, 1, 1, 1)) - 0.2


class _Toy(ICCLD):
    """A model with a denoiser and a re-encoding of our choice."""

    def __init__(self, denoise: Denoise, reencode: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(CAMVID11, latent_channels=4, width=16, reencoding=reencode is not None)
        self._own_denoise, self._own_reencode = denoise, reencode

    def denoise(self, noisy: Tensor, time: Tensor, features: ImageFeatures) -> Tensor:
        return self._own_denoise(noisy, time)

    def reencode(self, latent: Tensor, features: ImageFeatures) -> tuple[Tensor, Tensor]:
        assert self._own_reencode is not None
        return self._own_reencode(latent), latent


def _no_features(num: int = 1) -> ImageFeatures:
    return ImageFeatures([], [], torch.zeros(num, 1, 1, 1), (64, 64), (64, 64))


def sample(
    denoise: Denoise, noise: Tensor, num_steps: int, reencode: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    return _Toy(denoise, reencode).sample(_no_features(), noise, num_steps)[0]


def noisy_state(
    denoise: Denoise,
    clean: Tensor,
    noise: Tensor,
    time: Tensor,
    aligned: Tensor,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    toy = _Toy(denoise, reencode)
    return toy._noisy_state(_no_features(len(noise)), clean, noise, time, aligned)


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
    times, aligned = TimeSampling(share, 0.7)(4000)
    assert float(aligned.float().mean()) == pytest.approx(0.7, abs=0.03)
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
    own = noisy_state(
        _denoise, torch.full_like(noise, torch.nan), noise, time, torch.ones(2, dtype=torch.bool)
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
    own = noisy_state(_denoise, noise, noise, visited[1][1], aligned, _reencode)
    torch.testing.assert_close(own, visited[1][0])


def test_one_step_is_not_reencoded() -> None:
    def refuse(clean: Tensor) -> Tensor:
        raise AssertionError("called")

    noise = _normal(2, 4, 3, 5)
    assert torch.equal(sample(_denoise, noise, 1, refuse), sample(_denoise, noise, 1))


def test_answers_are_asked_only_where_something_is_left_of_them() -> None:
    noise, time = _normal(4, 2, 3, 3), torch.tensor([1.0, 0.5, 1.0, 0.2])
    asked: list[Tensor] = []

    def denoise(noisy: Tensor, times: Tensor) -> Tensor:
        assert (times == 1).all()
        asked.append(noisy)
        return noisy

    aligned = torch.ones(4, dtype=torch.bool)
    state = noisy_state(denoise, torch.full_like(noise, torch.nan), noise, time, aligned)
    assert len(asked) == 1
    assert torch.equal(asked[0], noise[[1, 3]])
    assert torch.equal(state[0], noise[0])


def test_images_without_labels_are_always_self_aligned() -> None:
    noise, time = _normal(3, 4, 3, 5), torch.tensor([0.5, 0.5, 0.5])
    clean, aligned = _normal(1, 4, 3, 5, seed=1), torch.zeros(3, dtype=torch.bool)
    state = noisy_state(_denoise, clean, noise, time, aligned)
    own = add_noise(_denoise(noise, torch.ones(3)), noise, time)
    torch.testing.assert_close(state[:1], add_noise(clean, noise[:1], time[:1]))
    torch.testing.assert_close(state[1:], own[1:])
    assert not aligned.any(), "the caller's"


def test_only_the_chosen_samples_are_self_aligned() -> None:
    clean, noise, time = _normal(2, 4, 3, 5), _normal(2, 4, 3, 5, seed=1), torch.tensor([0.3, 0.6])
    state = noisy_state(_denoise, clean, noise, time, torch.tensor([True, False]))
    own = add_noise(_denoise(noise, torch.ones(2)), noise, time)
    torch.testing.assert_close(state[0], own[0])
    torch.testing.assert_close(state[1], add_noise(clean, noise, time)[1])


def test_self_alignment_sends_no_gradient_through_the_models_own_prediction() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    clean, noise = _normal(1, 2, 2, 2), _normal(1, 2, 2, 2, seed=1)
    state = noisy_state(
        lambda z, t: weight * z, clean, noise, torch.tensor([0.5]), torch.ones(1, dtype=torch.bool)
    )
    assert not state.requires_grad


def test_nothing_aligned_means_no_extra_pass() -> None:
    def refuse(noisy: Tensor, time: Tensor) -> Tensor:
        raise AssertionError("called")

    clean, noise = _normal(1, 2, 2, 2), _normal(1, 2, 2, 2, seed=1)
    state = noisy_state(refuse, clean, noise, torch.tensor([0.5]), torch.zeros(1, dtype=torch.bool))
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
