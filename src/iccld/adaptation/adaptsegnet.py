"""AdaptSegNet and ADVENT: an adversary on the predicted class maps, or on their entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, DomainMaps, StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Method, probabilities
from iccld.models.networks import TrainingOutput


def output_adversary(input: Literal["probabilities", "self_information"]) -> Adversary:
    """The adversary on class maps as AdaptSegNet and ADVENT have it, from the first step on."""
    return Adversary(input, weight=0.001, warmup_steps=0, relieve=False, betas=(0.9, 0.99))


@dataclass(frozen=True)
class AdaptSegNet(Method):
    """Output-space adversary (Tsai et al. 2018, "Learning to Adapt Structured Output Space").

    The single-level variant, with one class map at the image's size. docs/method.md compares it with the published
    code.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    uses_target: bool = True
    adversary: Adversary = field(default_factory=lambda: output_adversary("probabilities"))

    def has_started(self, step: int) -> bool:
        """As the adversary says."""
        return step >= self.adversary.start_step

    def adapt(
        self,
        result: StepResult,
        output: TrainingOutput,
        batch: Batch,
        discriminator: nn.Module | None,
        step: int,
    ) -> None:
        """Adds the adversarial loss."""
        if discriminator is None:
            return
        maps, num_source = self.maps(probabilities(output, batch.images)), len(batch.images)
        seen = DomainMaps(maps, output.times, (num_source, 0, len(maps) - num_source))
        loss, logs, result.domain_maps = self.adversary.segmenter_loss(discriminator, seen, step)
        result.terms["adversarial"] = loss
        result.logs |= logs

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """What the discriminator sees of class probabilities."""
        return classes


@dataclass(frozen=True)
class Advent(AdaptSegNet):
    """Entropy adversary (Vu et al. 2019, "ADVENT", AdvEnt): the discriminator sees −p log p of every class.

    The single-level variant, as ``AdaptSegNet``.
    """

    adversary: Adversary = field(default_factory=lambda: output_adversary("self_information"))

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """Weighted self-information."""
        return self_information(classes)


def self_information(probabilities: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Weighted self-information −p log p / log k of every class (Vu et al. 2019); its sum over k is the entropy."""
    # The clamp keeps the slope finite where a softmax underflowed.
    return torch.special.entr(probabilities.clamp_min(1e-30)) / math.log(max(2, probabilities.shape[1]))
