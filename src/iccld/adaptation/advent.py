"""ADVENT and MinEnt: target predictions are made as sure as source ones, by an adversary or directly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.adaptsegnet import AdaptSegNet, output_adversary
from iccld.adaptation.losses import Adversary, StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Student, probabilities
from iccld.models.iccld import ICCLD, TimeSampling
from iccld.models.networks import TrainingOutput


@dataclass(frozen=True)
class Advent(AdaptSegNet):
    """Entropy adversary (Vu et al. 2019, "ADVENT", AdvEnt): the discriminator sees −p log p of every class.

    The single-level variant, as ``AdaptSegNet``.
    """

    adversary: Adversary = field(default_factory=lambda: output_adversary("self_information"))

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """Weighted self-information."""
        return self_information(classes)


@dataclass(frozen=True)
class MinEnt:
    """Entropy minimization on the target (Vu et al. 2019, "ADVENT", MinEnt).

    Attributes:
        supervised: the loss of source images.
        time_sampling: how diffusion times are drawn, for a model with diffusion.
        weight: of the target's mean entropy (normalized by log k).
        start_step: steps on source alone.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    weight: float = 0.001
    start_step: int = 0
    labeled_domain: str = "source"
    uses_target: bool = True
    adversary: Adversary | None = None

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the losses of source and target images from one pass."""
        images, num_source = batch.images, len(batch.images)
        if step >= self.start_step and batch.target_images is not None:
            images = torch.cat([images, batch.target_images])
        times, aligned = self.time_sampling(len(images))
        coder = self.supervised.needs_label_coder
        output = student(images, batch.labels, times, aligned, label_coder=coder, decode_all=True)
        terms, logs = self.supervised(output, batch.labels, slice(num_source), "source")
        if len(images) > num_source:
            entropy = self.penalty(self.target_probabilities(output, images)[num_source:])
            terms["entropy_target"] = self.weight * entropy
            logs["train/loss_entropy_target"] = entropy.detach()
        return StepResult(terms, logs, denoised=output.denoised)

    def target_probabilities(
        self, output: TrainingOutput, images: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, "n k h2 w2"]:
        """The predictions whose entropy counts: at the images' size."""
        return probabilities(output, images)

    def penalty(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
        """The target's mean entropy in [0, 1]."""
        return entropy_loss(classes)


def self_information(probabilities: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Weighted self-information −p log p / log k of every class (Vu et al. 2019); its sum over k is the entropy."""
    # The clamp keeps the slope finite where a softmax underflowed.
    return torch.special.entr(probabilities.clamp_min(1e-30)) / math.log(max(2, probabilities.shape[1]))


def entropy_loss(probabilities: Float[Tensor, "b k h w"], charbonnier: float = 0.0) -> Float[Tensor, ""]:
    """Mean entropy in [0, 1] of predictions (Vu et al. 2019).

    Args:
        probabilities: of the classes.
        charbonnier: η > 0 gives (H² + 10⁻⁸)^η instead, which spares what is nearly sure (Yang & Soatto 2020;
            their paper has 0.001² in place of the 10⁻⁸ of their code).
    """
    entropy = self_information(probabilities).sum(dim=1)
    return ((entropy.square() + 1e-8) ** charbonnier if charbonnier > 0 else entropy).mean()
