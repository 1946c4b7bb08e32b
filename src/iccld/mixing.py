"""The mixed domain: ClassMix and the color augmentation of mixed images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.compute import full_precision, to_device
from iccld.labels import IGNORE

_MEAN_COLOR = (0.485, 0.456, 0.406)


def class_mix_mask(
    labels: Int[Tensor, "b h w"], *, of_batch: bool = False, ignored: bool = False
) -> Bool[Tensor, "b h w"]:
    """Selects half of the classes of each image (Olsson et al. 2021, ClassMix), rounded up.

    The code of ClassMix rounds half of an odd number down, that of DACS (Tranheden et al. 2021) and of its
    descendants up.

    Args:
        labels: source labels.
        of_batch: draw each image's classes from those of the whole batch, as DAFormer's code does: an image may then
            give more or less than half of its own.
        ignored: take the ignored pixels (255) for one class more, as the codes of DACS and DAFormer do; otherwise
            they are never selected.

    Returns:
        True where the source image is to be pasted.
    """
    # Without a look at which classes there are, for which a GPU would be waited for.
    flat = labels.flatten(1).long()
    present = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool, device=labels.device)
    present.scatter_(1, flat, torch.ones_like(flat, dtype=torch.bool))
    if not ignored:
        present[:, IGNORE] = False
    if of_batch:
        present = present.any(dim=0, keepdim=True).expand_as(present)
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

    with full_precision(images.device):
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


def hsv_jitter(
    images: Float[Tensor, "b 3 h w"], strength: float = 0.25, probability: float = 0.8
) -> Float[Tensor, "b 3 h w"]:
    """Changes brightness, contrast, saturation and hue as DACS does (kornia's ``ColorJitter``).

    Brightness adds up to ``strength`` either way, contrast multiplies all levels by [1 − strength, 1 + strength],
    saturation multiplies that of HSV by the same range, and hues turn by up to ``strength`` of a full turn either way;
    in a random order for each image, cut to [0, 1] after each. All images of a batch are changed, or none.

    Args:
        images: RGB in [0, 1].
        strength: DACS has 0.25, DAFormer and MIC have 0.2.
        probability: that the batch is changed.
    """
    if float(torch.rand(())) >= probability:
        return images
    changed = []
    with full_precision(images.device):
        for image in images.float():
            for kind in torch.randperm(4).tolist():
                drawn = strength * (2 * float(torch.rand(())) - 1)
                if kind == 0:
                    image = (image + drawn).clamp(0, 1)
                elif kind == 1:
                    image = (image * (1 + drawn)).clamp(0, 1)
                else:
                    image = _change_hsv(image, *((1 + drawn, 0.0) if kind == 2 else (1.0, drawn)))
            changed.append(image)
    return torch.stack(changed).to(images.dtype)


def _change_hsv(image: Float[Tensor, "3 h w"], saturation: float, turns: float) -> Float[Tensor, "3 h w"]:
    """Multiplies the saturation of HSV and turns the hue, in full turns."""
    value, largest = image.max(dim=0)
    spread = value - image.amin(dim=0)
    red, green, blue = image
    # The hue in sixths of a turn; that of gray plays no part.
    sides = torch.stack([green - blue, blue - red, red - green]) / spread.clamp_min(1e-12)
    sixths = sides.gather(0, largest[None])[0] + 2 * largest + 6 * turns
    saturated = (spread / value.clamp_min(1e-12) * saturation).clamp(0, 1)
    places = (torch.tensor([5.0, 3.0, 1.0], device=image.device).view(3, 1, 1) + sixths) % 6
    return value - value * saturated * torch.minimum(places, 4 - places).clamp(0, 1)


def gaussian_blur(
    images: Float[Tensor, "b 3 h w"], max_sigma: float = 1.15, probability: float = 0.5
) -> Float[Tensor, "b 3 h w"]:
    """Blurs each image with a random standard deviation in [0.15, max_sigma] pixels, or leaves the batch alone.

    Range, probability and the mirrored border are those of DACS (Tranheden et al. 2021). Its kernel of a tenth of the
    image's side is cut at six standard deviations, beyond which nothing is left.
    """
    if float(torch.rand(())) >= probability:
        return images
    b, _, height, width = images.shape
    sigmas = 0.15 + (max_sigma - 0.15) * torch.rand(b)
    radius = min(max(1, math.ceil(6 * max_sigma)), height - 1, width - 1)
    if radius < 1:
        return images
    offsets = torch.arange(-radius, radius + 1)
    kernels = torch.exp(-0.5 * (offsets / sigmas[:, None]).square())
    kernels = to_device(kernels / kernels.sum(dim=1, keepdim=True), images.device)
    kernels = kernels.to(torch.promote_types(images.dtype, torch.float32)).repeat_interleave(3, dim=0)[
        :, None, None
    ]
    with full_precision(images.device):
        padded = F.pad(images.to(kernels.dtype), (radius, radius, radius, radius), mode="reflect")
        across = F.conv2d(padded.reshape(1, 3 * b, *padded.shape[2:]), kernels, groups=3 * b)
        blurred = F.conv2d(across, kernels.transpose(2, 3), groups=3 * b)
    return blurred.view(images.shape).to(images.dtype)


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
        patch: side of the squares in pixels. Where a side of the image is no multiple of it, the nearest whole
            number of squares is stretched over it.
        ratio: probability of each square to be hidden, in [0, 1].
    """
    b, _, height, width = images.shape
    rows, columns = (max(1, round(side / patch)) for side in (height, width))
    kept = torch.rand(b, 1, rows, columns) >= ratio
    full = kept[:, :, torch.arange(height) * rows // height][..., torch.arange(width) * columns // width]
    hidden = torch.tensor(_MEAN_COLOR, dtype=images.dtype).view(1, 3, 1, 1)
    kept_here, hidden = (to_device(x, images.device) for x in (full, hidden))
    return torch.where(kept_here, images, hidden)


def transfer_low_frequencies(
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], band: float
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the low-frequency amplitudes of others; phases stay (Yang & Soatto 2020, FDA).

    Levels may leave [0, 1] and are not cut, as in the published code: cutting would change amplitudes and phases again.

    Args:
        images: RGB in [0, 1].
        styles: images whose amplitudes are taken, one for each image, of the same size.
        band: half the side of the square of low frequencies, as a share of the shorter side.
    """
    height, width = images.shape[-2:]
    reach = int(min(height, width) * band)
    with full_precision(images.device):
        spectrum, style = (torch.fft.fft2(x.float().contiguous()) for x in (images, styles))
        rows, columns = (torch.fft.fftfreq(n, 1 / n).abs() <= reach for n in (height, width))
        low = to_device(rows[:, None] & columns[None], images.device)
        amplitude = torch.where(low, style.abs(), spectrum.abs())
        restyled = torch.fft.ifft2(torch.polar(amplitude, spectrum.angle())).real
    return restyled.to(images.dtype)
