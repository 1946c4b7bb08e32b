"""AdaptSegNet: an adversary on the predicted class maps."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.adversary import SOURCE, TARGET, Adversary, DomainMaps
from iccld.adaptation.method import Batch, StepResult, Student, SupervisedLoss, TimeSampling
from iccld.models.iccld import ICCLD


@dataclass(frozen=True)
class AdaptSegNet:
    """Output-space adversary (Tsai et al. 2018, "Learning to Adapt Structured Output Space").

    Deviations: the single-level variant (one class map, not two), with class maps at the decoder's stride, not the
    image's; a discriminator of three strided convolutions instead of five, for smaller images, that ends in a
    softmax over domain names instead of a sigmoid; its rate and betas, a late start and a warm-up of the weight
    are those of all adversaries here, optimizer and steps those of all methods.

    Attributes:
        supervised: the loss of source images.
        time_sampling: how diffusion times are drawn, for a model with diffusion.
        adversary: on class maps.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    adversary: Adversary = field(
        default_factory=lambda: Adversary("probabilities", weight=0.001, relieve=False)
    )
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
        seen = DomainMaps(self.maps(output.logits.softmax(dim=1)), output.times, domains)
        terms["adversarial"], adversary_logs = self.adversary.fool(discriminator, seen, step)
        return StepResult(terms, logs | adversary_logs, seen.detach(), output.denoised)

    def maps(self, probabilities: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """What the discriminator sees of class probabilities."""
        return probabilities
