"""Losses of the supervised and adversarial branches (docs/method.md, equations 8 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from iccld.labels import IGNORE
from iccld.models.networks import TrainingOutput

DOMAINS = ("source", "mixed", "target")
SOURCE, MIXED, TARGET = range(3)

AdversaryInput = Literal["latents", "features", "probabilities", "self_information"]
"""What a discriminator sees: ẑ₀, the denoiser's last features, or the class maps of output-space methods."""

# From this share of correct patches on the discriminator counts as winning, and the adversarial loss is relieved.
_WINNING = 0.9


def maps_to_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolates maps of a network to the image that they belong to, in pixels or at some stride of it.

    A cell is a square of 2, 4, 8, … new ones. Cells that reach beyond the image are cut, not squeezed into it.

    Args:
        maps: b c h w, at the stride's size, rounded up.
        size: height and width that are wanted.
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
    """Cross-entropy, averaged over the pixels that have a label, each times its weight.

    Logits are brought to stride 2 where they are coarser, and compared with one label of every 2×2 block, at a phase
    drawn for each call: a quarter of the work of full resolution, without a half-pixel shift. Weights scale the loss
    and are not normalized away, so that an unsure teacher teaches less (Tranheden et al. 2021, DACS).

    Args:
        logits: at stride s.
        labels: at full resolution, 255 = ignore.
        weights: in [0, 1], at full resolution; None means 1.
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
    """Mean squared error between predicted and true latent (the true one carries no gradient).

    With weights it is the mean over the pixels of a pixel's weight times the error of its cell; cells that reach
    beyond the image count by the pixels that they have.

    Args:
        denoised: predicted z_0.
        clean: z_0.
        weights: of the pixels; None means 1 for all cells.
        stride: side of a latent cell in pixels.
    """
    errors = (denoised.float() - clean.detach().float()).square().mean(dim=1)
    if weights is None:
        return errors.mean()
    height, width = weights.shape[-2:]
    padding = (0, errors.shape[-1] * stride - width, 0, errors.shape[-2] * stride - height)
    of_cells = F.avg_pool2d(F.pad(weights.float(), padding)[:, None], stride)[:, 0]
    return (errors * of_cells).sum() * stride**2 / weights.numel()


@dataclass(frozen=True)
class SupervisedLoss:
    """Equation 8: segmentation, and with their weights denoising and reconstruction."""

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
            domain: for names.
            weights: of the pixels, in [0, 1].

        Returns:
            The weighted terms and the unweighted figures to log, by name.
        """
        raw = {"seg": segmentation_loss(output.logits[rows], labels, weights)}
        shares = {"seg": 1.0, "denoising": self.denoising_weight}
        shares["reconstruction"] = self.reconstruction_weight
        if output.clean is not None and output.reconstruction is not None:
            # What has no label is no goal: its latent would be that of no class at all, which no answer can be.
            counted = (labels != IGNORE).float() if weights is None else weights * (labels != IGNORE)
            raw["denoising"] = denoising_loss(output.denoised[rows], output.clean[rows], counted)
            if len(output.reconstruction[rows]):
                raw["reconstruction"] = segmentation_loss(output.reconstruction[rows], labels, weights)
        terms = {f"{name}_{domain}": shares[name] * loss for name, loss in raw.items()}
        return terms, {f"train/loss_{name}_{domain}": loss.detach() for name, loss in raw.items()}


def domain_loss(logits: Float[Tensor, "b n h w"], counts: Sequence[int]) -> Float[Tensor, ""]:
    """Cross-entropy of the domain classifier; ``counts`` has the images of each domain, in the order of the rows."""
    return F.cross_entropy(logits, _domains_of_patches(logits, counts))


def _domains_of_patches(logits: Tensor, counts: Sequence[int]) -> Int[Tensor, "b h w"]:
    rows = [torch.full((num,), domain, device=logits.device) for domain, num in enumerate(counts)]
    return torch.cat(rows).view(-1, 1, 1).expand(-1, *logits.shape[-2:])


@dataclass
class DomainMaps:
    """What the discriminator sees: latents, features or class maps of source, mixed and target images, in this order.

    Attributes:
        maps: of all images.
        times: diffusion time of each image.
        counts: images of each domain.
    """

    maps: Float[Tensor, "n c h w"]
    times: Float[Tensor, " n"]
    counts: tuple[int, int, int]


@dataclass(frozen=True)
class Adversary:
    """Equations 9 and 10.

    Attributes:
        input: what the discriminator sees.
        weight: of the adversarial loss when fully warmed up.
        start_step: the first step with an adversary.
        warmup_steps: over which the weight rises linearly.
        relieve: lower the weight while the discriminator wins outright.
        betas: of the discriminator's optimizer; AdaptSegNet and ADVENT have 0.9 and 0.99.
    """

    input: AdversaryInput = "latents"
    weight: float = 0.02
    start_step: int = 0
    warmup_steps: int = 300
    relieve: bool = True
    betas: tuple[float, float] = (0.5, 0.99)

    def ramp(self, step: int) -> float:
        """Share of the weight at a step, in [0, 1]."""
        return min(1.0, max(0, step - self.start_step + 1) / max(1, self.warmup_steps))

    def segmenter_loss(
        self, discriminator: nn.Module, seen: DomainMaps, step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor], DomainMaps]:
        """Equation 10: the segmenter's loss, weighted; mixed and target images are to pass for source ones.

        Where the discriminator names nine patches in ten correctly (on average over the domains) it has won, and its
        gradient says little about what to change. From there the weight falls linearly, to 0 at ten in ten.

        Returns:
            The loss, figures to log, and ``seen`` without gradient for the discriminator's own step.
        """
        # The weights of the discriminator are trained in a step of their own.
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
        """Equation 9: the discriminator's loss, and its accuracy on each domain."""
        logits = discriminator(seen.maps, seen.times)
        loss = domain_loss(logits, seen.counts)
        logs = {"train/loss_discriminator": loss.detach()}
        for domain, accuracy in _accuracies(logits.detach(), seen.counts).items():
            logs[f"train/discriminator_accuracy_{domain}"] = accuracy
        return loss, logs


def _accuracies(logits: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """Share of correctly named patches of each domain that is present."""
    right = logits.argmax(dim=1) == _domains_of_patches(logits, counts)
    of_domains = right.float().mean(dim=(1, 2)).split(list(counts))
    return {name: hits.mean() for name, hits in zip(DOMAINS, of_domains, strict=True) if len(hits)}


@dataclass
class StepResult:
    """What a method computed for one micro-batch.

    Attributes:
        terms: the segmenter's losses by name, each with its weight; they are summed.
        logs: figures to log, without gradient.
        domain_maps: what the discriminator is trained on, without gradient.
        denoised: the latents that all terms but reconstruction pass through, to measure each term's pull there.
    """

    terms: dict[str, Float[Tensor, ""]]
    logs: dict[str, Tensor] = field(default_factory=dict)
    domain_maps: DomainMaps | None = None
    denoised: Float[Tensor, "n d h w"] | None = None

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()
