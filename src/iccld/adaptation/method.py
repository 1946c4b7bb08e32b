"""Base class of all training methods, and training without adaptation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.adaptation.losses import (
    Adversary,
    StepResult,
    SupervisedLoss,
    TimeSampling,
    maps_to_size,
)
from iccld.config import TrainConfig
from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput

Student = Callable[..., TrainingOutput]
"""Function that runs a training pass: ``ICCLD.forward``, or a wrapper of this method for distributed training."""


@dataclass
class Batch:
    """One micro-batch from the loaders, on the device.

    Attributes:
        images: Labeled RGB images in [0, 1].
        labels: Label maps of ``images``, 255 = ignore.
        target_images: Unlabeled RGB images in [0, 1], for methods that use the target.
        target_valid: Mask of the target pixels that can get a pseudo-label.
        valid: Mask of the pixels of ``images`` that are not padding. ``None`` without padding.
        num_target_labeled: Number of labeled target images, which are the last of ``images``.
    """

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    target_images: Float[Tensor, "b 3 h w"] | None = None
    target_valid: Bool[Tensor, "b h w"] | None = None
    valid: Bool[Tensor, "b h w"] | None = None
    num_target_labeled: int = 0


def supervised_losses(config: TrainConfig) -> tuple[SupervisedLoss, TimeSampling]:
    """Builds the loss of labeled images and the distribution of the diffusion times from the settings of a run."""
    a = config.adaptation
    return (
        SupervisedLoss(a.denoising_weight, a.reconstruction_weight),
        TimeSampling(a.share_at_one, a.self_aligned),
    )


def probabilities(output: TrainingOutput, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "n k h w"]:
    """Interpolates the logits of a training pass to the size of the images, and returns class probabilities."""
    return maps_to_size(output.logits.float(), images.shape[-2:]).softmax(dim=1)


@dataclass(frozen=True)
class Method:
    """Training method with a supervised loss on labeled images (equation 8).

    Subclasses add losses for unlabeled target images. Random numbers come from torch's global generator, which the
    training loop seeds at each step.

    Attributes:
        supervised: Loss of labeled images.
        time_sampling: Distribution of the diffusion times. It has no effect on a model without diffusion.
        labeled_domain: Domain whose labels are used: ``source`` or, for the oracle, ``target``.
        uses_target: Whether batches need unlabeled target images.
        adversary: Adversarial loss, or ``None`` for methods without an adversary.
        num_branches: Number of image batches that pass the student per step, for the memory estimate of methods of
            other packages.
    """

    num_branches: ClassVar[int] = 2
    supervised: SupervisedLoss = field(default_factory=SupervisedLoss)
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    labeled_domain: str = "source"
    uses_target: bool = False
    adversary: Adversary | None = None

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> Method:
        """Builds the method with the settings of a run. Subclasses with further settings override this method.

        Args:
            config: Settings of the run.
            label_space: Classes of the model.

        Raises:
            InputError: A file that the method needs, such as pretrained weights, cannot be read.
        """
        return cls(*supervised_losses(config))

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the segmenter's losses of one micro-batch in a single pass over all images."""
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
        """Returns whether target images are used at a step. Subclasses that start later override this method."""
        return True

    def adapt(
        self,
        result: StepResult,
        output: TrainingOutput,
        batch: Batch,
        discriminator: nn.Module | None,
        step: int,
    ) -> None:
        """Adds the losses of the target images to ``result``.

        In ``output``, the rows of the target images follow the rows of the source images.
        """


@dataclass(frozen=True)
class SourceOnly(Method):
    """Supervised training on source images without adaptation, as a baseline for adaptation methods."""


@dataclass(frozen=True)
class Oracle(Method):
    """Supervised training on the labels of the target, as an upper bound for adaptation methods."""

    labeled_domain: str = "target"
