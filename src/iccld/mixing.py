"""The mixed domain: ClassMix and the color augmentation of mixed images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.compute import to_device
from iccld.labels import IGNORE

_MEAN_COLOR = (0.485, 0.456, 0.406)


def class_mix_mask(labels: Int[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Selects half of the classes present in each image, rounded up (Olsson et al. 2021, ClassMix).

    Args:
        labels: source labels; ignored pixels (255) are never selected.

    Returns:
        True where the source image is to be pasted.
    """
    # Without a look at which classes there are, for which a GPU would be waited for.
    flat = labels.flatten(1).long()
    present = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool, device=labels.device)
    present.scatter_(1, flat, torch.ones_like(flat, dtype=torch.bool))
    present[:, IGNORE] = False
    lots = to_device(torch.rand(len(labels), IGNORE + 1), labels.device)
    places = torch.where(present, lots, 2.0).argsort(dim=1).argsort(dim=1)
    chosen = present & (places < (present.sum(dim=1, keepdim=True) + 1) // 2)
    return chosen.gather(1, flat).view(labels.shape)


def paste(mask: Bool[Tensor, "b h w"], source: Tensor, target: Tensor) -> Tensor:
    """Takes ``source`` where the mask is set and ``target`` elsewhere; maps may have a channel axis."""
    return torch.where(mask if source.ndim == 3 else mask[:, None], source, target)


def color_jitter(
    images: Float[Tensor, "b 3 h w"], strength: float = 0.4, probability: float = 0.8
) -> Float[Tensor, "b 3 h w"]:
    """Changes brightness, contrast, saturation, color balance and hue of each image at random.

    Args:
        images: RGB in [0, 1].
        strength: factors are drawn from [1 − strength, 1 + strength]; channel gains from a quarter of that; hues turn
            by up to that share of a quarter turn either way.
        probability: that an image is changed at all.
    """
    b = len(images)

    def factor(spread: float, channels: int = 1) -> Tensor:
        drawn = 1 + spread * (2 * torch.rand(b, channels, 1, 1) - 1)
        return to_device(drawn, images.device)

    gray = images.mean(dim=1, keepdim=True)
    changed = gray + (images - gray) * factor(strength)
    mean = changed.mean(dim=(1, 2, 3), keepdim=True)
    changed = (changed - mean) * factor(strength) + mean * factor(strength)
    changed = _turn_hue(changed, (factor(strength)[:, 0, 0, 0] - 1) * math.pi / 2)
    changed = (changed * factor(strength / 4, 3)).clamp(0, 1)
    chosen = to_device(torch.rand(b, 1, 1, 1) < probability, images.device)
    return torch.where(chosen, changed, images)


def _turn_hue(images: Tensor, angles: Tensor) -> Tensor:
    """Turns colors about the gray axis (Rodrigues' formula for the axis (1, 1, 1) / √3)."""
    cosine, sine = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    axis = to_device(axis, images.device)
    turn = cosine * torch.eye(3, device=images.device) + (1 - cosine) / 3 + sine / math.sqrt(3) * axis
    return torch.einsum("bij,bjhw->bihw", turn, images)


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
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], probability: float = 1.0
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the color statistics of others, to a random degree.

    Mean and covariance of the colors move towards those of the style image by the linear Monge-Kantorovich map
    (Pitié & Kokaram 2007), by a share drawn from [0.5, 1] for each image.

    Args:
        images: RGB in [0, 1].
        styles: images whose colors are taken, one for each image.
        probability: that an image is changed at all.
    """
    b, _, height, width = images.shape
    share = (0.5 + 0.5 * torch.rand(b, 1, 1)) * (torch.rand(b, 1, 1) < probability)
    share = to_device(share, images.device)
    with torch.autocast(images.device.type, enabled=False):
        mean, covariance = _color_statistics(images)
        style_mean, style_covariance = _color_statistics(styles)
        root, inverse = _root(covariance)
        middle, _ = _root(root @ style_covariance @ root)
        identity = torch.eye(3, device=images.device).expand(b, 3, 3)
        linear = torch.lerp(identity, inverse @ middle @ inverse, share)
        moved = linear @ (images.float().flatten(2) - mean) + torch.lerp(mean, style_mean, share)
    moved = moved.unflatten(2, (height, width)).clamp(0, 1).to(images.dtype)
    return torch.where(share[..., None] > 0, moved, images)


def _color_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (b 3 1) and covariance (b 3 3) of each image's colors."""
    pixels = images.float().flatten(2)
    mean = pixels.mean(dim=2, keepdim=True)
    centered = pixels - mean
    covariance = centered @ centered.transpose(1, 2) / pixels.shape[2]
    # A floor of about one gray level keeps images of a single color from being blown up.
    return mean, covariance + 2e-5 * torch.eye(3, device=images.device)


def _root(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Square root and its inverse of symmetric positive matrices."""
    values, vectors = torch.linalg.eigh(matrices)
    roots = values.clamp_min(1e-12).sqrt()
    return (vectors * roots[:, None]) @ vectors.mT, (vectors / roots[:, None]) @ vectors.mT


def cut_mix_mask(labels: Int[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Selects a rectangle of half of each image's area, of random shape and place (French et al. 2020, CutMix).

    Args:
        labels: give the size; their classes play no part.

    Returns:
        True where the source image is to be pasted.
    """
    b, height, width = labels.shape
    mask = torch.zeros(b, height, width, dtype=torch.bool, device=labels.device)
    for index in range(b):
        tall = float(torch.exp(torch.rand(()) * math.log(0.5)))  # share of the height, in [0.5, 1]
        h, w = round(tall * height), round(0.5 / tall * width)
        top = int(torch.randint(0, height - h + 1, ()))
        left = int(torch.randint(0, width - w + 1, ()))
        mask[index, top : top + h, left : left + w] = True
    return mask


def mask_patches(images: Float[Tensor, "b 3 h w"], patch: int, ratio: float) -> Float[Tensor, "b 3 h w"]:
    """Hides squares of a grid at random (Hoyer et al. 2023, MIC) behind ImageNet's mean color, 0 to the networks.

    Args:
        images: RGB in [0, 1].
        patch: side of the squares in pixels; those at the right and bottom border may be cut.
        ratio: probability of each square to be hidden, in [0, 1].
    """
    b, _, height, width = images.shape
    kept = torch.rand(b, 1, -(-height // patch), -(-width // patch)) >= ratio
    full = kept.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)[..., :height, :width]
    hidden = torch.tensor(_MEAN_COLOR, dtype=images.dtype).view(1, 3, 1, 1)
    kept_here, hidden = (to_device(x, images.device) for x in (full, hidden))
    return torch.where(kept_here, images, hidden)


def transfer_low_frequencies(
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], band: float
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the low-frequency amplitudes of others; phases stay (Yang & Soatto 2020, FDA).

    Args:
        images: RGB in [0, 1].
        styles: images whose amplitudes are taken, one for each image, of the same size.
        band: half the side of the square of low frequencies, as a share of the shorter side.
    """
    height, width = images.shape[-2:]
    reach = int(min(height, width) * band)
    with torch.autocast(images.device.type, enabled=False):
        spectrum, style = (torch.fft.fft2(x.float().contiguous()) for x in (images, styles))
        rows, columns = (torch.fft.fftfreq(n, 1 / n).abs() <= reach for n in (height, width))
        low = to_device(rows[:, None] & columns[None], images.device)
        amplitude = torch.where(low, style.abs(), spectrum.abs())
        restyled = torch.fft.ifft2(torch.polar(amplitude, spectrum.angle())).real
    return restyled.clamp(0, 1).to(images.dtype)
