"""What the training loop asks of a method, and the supervised loss that all methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.diffusion import draw_times
from iccld.losses import denoising_loss, segmentation_loss
from iccld.models.iccld import ICCLD, TrainingOutput

Student = Callable[[Tensor, Tensor, Tensor, Tensor], TrainingOutput]
"""The segmenter's training pass (:meth:`ICCLD.forward`), wrapped for distributed training or not."""


@dataclass
class Batch:
    """What the loaders give for one micro-batch, on the device.

    Attributes:
        images: labeled images, RGB in [0, 1].
        labels: their labels, 255 = ignore.
        target_images: unlabeled images, for methods that use the target.
        target_valid: pixels of these that may get a pseudo-label.
    """

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    target_images: Float[Tensor, "b 3 h w"] | None = None
    target_valid: Bool[Tensor, "b h w"] | None = None


@dataclass
class DomainLatents:
    """Denoised latents with their times and domains (0 source, 1 mixed, 2 target), for the discriminator."""

    latents: Float[Tensor, "n d h w"]
    times: Float[Tensor, " n"]
    domains: Int[Tensor, " n"]


@dataclass
class StepResult:
    """The segmenter's loss, figures to log, and latents for the discriminator (without gradient)."""

    loss: Float[Tensor, ""]
    logs: dict[str, Tensor] = field(default_factory=dict)
    domain_latents: DomainLatents | None = None


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
    def uses_discriminator(self) -> bool:
        """Whether there is an adversary."""
        ...

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the segmenter's loss of one micro-batch."""
        ...

    def discriminator_step(
        self, discriminator: nn.Module, latents: DomainLatents
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Computes the discriminator's loss, and figures to log."""
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

    def __call__(
        self,
        output: TrainingOutput,
        labels: Int[Tensor, "b h w"],
        rows: slice,
        domain: str,
        weights: Float[Tensor, "b h w"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Computes the loss of some rows of a training pass.

        Args:
            output: of the pass.
            labels: of those rows.
            rows: which of the labeled images.
            domain: for the names of the logged figures.
            weights: of the pixels, in [0, 1].
        """
        seg = segmentation_loss(output.logits[rows], labels, weights)
        denoising = denoising_loss(output.denoised[rows], output.clean[rows], weights)
        reconstruction = segmentation_loss(output.reconstruction[rows], labels, weights)
        loss = seg + self.denoising_weight * denoising + self.reconstruction_weight * reconstruction
        logs = {
            f"train/loss_seg_{domain}": seg.detach(),
            f"train/loss_denoising_{domain}": denoising.detach(),
            f"train/loss_reconstruction_{domain}": reconstruction.detach(),
        }
        return loss, logs


@dataclass(frozen=True)
class TimeSampling:
    """How training times and self-aligned samples are drawn.

    Attributes:
        share_at_one: share of samples at t = 1.
        self_aligned: share of labeled samples that start from the model's own prediction (equation 5).
    """

    share_at_one: float = 0.4
    self_aligned: float = 0.7

    def __call__(self, num: int, device: torch.device) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Draws times and the choice of self-aligned samples (from the CPU's generator, for any device)."""
        times = draw_times(num, share_at_one=self.share_at_one)
        return times.to(device), (torch.rand(num) < self.self_aligned).to(device)
