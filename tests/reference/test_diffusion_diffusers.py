"""Comparison of schedule and sampler with DDIM of the diffusers library."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD, signal_and_noise
from iccld.models.networks import ImageFeatures

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations in modules of other libraries
    from diffusers import DDIMScheduler

GRID = 1000


def _scheduler(num_steps: int) -> DDIMScheduler:
    """Builds DDIM on a fine grid of ICCLD's schedule, where the index i means t = (i + 1) / GRID."""
    times = torch.arange(0, GRID + 1, dtype=torch.float64) / GRID
    alpha, _ = signal_and_noise(times)
    alpha_bar = alpha.flatten().square()
    betas = 1 - alpha_bar[1:] / alpha_bar[:-1]
    assert betas[-1] == 1, "zero terminal signal-to-noise ratio"
    scheduler = DDIMScheduler(
        num_train_timesteps=GRID,
        trained_betas=betas.tolist(),
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    # The library multiplies a thousand float32 factors. The exact products replace the library's rounded products.
    torch.testing.assert_close(scheduler.alphas_cumprod, alpha_bar[1:].float(), atol=1e-4, rtol=0)
    scheduler.alphas_cumprod = alpha_bar[1:]
    scheduler.set_timesteps(num_steps)
    return scheduler


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_sampler_is_ddim(num_steps: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(seed)
    channels = 3
    matrix, drift = torch.randn(2, channels, channels, generator=generator, dtype=torch.float64) / 2
    offset = torch.randn(channels, 1, 1, generator=generator, dtype=torch.float64)

    def denoise(noisy: Tensor, time: Tensor) -> Tensor:
        mixed = torch.einsum("cd,bdhw->bchw", matrix, noisy)
        drifted = torch.einsum("cd,bdhw->bchw", drift, noisy)
        return mixed + time.view(-1, 1, 1, 1) * drifted + offset

    noise = torch.randn(2, channels, 4, 5, generator=generator, dtype=torch.float64)
    scheduler = _scheduler(num_steps)
    state = noise
    for index in scheduler.timesteps:
        time = torch.full((2,), (int(index) + 1) / GRID, dtype=torch.float64)
        state = scheduler.step(denoise(state, time), int(index), state, eta=0.0).prev_sample
    model = ICCLD(CAMVID11, latent_channels=channels, width=16, reencoding=False)
    monkeypatch.setattr(model, "denoise", lambda noisy, time, features: denoise(noisy, time))
    features = ImageFeatures([], [], torch.zeros(2, 1, 1, 1), (64, 64), (64, 64))
    torch.testing.assert_close(model.sample(features, noise, num_steps)[0], state, rtol=1e-9, atol=1e-9)


def test_schedule_is_the_cosine_without_offset() -> None:
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, sigma = signal_and_noise(times)
    expected = [math.cos(math.pi * float(t) / 2) for t in times[:-1]] + [0.0]
    torch.testing.assert_close(alpha.flatten(), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(11, 1, 1, 1, dtype=torch.float64))
