"""AdaptSegNet and ADVENT: adversaries on predicted class probabilities or on their self-information."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, DomainMaps, StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Method, probabilities, supervised_losses
from iccld.config import TrainConfig
from iccld.labels import LabelSpace
from iccld.models.networks import TrainingOutput


def output_adversary(input: Literal["probabilities", "self_information"]) -> Adversary:
    """Returns an adversary with the settings of AdaptSegNet and ADVENT. The adversary is active from the first step."""
    return Adversary(input, weight=0.001, warmup_steps=0, relieve=False, betas=(0.9, 0.99))


@dataclass(frozen=True)
class AdaptSegNet(Method):
    """Method with an output-space adversary (Tsai et al. 2018, "Learning to Adapt Structured Output Space").

    This is the single-level variant: the discriminator classifies only the final predictions, at the image's size.
    docs/method.md compares this variant with the published code.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    uses_target: bool = True
    adversary: Adversary = field(default_factory=lambda: output_adversary("probabilities"))

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> AdaptSegNet:
        """Builds the method with the settings of a run."""
        method = cls(*supervised_losses(config))
        return replace(method, adversary=method.adversary.scheduled(config))

    def has_started(self, step: int) -> bool:
        """Returns whether the adversary is active at a step."""
        return step >= self.adversary.start_step

    def adapt(
        self,
        result: StepResult,
        output: TrainingOutput,
        batch: Batch,
        discriminator: nn.Module | None,
        step: int,
    ) -> None:
        """Adds the adversarial loss to ``result``."""
        if discriminator is None:
            return
        maps, num_source = self.maps(probabilities(output, batch.images)), len(batch.images)
        seen = DomainMaps(maps, output.times, (num_source, 0, len(maps) - num_source))
        loss, logs, result.domain_maps = self.adversary.segmenter_loss(discriminator, seen, step)
        result.terms["adversarial"] = loss
        result.logs |= logs

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """Converts class probabilities to the input of the discriminator. Here, the probabilities are not changed."""
        return classes


@dataclass(frozen=True)
class Advent(AdaptSegNet):
    """Method with an entropy adversary (Vu et al. 2019, "ADVENT", AdvEnt).

    The input of the discriminator is the weighted self-information −p log p / log k of each class probability p. Like
    ``AdaptSegNet``, this is the single-level variant.
    """

    adversary: Adversary = field(default_factory=lambda: output_adversary("self_information"))

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """Converts class probabilities to the input of the discriminator: their weighted self-information."""
        return self_information(classes)


def self_information(probabilities: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Returns the weighted self-information −p log p / log k of every class (Vu et al. 2019).

    The sum over the k classes is the entropy divided by log k. It is therefore in [0, 1].
    """
    # The clamp keeps the gradient finite where the softmax underflows.
    return torch.special.entr(probabilities.clamp_min(1e-30)) / math.log(max(2, probabilities.shape[1]))
