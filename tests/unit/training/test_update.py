from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from iccld.adaptation.method import StepResult
from iccld.training.update import Update, derive_seed


def test_seeds_differ_by_every_part_and_by_nothing_else() -> None:
    parts = list(product(range(3), range(20), range(3), range(4)))
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert seeds == [derive_seed(*part) for part in parts]
    assert derive_seed(1, 23) != derive_seed(12, 3)
    for seed in seeds[:50]:
        torch.manual_seed(seed)
        assert torch.initial_seed() == seed


# -- who pulls how hard -----------------------------------------------------------------------------


def _shares(terms: dict[str, Tensor], denoised: Tensor | None) -> dict[str, float]:
    update: Any = SimpleNamespace(fabric=Fabric(accelerator="cpu"))
    shares = Update._gradient_shares(update, StepResult(terms, denoised=denoised))
    return {name: float(value) for name, value in shares.items()}


def test_gradient_shares_are_those_of_the_norms() -> None:
    weight = torch.ones(2, 3, 4, 4, requires_grad=True)
    denoised = 2 * weight
    terms = {"near": 3 * denoised.sum(), "far": -denoised.sum(), "flat": 0 * denoised.sum()}
    shares = _shares(terms, denoised)
    assert shares == pytest.approx(
        {
            "train/gradient_share_near": 0.75,
            "train/gradient_share_far": 0.25,
            "train/gradient_share_flat": 0.0,
        }
    )
    assert weight.grad is None, "they must not add to the gradients of the step"
    sum(terms.values()).backward()  # the graph is still there
    assert torch.equal(weight.grad, torch.full_like(weight, 2 * (3 - 1)))


def test_terms_that_do_not_pass_the_latents_have_no_share() -> None:
    """The reconstruction, and distances between image features."""
    weight = torch.ones(1, 2, 4, 4, requires_grad=True)
    denoised = 2 * weight
    shares = _shares({"seg": denoised.square().sum(), "aside": weight.sum()}, denoised)
    assert shares == {"train/gradient_share_seg": 1.0}


def test_methods_that_do_not_tell_their_latents_have_no_shares() -> None:
    weight = torch.ones(1, requires_grad=True)
    assert _shares({"seg": weight.sum()}, None) == {}
