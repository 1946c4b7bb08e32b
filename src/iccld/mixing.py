"""The mixed domain: ClassMix and the colour augmentation of mixed images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.labels import IGNORE


def class_mix_mask(labels: Int[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Selects half of the classes present in each image, rounded up (Olsson et al. 2021, ClassMix).

    Args:
        labels: source labels; ignored pixels (255) are never selected.

    Returns:
        True where the source image is to be pasted.
    """
    masks = []
    for label in labels:
        present = torch.unique(label)
        present = present[present != IGNORE]
        chosen = present[torch.randperm(len(present))[: (len(present) + 1) // 2].to(present.device)]
        masks.append(torch.isin(label, chosen))
    return torch.stack(masks)


def paste(mask: Bool[Tensor, "b h w"], source: Tensor, target: Tensor) -> Tensor:
    """Takes ``source`` where the mask is set and ``target`` elsewhere; maps may have a channel axis."""
    return torch.where(mask if source.ndim == 3 else mask[:, None], source, target)


def color_jitter(
    images: Float[Tensor, "b 3 h w"], strength: float = 0.4, probability: float = 0.8
) -> Float[Tensor, "b 3 h w"]:
    """Changes brightness, contrast, saturation and colour balance of each image at random.

    Args:
        images: RGB in [0, 1].
        strength: factors are drawn from [1 − strength, 1 + strength]; channel gains from a quarter of that.
        probability: that an image is changed at all.
    """
    b = len(images)

    def factor(spread: float, channels: int = 1) -> Tensor:
        drawn = 1 + spread * (2 * torch.rand(b, channels, 1, 1) - 1)
        return drawn.to(images.device)

    gray = images.mean(dim=1, keepdim=True)
    changed = gray + (images - gray) * factor(strength)
    mean = changed.mean(dim=(1, 2, 3), keepdim=True)
    changed = (changed - mean) * factor(strength) + mean * factor(strength)
    changed = (changed * factor(strength / 4, 3)).clamp(0, 1)
    chosen = (torch.rand(b, 1, 1, 1) < probability).to(images.device)
    return torch.where(chosen, changed, images)


def gaussian_blur(
    images: Float[Tensor, "b 3 h w"], max_sigma: float = 1.15, probability: float = 0.5
) -> Float[Tensor, "b 3 h w"]:
    """Blurs the batch with one random standard deviation in [0.15, max_sigma] pixels, or leaves it alone.

    The range is that of DACS (Tranheden et al. 2021).
    """
    if float(torch.rand(())) >= probability:
        return images
    sigma = 0.15 + (max_sigma - 0.15) * float(torch.rand(()))
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    across = F.conv2d(padded, kernel, groups=3)
    return F.conv2d(across, kernel.transpose(2, 3), groups=3)


def transfer_color(
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], probability: float = 0.5
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the color statistics of others, to a random degree.

    Mean and standard deviation of every channel move towards those of the style image (Reinhard et al. 2001,
    in RGB), by a share drawn from [0, 1] for each image.

    Args:
        images: RGB in [0, 1].
        styles: images whose colors are taken, one for each image.
        probability: that an image is changed at all.
    """
    b = len(images)
    share = torch.rand(b, 1, 1, 1) * (torch.rand(b, 1, 1, 1) < probability)
    share = share.to(images.device)
    mean, std = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True)
    style_mean, style_std = styles.mean(dim=(2, 3), keepdim=True), styles.std(dim=(2, 3), keepdim=True)
    new_std = torch.lerp(std, style_std, share)
    moved = (images - mean) * (new_std / std.clamp_min(1e-3)) + torch.lerp(mean, style_mean, share)
    return torch.where(share > 0, moved.clamp(0, 1), images)
