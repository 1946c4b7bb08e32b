"""What the training loop asks of a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, StepResult, maps_to_size
from iccld.models.iccld import ICCLD
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


def probabilities(output: TrainingOutput, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h w"]:
    """Class probabilities at the images' size, of logits that are interpolated to it first."""
    logits = maps_to_size(output.logits.float(), (images.shape[-2], images.shape[-1]))
    return logits.softmax(dim=1)


@runtime_checkable
class Method(Protocol):
    """A training method. Randomness comes from torch's global generator, which the loop seeds at each step."""

    @property
    def labeled_domain(self) -> str:
        """Which data set's labels are trained on: ``source`` or, for the oracle, ``target``."""
        ...

    @property
    def uses_target(self) -> bool:
        """Whether batches need unlabeled target images."""
        ...

    @property
    def adversary(self) -> Adversary | None:
        """The adversary, where there is one."""
        ...

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the segmenter's losses of one micro-batch."""
        ...
