"""What the training loop asks of a method, and the supervised loss that all methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.adaptation.adversary import Adversary, DomainMaps
from iccld.labels import IGNORE
from iccld.losses import denoising_loss, segmentation_loss
from iccld.models.iccld import ICCLD, draw_times
from iccld.models.networks import TrainingOutput
from iccld.resizing import maps_to_size

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


@dataclass
class StepResult:
    """What a method computed for one micro-batch.

    Attributes:
        terms: the segmenter's losses by name, each with its weight; they are summed.
        logs: figures to log, without gradient.
        seen: what the discriminator is to learn from, without gradient.
        denoised: the latents that all terms but reconstruction pass through, to measure each term's pull there.
    """

    terms: dict[str, Float[Tensor, ""]]
    logs: dict[str, Tensor] = field(default_factory=dict)
    seen: DomainMaps | None = None
    denoised: Float[Tensor, "n d h w"] | None = None

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()


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


@dataclass(frozen=True)
class SupervisedLoss:
    """Equation 8: segmentation, denoising and reconstruction.

    Attributes:
        denoising_weight: of the latent denoising error.
        reconstruction_weight: of the reconstruction cross-entropy.
    """

    denoising_weight: float = 0.5
    reconstruction_weight: float = 0.5

    @property
    def needs_label_coder(self) -> bool:
        """Whether the training pass has to encode labels; without, this is plain cross-entropy."""
        return self.denoising_weight > 0 or self.reconstruction_weight > 0

    def __call__(
        self,
        output: TrainingOutput,
        labels: Int[Tensor, "b h w"],
        rows: slice,
        domain: str,
        weights: Float[Tensor, "b h w"] | None = None,
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Tensor]]:
        """Computes the losses of some rows of a training pass.

        Args:
            output: of the pass.
            labels: of those rows.
            rows: which of the labeled images.
            domain: for the names of the terms and the logged figures.
            weights: of the pixels, in [0, 1].

        Returns:
            The weighted terms, and the unweighted figures to log.
        """
        raw = {"seg": segmentation_loss(output.logits[rows], labels, weights)}
        shares = {
            "seg": 1.0,
            "denoising": self.denoising_weight,
            "reconstruction": self.reconstruction_weight,
        }
        if output.clean is not None and output.reconstruction is not None:
            # What has no label is no goal: its latent would be that of no class at all, which no answer can be.
            counted = (labels != IGNORE).float() if weights is None else weights * (labels != IGNORE)
            raw["denoising"] = denoising_loss(output.denoised[rows], output.clean[rows], counted)
            if len(output.reconstruction[rows]):
                raw["reconstruction"] = segmentation_loss(output.reconstruction[rows], labels, weights)
        terms = {f"{name}_{domain}": shares[name] * loss for name, loss in raw.items()}
        return terms, {f"train/loss_{name}_{domain}": loss.detach() for name, loss in raw.items()}


@dataclass(frozen=True)
class TimeSampling:
    """How training times and self-aligned samples are drawn.

    Attributes:
        share_at_one: share of samples at t = 1.
        self_aligned: share of labeled samples that start from the model's own prediction (equation 5).
    """

    share_at_one: float = 0.4
    self_aligned: float = 0.7

    def __call__(self, num: int) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Draws times and the choice of self-aligned samples, on the CPU: they steer the pass."""
        return draw_times(num, self.share_at_one, self.self_aligned)
