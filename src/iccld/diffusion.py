"""Latent diffusion: the noise schedule and the deterministic sampler (docs/method.md, equations 3 to 6b).

The schedule is the cosine schedule without offset (Nichol & Dhariwal 2021) in continuous time:
alpha = cos(pi t / 2), sigma = sin(pi t / 2), t in [0, 1]. At t = 1 alpha is zero: a zero terminal signal-to-noise
ratio (Lin et al. 2024), so sampling may start from pure noise and a single step is already an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from iccld.compute import to_device

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(noisy latent b d h w, time b) → clean latent b d h w."""

Answer = Callable[[Tensor, Tensor], Tensor]
"""(noise n d h w of some samples, their rows n) → the model's answers to them at t = 1, n d h w."""


def signal_and_noise(time: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """Gives the scale of signal and of noise at each time: (alpha_t, sigma_t), with alpha² + sigma² = 1.

    Args:
        time: in [0, 1]; 0 is clean, 1 is pure noise (alpha is exactly 0 there).
    """
    angle = time * (math.pi / 2)
    alpha = torch.where(time >= 1, torch.zeros_like(angle), torch.cos(angle))
    return alpha.view(-1, 1, 1, 1), torch.sin(angle).view(-1, 1, 1, 1)


def add_noise(
    clean: Float[Tensor, "b d h w"], noise: Float[Tensor, "b d h w"], time: Float[Tensor, " b"]
) -> Float[Tensor, "b d h w"]:
    """Equation 3: z_t = alpha_t z_0 + sigma_t epsilon."""
    alpha, sigma = signal_and_noise(time)
    return alpha * clean + sigma * noise


def draw_times(num: int, *, share_at_one: float, device: torch.device | str = "cpu") -> Float[Tensor, " b"]:
    """Draws training times: 1 with probability ``share_at_one``, else uniform in [0, 1).

    Half the model's work is the one-step answer at t = 1, so it is trained for it explicitly.
    """
    times = torch.rand(num, device=device)
    at_one = torch.rand(num, device=device) < share_at_one
    return torch.where(at_one, torch.ones_like(times), times)


def self_aligned_state(
    answer: Answer,
    clean: Float[Tensor, "b d h w"],
    noise: Float[Tensor, "b d h w"],
    time: Float[Tensor, " b"],
    aligned: Bool[Tensor, " b"],
) -> Float[Tensor, "b d h w"]:
    """Equation 5: the noisy training state, from the model's own answer where ``aligned`` is set.

    Training noises the true latent; a sampler noises its own mistakes. Where ``aligned`` is set the state is
    built from the one-step answer to the same noise, which is exactly where the deterministic
    sampler stands at that time (after Ji et al. 2023, DDP).

    Args:
        answer: the model's one-step answer; called without gradient, for the samples that need it alone: at t = 1
            nothing is left of any answer.
        clean: z_0; rows whose ``aligned`` is set are not read.
        noise: epsilon.
        time: in [0, 1]; best on the CPU, as ``aligned``: how many answers are needed is asked here.
        aligned: which samples start from the model's own answer.
    """
    rows = (aligned & (time < 1)).nonzero()[:, 0]
    idle, rows, time = (to_device(x, clean.device) for x in (aligned & (time >= 1), rows, time))
    clean = torch.where(idle.view(-1, 1, 1, 1), torch.zeros_like(clean), clean)
    if len(rows):
        with torch.no_grad():
            own = answer(noise[rows], rows)
        clean = clean.index_copy(0, rows, own.to(clean.dtype))
    return add_noise(clean, noise, time)


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "b d h w"],
    num_steps: int,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "b d h w"]:
    """Deterministic sampling (DDIM, Song et al. 2021, eta = 0) from pure noise in evenly spaced times.

    Args:
        denoise: predicts z_0 from (z_t, t).
        noise: the state at t = 1, standard normal.
        num_steps: K ≥ 1; times are 1, (K−1)/K, …, 1/K, so every step is used ("trailing" spacing).
        reencode: equation 6b: what a predicted z_0 becomes before the next state is built from it, together with the
            noise that the sampler began with; None for plain DDIM.

    Returns:
        The last predicted z_0.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; sampling needs at least 1 step")
    state, clean = noise, noise
    for step in range(num_steps):
        time = noise.new_full((noise.shape[0],), 1 - step / num_steps)
        clean = denoise(state, time)
        if step + 1 < num_steps:
            if reencode is None:
                alpha, sigma = signal_and_noise(time)
                origin, implied_noise = clean, (state - alpha * clean) / sigma
            else:
                # Implied noise would hold what re-encoding changed in earlier steps.
                origin, implied_noise = reencode(clean), noise
            state = add_noise(origin, implied_noise, time - 1 / num_steps)
    return clean
