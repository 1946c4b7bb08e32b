"""Losses of the supervised and adversarial branches (docs/method.md, equations 8 to 10)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from iccld.compute import to_device
from iccld.labels import IGNORE
from iccld.resizing import maps_to_size


def segmentation_loss(
    logits: Float[Tensor, "b k h w"],
    labels: Int[Tensor, "b h2 w2"],
    weights: Float[Tensor, "b h2 w2"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over the pixels that have a label, each times its weight.

    Logits come at the decoder's stride s. They are brought to stride 2 where they are coarser, and compared
    with one label of every 2×2 block, at a phase drawn for each call: a quarter of the work of full
    resolution, and no half-pixel shift to be learned. Weights scale the loss rather than being
    normalized away, so that an unsure teacher teaches less (Tranheden et al. 2021, DACS).

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

    With weights it is the mean over the pixels of a pixel's weight times the error of its cell. Cells that reach
    beyond the image, as its sides are padded to whole ones, count by the pixels that they have.

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


def domain_loss(logits: Float[Tensor, "b n h w"], domains: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Cross-entropy of the domain classifier, the same domain for every patch of an image."""
    height, width = logits.shape[-2:]
    goals = to_device(domains.view(-1, 1, 1), logits.device)
    return F.cross_entropy(logits, goals.expand(-1, height, width))


def self_information(probabilities: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Weighted self-information −p log p / log k of every class (Vu et al. 2019); its sum over k is the entropy."""
    # The clamp keeps the slope finite where a softmax underflowed.
    return torch.special.entr(probabilities.clamp_min(1e-30)) / math.log(max(2, probabilities.shape[1]))


def entropy_loss(probabilities: Float[Tensor, "b k h w"], charbonnier: float = 0.0) -> Float[Tensor, ""]:
    """Mean entropy in [0, 1] of predictions (Vu et al. 2019).

    Args:
        probabilities: of the classes.
        charbonnier: η > 0 gives (H² + 10⁻⁸)^η instead, which spares what is nearly sure (Yang & Soatto 2020;
            their paper has 0.001² in place of the 10⁻⁸ of their code).
    """
    entropy = self_information(probabilities).sum(dim=1)
    return ((entropy.square() + 1e-8) ** charbonnier if charbonnier > 0 else entropy).mean()
