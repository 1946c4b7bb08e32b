"""Losses of the supervised and adversarial branches (docs/method.md, equations 8 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.config import TrainConfig
from iccld.labels import IGNORE
from iccld.models.networks import TrainingOutput

DOMAINS = ("source", "mixed", "target")
SOURCE, MIXED, TARGET = range(3)

AdversaryInput = Literal["latents", "features", "probabilities", "self_information"]
"""Input of a discriminator: latents ẑ₀, the denoiser's last features, class probabilities or their self-information."""

_WINNING = 0.9  # accuracy of the discriminator above which the weight of the adversarial loss is reduced


def maps_to_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolates feature maps or logits to a finer stride, for example to stride 1 (the size of the image).

    The scale factor is a power of two. The result is cropped to ``size``, because the last cells of the maps can extend
    beyond the image. ``size`` is the height and width of the image divided by the finer stride, rounded up.
    """
    cells = maps.shape[2:]
    ratios = [-(-side // count) for side, count in zip(size, cells, strict=True)]
    factor = 1 << (max(ratios) - 1).bit_length()
    if factor > 1:
        covered = (cells[0] * factor, cells[1] * factor)
        maps = F.interpolate(maps, size=covered, mode="bilinear", align_corners=False)
    return maps[..., : size[0], : size[1]]


def segmentation_loss(
    logits: Float[Tensor, "b k h w"],
    labels: Int[Tensor, "b h2 w2"],
    weights: Float[Tensor, "b h2 w2"] | None = None,
) -> Float[Tensor, ""]:
    """Returns the weighted cross-entropy, divided by the number of labeled pixels.

    Logits coarser than stride 2 are interpolated to stride 2. The logits at stride 2 are compared with one label of
    every 2×2 block. The position of this label in the block is drawn for each call, because a fixed position would
    shift the labels by half a pixel. The loss takes a quarter of the time of a loss at full resolution. It is not
    divided by the sum of the weights, so low weights reduce the loss (Tranheden et al. 2021, DACS).

    Args:
        logits: Logits at some stride.
        labels: Label maps at full resolution, 255 = ignore.
        weights: Pixel weights in [0, 1] at full resolution. ``None`` means 1.
    """
    height, width = labels.shape[-2:]
    half = (-(-height // 2), -(-width // 2))
    if logits.shape[-2] < half[0]:
        logits = maps_to_size(logits.float(), half)
    if logits.shape[-2] == half[0] and height > 1:
        phase = torch.randint(0, 2, (2,)).tolist()
        labels = _take_phase(labels, phase)
        weights = _take_phase(weights, phase) if weights is not None else None
    losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    if weights is not None:
        losses = losses * weights
    return losses.sum() / (labels != IGNORE).sum().clamp_min(1)


def _take_phase(grid: Tensor, phase: list[int]) -> Tensor:
    padded = F.pad(grid.float(), (0, grid.shape[-1] % 2, 0, grid.shape[-2] % 2), value=float(IGNORE))
    return padded[..., phase[0] :: 2, phase[1] :: 2].to(grid.dtype)


def denoising_loss(
    denoised: Float[Tensor, "b d h w"],
    clean: Float[Tensor, "b d h w"],
    weights: Float[Tensor, "b h2 w2"] | None = None,
    stride: int = 8,
) -> Float[Tensor, ""]:
    """Returns the mean squared error between predicted and true latents, without gradient for the true latents.

    With weights, every pixel contributes its weight times the error of its cell. The loss is the mean of these values
    over all pixels of the images. Where a cell extends beyond the image, only its pixels inside the image are counted.

    Args:
        denoised: Predicted latents z_0.
        clean: True latents z_0.
        weights: Weights of pixels. With ``None``, the loss is the mean over all cells.
        stride: Side of a latent cell in pixels.
    """
    errors = (denoised.float() - clean.detach().float()).square().mean(dim=1)
    if weights is None:
        return errors.mean()
    height, width = weights.shape[-2:]
    padding = (0, errors.shape[-1] * stride - width, 0, errors.shape[-2] * stride - height)
    of_cells = F.avg_pool2d(F.pad(weights.float(), padding)[:, None], stride)[:, 0]
    return (errors * of_cells).sum() * stride**2 / weights.numel()


@dataclass(frozen=True)
class TimeSampling:
    """Distribution of the random diffusion times in training, with extra samples at t = 1.

    Prediction with one step uses only t = 1, so a large fraction of the samples is trained at t = 1.

    Attributes:
        share_at_one: Fraction of the samples at t = 1. The times of all other samples are drawn uniformly from [0, 1).
        self_aligned: Fraction of the labeled samples whose noisy state is computed from the model's own prediction
            instead of the true latent (equation 5).
    """

    share_at_one: float = 0.6
    self_aligned: float = 0.7

    def __call__(self, num: int) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Draws ``num`` diffusion times, and a mask that marks the self-aligned samples.

        Both are on the CPU, because control flow in the forward pass depends on the times and the mask.
        """
        times, at_one = torch.rand(num), torch.rand(num) < self.share_at_one
        return torch.where(at_one, torch.ones_like(times), times), torch.rand(num) < self.self_aligned


@dataclass(frozen=True)
class SupervisedLoss:
    """Segmentation, denoising and reconstruction losses with their weights (equation 8)."""

    denoising_weight: float = 0.5
    reconstruction_weight: float = 0.5

    @property
    def needs_label_coder(self) -> bool:
        """Whether the training pass has to encode labels. If not, the loss is plain cross-entropy."""
        return self.denoising_weight > 0 or self.reconstruction_weight > 0

    def __call__(
        self,
        output: TrainingOutput,
        labels: Int[Tensor, "b h w"],
        rows: slice,
        domain: str,
        weights: Float[Tensor, "b h w"] | None = None,
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Tensor]]:
        """Computes the losses of some labeled images of a training pass.

        Args:
            output: Output of the training pass.
            labels: Label maps of these images.
            rows: Indices of these images in the batch.
            domain: Name of the domain, which is appended to the names of the losses.
            weights: Pixel weights in [0, 1].

        Returns:
            The weighted losses by name, and the unweighted losses by the names of metrics.
        """
        raw = {"seg": segmentation_loss(output.logits[rows], labels, weights)}
        shares = {"seg": 1.0, "denoising": self.denoising_weight}
        shares["reconstruction"] = self.reconstruction_weight
        if output.clean is not None and output.reconstruction is not None:
            # Pixels without a label are excluded, because the clean latent contains no class there. The denoiser must
            # not learn to predict such latents.
            counted = (labels != IGNORE).float() if weights is None else weights * (labels != IGNORE)
            raw["denoising"] = denoising_loss(output.denoised[rows], output.clean[rows], counted)
            if len(output.reconstruction[rows]):
                raw["reconstruction"] = segmentation_loss(output.reconstruction[rows], labels, weights)
        terms = {f"{name}_{domain}": shares[name] * loss for name, loss in raw.items()}
        return terms, {f"train/loss_{name}_{domain}": loss.detach() for name, loss in raw.items()}


def domain_loss(logits: Float[Tensor, "b n h w"], counts: Sequence[int]) -> Float[Tensor, ""]:
    """Returns the cross-entropy of the domain classifier.

    ``counts`` is the number of images of each domain. The images are sorted by domain in the same order.
    """
    return F.cross_entropy(logits, _domains_of_patches(logits, counts))


def _domains_of_patches(logits: Tensor, counts: Sequence[int]) -> Int[Tensor, "b h w"]:
    rows = [torch.full((num,), domain, device=logits.device) for domain, num in enumerate(counts)]
    return torch.cat(rows).view(-1, 1, 1).expand(-1, *logits.shape[-2:])


@dataclass
class DomainMaps:
    """Input of the discriminator: maps of the source, mixed and target images, in this order.

    Attributes:
        maps: Latents, features, class probabilities or their self-information (``AdversaryInput``) of all images.
        times: Diffusion time of each image.
        counts: Number of images of each domain.
    """

    maps: Float[Tensor, "n c h w"]
    times: Float[Tensor, " n"]
    counts: tuple[int, int, int]


@dataclass(frozen=True)
class Adversary:
    """Adversarial loss of the segmenter (equation 10) and loss of the discriminator (equation 9).

    Attributes:
        input: Input of the discriminator.
        weight: Weight of the adversarial loss after warm-up.
        start_step: First step with the adversarial loss.
        warmup_steps: Number of steps over which the weight rises linearly.
        relieve: Whether the weight is reduced while the discriminator's accuracy is above 0.9.
        betas: Betas of the discriminator's Adam optimizer. AdaptSegNet and ADVENT use 0.9 and 0.99.
    """

    input: AdversaryInput = "latents"
    weight: float = 0.02
    start_step: int = 0
    warmup_steps: int = 300
    relieve: bool = True
    betas: tuple[float, float] = (0.5, 0.99)

    def scheduled(self, config: TrainConfig) -> Adversary:
        """Returns a copy with the weight, start and warm-up of a run's settings."""
        a = config.adaptation
        warmup = round(a.adversarial_warmup * config.steps)
        return replace(self, weight=a.adversarial_weight, start_step=config.start_step, warmup_steps=warmup)

    def ramp(self, step: int) -> float:
        """Returns the warm-up factor of the weight at a step, in [0, 1]."""
        return min(1.0, max(0, step - self.start_step + 1) / max(1, self.warmup_steps))

    def segmenter_loss(
        self, discriminator: nn.Module, seen: DomainMaps, step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor], DomainMaps]:
        """Returns the weighted adversarial loss, which aligns mixed and target maps with source maps (equation 10).

        If the discriminator's accuracy on patches (mean over the domains) is above 0.9, the gradient of this loss
        contains little information. With ``relieve``, the weight is therefore multiplied by a factor that falls
        linearly from 1 at an accuracy of 0.9 to 0 at an accuracy of 1.

        Returns:
            The loss, metrics by name, and a copy of ``seen`` without gradient, on which the discriminator is trained.
        """
        # No gradient of the discriminator's weights is needed here, because a separate step trains the discriminator.
        discriminator.requires_grad_(False)
        logits = discriminator(seen.maps, seen.times)
        discriminator.requires_grad_(True)
        others = logits[seen.counts[SOURCE] :]
        loss = domain_loss(others, (len(others), 0, 0))
        relief = torch.ones_like(loss)
        if self.relieve:
            accuracies = torch.stack(list(_accuracies(logits.detach(), seen.counts).values()))
            relief = ((1 - accuracies.mean()) / (1 - _WINNING)).clamp(max=1)
        logs = {"train/loss_adversarial": loss.detach(), "train/adversarial_relief": relief}
        kept = DomainMaps(seen.maps.detach(), seen.times, seen.counts)
        return self.weight * self.ramp(step) * relief * loss, logs, kept

    def discriminator_loss(
        self, discriminator: nn.Module, seen: DomainMaps
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the loss of the discriminator (equation 9), and metrics such as its accuracy on each domain."""
        logits = discriminator(seen.maps, seen.times)
        loss = domain_loss(logits, seen.counts)
        logs = {"train/loss_discriminator": loss.detach()}
        for domain, accuracy in _accuracies(logits.detach(), seen.counts).items():
            logs[f"train/discriminator_accuracy_{domain}"] = accuracy
        return loss, logs


def _accuracies(logits: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """Returns the fraction of correctly classified patches of each domain that has images."""
    right = logits.argmax(dim=1) == _domains_of_patches(logits, counts)
    of_domains = right.float().mean(dim=(1, 2)).split(list(counts))
    return {name: hits.mean() for name, hits in zip(DOMAINS, of_domains, strict=True) if len(hits)}


@dataclass
class StepResult:
    """Losses and metrics of one micro-batch.

    Attributes:
        terms: Weighted loss terms of the segmenter by name. Their sum is the loss.
        logs: Metrics by name, without gradient.
        domain_maps: Inputs on which the discriminator is trained, without gradient. ``None`` without an adversary.
        denoised: Latents on which all terms except reconstruction depend. The gradient norm of each term is computed
            with respect to these latents.
    """

    terms: dict[str, Float[Tensor, ""]]
    logs: dict[str, Tensor] = field(default_factory=dict)
    domain_maps: DomainMaps | None = None
    denoised: Float[Tensor, "n d h w"] | None = None

    @property
    def loss(self) -> Float[Tensor, ""]:
        """Sum of the loss terms."""
        return torch.stack(list(self.terms.values())).sum()
