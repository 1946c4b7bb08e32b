"""What the training loop asks of a method, and training without adaptation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, StepResult, SupervisedLoss, maps_to_size
from iccld.models.iccld import ICCLD, TimeSampling
from iccld.models.networks import TrainingOutput

Student = Callable[..., TrainingOutput]
"""The segmenter's training pass (``ICCLD.forward``), wrapped for distributed training or not."""


@dataclass
class Batch:
    """What the loaders give for one micro-batch, on the device.

    Attributes:
        images: labeled images, RGB in [0, 1].
        labels: their labels, 255 = ignore.
        target_images: unlabeled images, for methods that use the target.
        target_valid: pixels of these that may get a pseudo-label.
        valid: pixels of the labeled images that are no padding; None where none is.
    """

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    target_images: Float[Tensor, "b 3 h w"] | None = None
    target_valid: Bool[Tensor, "b h w"] | None = None
    valid: Bool[Tensor, "b h w"] | None = None


def probabilities(output: TrainingOutput, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "n k h w"]:
    """Class probabilities at the size of images, of logits that are interpolated to it first."""
    return maps_to_size(output.logits.float(), images.shape[-2:]).softmax(dim=1)


@dataclass(frozen=True)
class Method:
    """A training method: equation 8 on labeled images, and what descendants add for unlabeled target images.

    Randomness comes from torch's global generator, which the loop seeds at each step.

    Attributes:
        supervised: the loss of labeled images.
        time_sampling: how diffusion times are drawn, for a model with diffusion.
        labeled_domain: whose labels are trained on: ``source`` or, for the oracle, ``target``.
        uses_target: whether batches need unlabeled target images.
        adversary: None where there is none.
    """

    supervised: SupervisedLoss = field(default_factory=SupervisedLoss)
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    labeled_domain: str = "source"
    uses_target: bool = False
    adversary: Adversary | None = None

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the segmenter's losses of one micro-batch, of all images in one pass."""
        images, num_labeled = batch.images, len(batch.images)
        if self.uses_target and batch.target_images is not None and self.has_started(step):
            images = torch.cat([images, batch.target_images])
        times, aligned = self.time_sampling(len(images))
        coder = self.supervised.needs_label_coder
        output = student(images, batch.labels, times, aligned, label_coder=coder, decode_all=True)
        terms, logs = self.supervised(output, batch.labels, slice(num_labeled), self.labeled_domain)
        result = StepResult(terms, logs, denoised=output.denoised)
        if len(images) > num_labeled:
            self.adapt(result, output, batch, discriminator, step)
        return result

    def has_started(self, step: int) -> bool:
        """Whether target images take part in a step."""
        return True

    def adapt(
        self,
        result: StepResult,
        output: TrainingOutput,
        batch: Batch,
        discriminator: nn.Module | None,
        step: int,
    ) -> None:
        """Adds the losses of the target images, whose rows follow those of the source images, to ``result``."""


class SourceOnly(Method):
    """Supervised training without any adaptation: the baseline, or on the target's labels the oracle."""
