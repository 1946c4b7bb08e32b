"""The adversary that several methods share: a discriminator names domains, the segmenter learns to mislead it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.compute import to_device
from iccld.losses import domain_loss

DOMAINS = ("source", "mixed", "target")
SOURCE, MIXED, TARGET = range(3)

AdversaryInput = Literal["latents", "features", "probabilities", "self_information"]
"""What a discriminator looks at: ẑ₀, the denoiser's last features, or the class maps of output-space methods."""

# From this share of rightly named patches on the discriminator counts as winning, and its hold is loosened.
_WINNING = 0.9


def output_adversary(input: Literal["probabilities", "self_information"]) -> Adversary:
    """The adversary on class maps as AdaptSegNet and ADVENT have it, from the first step on."""
    return Adversary(input, weight=0.001, warmup_steps=0, relieve=False, betas=(0.9, 0.99))


@dataclass
class DomainMaps:
    """What the discriminator sees of n images.

    Attributes:
        maps: latents, features or class maps.
        times: diffusion time of each.
        domains: index into ``DOMAINS`` of each, on the CPU: which rows are whose is known beforehand.
    """

    maps: Float[Tensor, "n c h w"]
    times: Float[Tensor, " n"]
    domains: Int[Tensor, " n"]

    def detach(self) -> DomainMaps:
        """The same without gradient, for the discriminator's own step."""
        return DomainMaps(self.maps.detach(), self.times, self.domains)

    def take(self, chosen: Bool[Tensor, " n"]) -> DomainMaps:
        """Some of the images; ``chosen`` is on the CPU."""
        return DomainMaps(select(self.maps, chosen), select(self.times, chosen), self.domains[chosen])


def select(rows: Float[Tensor, "n *shape"], chosen: Bool[Tensor, " n"]) -> Float[Tensor, "m *shape"]:
    """Rows by a mask on the CPU; a mask on a GPU would be waited for."""
    return rows[to_device(chosen.nonzero()[:, 0], rows.device)]


@dataclass(frozen=True)
class Adversary:
    """Equations 9 and 10.

    Attributes:
        input: what the discriminator looks at.
        weight: of the adversarial loss when fully warmed up.
        start_step: the first step with an adversary.
        warmup_steps: over which the weight rises linearly.
        relieve: lower the weight while the discriminator wins outright.
        betas: of the discriminator's optimizer; AdaptSegNet and ADVENT have 0.9 and 0.99.
    """

    input: AdversaryInput = "latents"
    weight: float = 0.02
    start_step: int = 0
    warmup_steps: int = 300
    relieve: bool = True
    betas: tuple[float, float] = (0.5, 0.99)

    def ramp(self, step: int) -> float:
        """Share of the weight at a step, in [0, 1]."""
        return min(1.0, max(0, step - self.start_step + 1) / max(1, self.warmup_steps))

    def fool(
        self, discriminator: nn.Module, seen: DomainMaps, step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Equation 10: the segmenter's loss, weighted; mixed and target images are to pass for source ones.

        Where the discriminator names nine patches in ten rightly (on average over the domains) it has won: its
        gradient then says little about what to change, and pushes all the harder. The weight is relieved in
        proportion, down to nothing at ten in ten.
        """
        # The discriminator's own weights take no part: it learns in its own step.
        discriminator.requires_grad_(False)
        logits = discriminator(seen.maps, seen.times)
        discriminator.requires_grad_(True)
        others = seen.domains != SOURCE
        loss = domain_loss(select(logits, others), torch.full_like(seen.domains[others], SOURCE))
        relief = torch.ones_like(loss)
        if self.relieve:
            accuracies = torch.stack(list(_accuracies(logits.detach(), seen.domains).values()))
            relief = ((1 - accuracies.mean()) / (1 - _WINNING)).clamp(max=1)
        logs = {"train/loss_adversarial": loss.detach(), "train/adversarial_relief": relief}
        return self.weight * self.ramp(step) * relief * loss, logs

    def discriminate(
        self, discriminator: nn.Module, seen: DomainMaps
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Equation 9: the discriminator's loss, and its accuracy on each domain."""
        logits = discriminator(seen.maps, seen.times)
        loss = domain_loss(logits, seen.domains)
        logs = {"train/loss_discriminator": loss.detach()}
        for domain, accuracy in _accuracies(logits.detach(), seen.domains).items():
            logs[f"train/discriminator_accuracy_{domain}"] = accuracy
        return loss, logs


def _accuracies(logits: Tensor, domains: Tensor) -> dict[str, Tensor]:
    """Share of rightly named patches of each domain that is present."""
    right = logits.argmax(dim=1) == to_device(domains.view(-1, 1, 1), logits.device)
    hits = right.float().mean(dim=(1, 2))
    chosen = {domain: select(hits, domains == index) for index, domain in enumerate(DOMAINS)}
    return {domain: of_domain.mean() for domain, of_domain in chosen.items() if len(of_domain)}
