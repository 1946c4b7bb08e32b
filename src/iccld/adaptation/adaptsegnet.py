"""AdaptSegNet: an adversary on the predicted class maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, DomainMaps, StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Student, probabilities
from iccld.models.iccld import ICCLD, TimeSampling


def output_adversary(input: Literal["probabilities", "self_information"]) -> Adversary:
    """The adversary on class maps as AdaptSegNet and ADVENT have it, from the first step on."""
    return Adversary(input, weight=0.001, warmup_steps=0, relieve=False, betas=(0.9, 0.99))


@dataclass(frozen=True)
class AdaptSegNet:
    """Output-space adversary (Tsai et al. 2018, "Learning to Adapt Structured Output Space").

    The single-level variant, with one class map at the image's size. docs/method.md compares it with the published
    code.

    Attributes:
        supervised: the loss of source images.
        time_sampling: how diffusion times are drawn, for a model with diffusion.
        adversary: on class maps.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    adversary: Adversary = field(default_factory=lambda: output_adversary("probabilities"))
    labeled_domain: str = "source"
    uses_target: bool = True

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the losses of source and target images from one pass."""
        images, num_source = batch.images, len(batch.images)
        if step >= self.adversary.start_step and batch.target_images is not None:
            images = torch.cat([images, batch.target_images])
        times, aligned = self.time_sampling(len(images))
        coder = self.supervised.needs_label_coder
        output = student(images, batch.labels, times, aligned, label_coder=coder, decode_all=True)
        terms, logs = self.supervised(output, batch.labels, slice(num_source), "source")
        if discriminator is None or len(images) == num_source:
            return StepResult(terms, logs, denoised=output.denoised)
        counts = (num_source, 0, len(images) - num_source)
        seen = DomainMaps(self.maps(probabilities(output, images)), output.times, counts)
        terms["adversarial"], more_logs, seen = self.adversary.segmenter_loss(discriminator, seen, step)
        return StepResult(terms, logs | more_logs, seen, output.denoised)

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """What the discriminator sees of class probabilities."""
        return classes
