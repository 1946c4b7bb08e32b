"""Tests of adversarial training, with synthetic latents and discriminators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from iccld.adaptation.losses import (
    DOMAINS,
    MIXED,
    SOURCE,
    TARGET,
    Adversary,
    DomainMaps,
    domain_loss,
)
from iccld.models.networks import LatentDiscriminator, OutputDiscriminator


def _maps(domains: list[int], channels: int = 8, *, apart: float = 1.0, side: int = 8) -> DomainMaps:
    """Returns latents whose mean differs by domain. ``domains`` must be sorted."""
    assert domains == sorted(domains)
    torch.manual_seed(0)
    index = torch.tensor(domains)
    centers = apart * torch.randn(3, channels, 1, 1)
    maps = centers[index] + 0.3 * torch.randn(len(domains), channels, side, side)
    source, mixed, target = (domains.count(domain) for domain in range(3))
    return DomainMaps(maps, torch.rand(len(domains)), (source, mixed, target))


class _Names(nn.Module):
    """A discriminator that classifies a given fraction of each image's 100 patches correctly, the rest wrongly."""

    def __init__(self, domains: list[int], shares: list[float]) -> None:
        super().__init__()
        named = torch.tensor(domains)[:, None].repeat(1, 100)
        for row, share in enumerate(shares):
            named[row, round(100 * share) :] = (domains[row] + 1) % 3
        logits = 2 * nn.functional.one_hot(named, 3).float()
        self.logits = nn.Parameter(logits.movedim(2, 1).reshape(len(domains), 3, 10, 10))

    def forward(self, maps: Tensor, times: Tensor) -> Tensor:
        return self.logits + 0 * maps.sum()


@pytest.mark.parametrize(
    ("domains", "shares", "relief"),
    [
        ([SOURCE, TARGET], [1 / 3, 1 / 3], 1.0),  # chance
        ([SOURCE, TARGET], [0.0, 0.0], 1.0),
        ([SOURCE, TARGET], [0.9, 0.9], 1.0),
        ([SOURCE, TARGET], [0.92, 0.92], 0.8),
        ([SOURCE, TARGET], [0.9, 1.0], 0.5),
        ([SOURCE, TARGET], [0.98, 0.98], 0.2),
        ([SOURCE, TARGET], [1.0, 1.0], 0.0),
        ([SOURCE, MIXED, TARGET], [1.0, 0.94, 1.0], 0.2),
        # Domains have equal weight: the accuracy is 0.98 over patches, but 0.9 as the mean over domains.
        ([SOURCE] * 9 + [TARGET], [1.0] * 9 + [0.8], 1.0),
        ([SOURCE] * 9 + [TARGET], [1.0] * 9 + [0.9], 0.5),
    ],
)
def test_relief_loosens_a_discriminator_that_wins(
    domains: list[int], shares: list[float], relief: float
) -> None:
    discriminator, seen = _Names(domains, shares), _maps(domains)
    loss, logs, _ = Adversary(weight=0.3, warmup_steps=0).segmenter_loss(discriminator, seen, step=0)
    assert float(logs["train/adversarial_relief"]) == pytest.approx(relief, abs=1e-4)
    others = discriminator.logits[domains.count(SOURCE) :].detach()
    plain = domain_loss(others, (len(others), 0, 0))
    assert float(logs["train/loss_adversarial"]) == pytest.approx(float(plain), rel=1e-5)
    assert float(loss) == pytest.approx(0.3 * relief * float(plain), abs=1e-4)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.0), (19, 0.0), (20, 0.1), (24, 0.5), (29, 1.0), (500, 1.0)]
)
def test_weight_rises_from_the_start(step: int, share: float) -> None:
    adversary = Adversary(weight=0.5, start_step=20, warmup_steps=10)
    assert adversary.ramp(step) == pytest.approx(share)
    seen = _maps([SOURCE, TARGET])
    torch.manual_seed(1)
    loss, logs, _ = adversary.segmenter_loss(LatentDiscriminator(8, width=16), seen, step)
    assert float(logs["train/adversarial_relief"]) == 1
    assert float(loss.detach()) == pytest.approx(0.5 * share * float(logs["train/loss_adversarial"]))


def test_without_warmup_the_weight_is_there_at_once() -> None:
    assert [Adversary(start_step=5, warmup_steps=0).ramp(step) for step in (4, 5)] == [0.0, 1.0]


@pytest.mark.parametrize("kind", [LatentDiscriminator, OutputDiscriminator])
def test_who_learns_from_what(kind: type[nn.Module]) -> None:
    """``segmenter_loss`` gives gradients to the segmenter only, ``discriminator_loss`` to the discriminator only."""
    torch.manual_seed(1)
    discriminator, seen = kind(8, width=16), _maps([SOURCE, MIXED, TARGET], apart=0.1, side=32)
    if kind is OutputDiscriminator:  # has no mixed domain
        seen.counts = (1, 0, 2)
    leaf = seen.maps.requires_grad_()
    loss, logs, kept = Adversary(warmup_steps=0).segmenter_loss(discriminator, seen, step=0)
    loss.backward()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.requires_grad for p in discriminator.parameters())
    assert leaf.grad is not None
    assert [bool(rows.any()) for rows in leaf.grad] == [False, True, True], "source maps are left alone"
    assert not any(value.requires_grad for value in logs.values())

    leaf.grad = None
    assert torch.equal(kept.maps, seen.maps)
    assert torch.equal(kept.times, seen.times)
    assert kept.counts == seen.counts
    loss, logs = Adversary().discriminator_loss(discriminator, kept)
    loss.backward()
    assert leaf.grad is None
    assert all(p.grad is not None for p in discriminator.parameters())
    assert sum(float(p.grad.abs().sum()) for p in discriminator.parameters() if p.grad is not None) > 0
    assert not any(value.requires_grad for value in logs.values())


def test_fooling_turns_the_answer_towards_source() -> None:
    """Optimized latents are classified as source."""
    torch.manual_seed(1)
    discriminator, seen = LatentDiscriminator(8, width=16), _maps([SOURCE, TARGET])
    leaf = seen.maps.requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=0.1)
    for _ in range(30):
        loss, _, _ = Adversary(weight=1.0, warmup_steps=0).segmenter_loss(discriminator, seen, step=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    named = discriminator(leaf, seen.times)[1].argmax(dim=0)
    assert bool((named == SOURCE).all())


@pytest.mark.parametrize("kind", [LatentDiscriminator, OutputDiscriminator])
def test_discriminator_learns_to_tell_domains_apart(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    names = ("source", "target") if kind is OutputDiscriminator else ("source", "mixed", "target")
    index = [DOMAINS.index(name) for name in names for _ in range(2)]
    discriminator, seen = kind(8, width=16), _maps(index, side=32)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss, logs = Adversary().discriminator_loss(discriminator, seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    for domain in names:
        assert float(logs[f"train/discriminator_accuracy_{domain}"]) == 1
    assert float(logs["train/loss_discriminator"]) == losses[-1]


def test_accuracies_are_of_the_domains_that_are_there() -> None:
    domains = [SOURCE, SOURCE, TARGET]
    _, logs = Adversary().discriminator_loss(_Names(domains, [0.5, 0.9, 0.2]), _maps(domains))
    assert "train/discriminator_accuracy_mixed" not in logs
    assert float(logs["train/discriminator_accuracy_source"]) == pytest.approx(0.7)
    assert float(logs["train/discriminator_accuracy_target"]) == pytest.approx(0.2)
