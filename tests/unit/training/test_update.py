from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from iccld.adaptation.losses import StepResult
from iccld.adaptation.method import Batch
from iccld.config import OptimConfig, TrainConfig
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
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


# -- gradient shares --------------------------------------------------------------------------------


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
    sum(terms.values()).backward()  # the graph must not be freed
    assert torch.equal(weight.grad, torch.full_like(weight, 2 * (3 - 1)))


def test_terms_that_do_not_pass_the_latents_have_no_share() -> None:
    """Examples are the reconstruction loss and distances between image features."""
    weight = torch.ones(1, 2, 4, 4, requires_grad=True)
    denoised = 2 * weight
    shares = _shares({"seg": denoised.square().sum(), "aside": weight.sum()}, denoised)
    assert shares == {"train/gradient_share_seg": 1.0}


def test_methods_that_do_not_tell_their_latents_have_no_shares() -> None:
    weight = torch.ones(1, requires_grad=True)
    assert _shares({"seg": weight.sum()}, None) == {}


# -- several micro-batches --------------------------------------------------------------------------


class _Told:
    """A method whose loss is the value of the first label of a micro-batch."""

    adversary = None
    labeled_domain = "source"
    uses_target = False

    def segmenter_step(
        self, student: Any, teacher: Any, discriminator: Any, batch: Batch, step: int
    ) -> StepResult:
        assert batch.valid is not None
        told = batch.labels[0, 0, 0].float()
        weight = next(iter(student.parameters())).sum()
        logs = {"train/loss_seg_source": told}
        if told > 2:
            logs["train/only_some_have_it"] = told
        return StepResult({"seg": told + 0 * weight}, logs)


def test_logged_figures_are_the_mean_over_micro_batches() -> None:
    config = TrainConfig(steps=3, optim=OptimConfig(accumulation=3))
    fabric = Fabric(accelerator="cpu")
    model = ICCLD(CAMVID11, width=32, latent_channels=4)
    update = Update(config, fabric=fabric, model=model, discriminator=None, method=_Told())
    update.set_up()
    items: list[Any] = []
    for told in (1, 3, 5):
        labels = torch.full((1, 8, 8), told)
        labeled = {
            "image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            "label": labels,
            "valid": labels > 0,
            "name": ["a"],
        }
        items.append((labeled, None))
    logs = update(0, items)
    assert float(logs["train/loss"]) == float(logs["train/loss_seg_source"]) == 3
    assert float(logs["train/only_some_have_it"]) == 4
    assert update.first_failure() is None


class _Broken(_Told):
    def segmenter_step(
        self, student: Any, teacher: Any, discriminator: Any, batch: Batch, step: int
    ) -> StepResult:
        zero = 0 * next(iter(student.parameters())).sum()
        return StepResult({"seg": zero + 1, "consistency": zero + torch.nan}, {})


def test_the_term_that_is_not_finite_is_named() -> None:
    fabric = Fabric(accelerator="cpu")
    model = ICCLD(CAMVID11, width=32, latent_channels=4)
    update = Update(TrainConfig(steps=3), fabric=fabric, model=model, discriminator=None, method=_Broken())
    update.set_up()
    labels = torch.ones((1, 8, 8), dtype=torch.long)
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    update(0, [({"image": images, "label": labels, "valid": labels > 0, "name": ["a"]}, None)])
    failure = update.first_failure()
    assert failure is not None
    assert failure.describe() == "the loss of step 1 is nan (its term consistency is nan)"
