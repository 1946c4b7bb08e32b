"""AdaptSegNet: an adversary on the predicted class maps."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.adversary import SOURCE, TARGET, Adversary, DomainMaps, output_adversary
from iccld.adaptation.method import (
    Batch,
    StepResult,
    Student,
    SupervisedLoss,
    TimeSampling,
    probabilities,
)
from iccld.models.iccld import ICCLD


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
        domains = torch.full((len(images),), TARGET)
        domains[:num_source] = SOURCE
        seen = DomainMaps(self.maps(probabilities(output, images)), output.times, domains)
        terms["adversarial"], adversary_logs = self.adversary.fool(discriminator, seen, step)
        return StepResult(terms, logs | adversary_logs, seen.detach(), output.denoised)

    def maps(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """What the discriminator sees of class probabilities."""
        return classes
