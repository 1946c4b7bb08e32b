"""Image operations: ClassMix, CutMix, masks, color augmentation, and color transfer from target to source images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.labels import IGNORE

_MEAN_COLOR = (0.485, 0.456, 0.406)
_FEWEST = 64
"""Minimum number of pixels of a class for the computation of color statistics."""


def class_mix_mask(
    labels: Int[Tensor, "b h w"], *, of_batch: bool = False, ignored: bool = False
) -> Bool[Tensor, "b h w"]:
    """Selects a random half (rounded up) of the classes of each image (Olsson et al. 2021, ClassMix).

    Args:
        labels: Source label maps.
        of_batch: Whether the classes are drawn once from all classes of the batch, as in DAFormer's code. In a single
            image, more or less than half of the classes may then be selected.
        ignored: Whether the ignored pixels (255) count as an additional class, as in the code of DACS and DAFormer.
            ``False`` never selects these pixels.

    Returns:
        Mask of the source pixels to paste on the target image.
    """
    # Masks are used instead of a list of the present classes, because the length of a list would need a GPU sync.
    flat = labels.flatten(1).long()
    present = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool, device=labels.device)
    present.scatter_(1, flat, torch.ones_like(flat, dtype=torch.bool))
    if not ignored:
        present[:, IGNORE] = False
    if of_batch:
        present = present.any(dim=0, keepdim=True).expand_as(present)
    lots = torch.rand(len(labels), IGNORE + 1, device=labels.device)
    places = torch.where(present, lots, 2.0).argsort(dim=1).argsort(dim=1)
    chosen = present & (places < (present.sum(dim=1, keepdim=True) + 1) // 2)
    return chosen.gather(1, flat).view(labels.shape)


def color_jitter(
    images: Float[Tensor, "b 3 h w"], strength: float = 0.4, probability: float = 0.8
) -> Float[Tensor, "b 3 h w"]:
    """Changes brightness, contrast, saturation, color balance and hue of images, each image with a given probability.

    The factors of brightness, contrast and saturation are drawn from 1 ± strength, and the gains of the color channels
    from 1 ± strength / 4. Hues are rotated by up to ± strength times a quarter turn.
    """
    b = len(images)

    def factor(spread: float, channels: int = 1) -> Tensor:
        return 1 + spread * (2 * torch.rand(b, channels, 1, 1, device=images.device) - 1)

    with torch.autocast(images.device.type, enabled=False):
        gray = images.mean(dim=1, keepdim=True)
        changed = gray + (images - gray) * factor(strength)
        mean = changed.mean(dim=(1, 2, 3), keepdim=True)
        changed = (changed - mean) * factor(strength) + mean * factor(strength)
        changed = _turn_hue(changed, (factor(strength)[:, 0, 0, 0] - 1) * math.pi / 2)
        changed = (changed * factor(strength / 4, 3)).clamp(0, 1)
    chosen = torch.rand(b, 1, 1, 1, device=images.device) < probability
    return torch.where(chosen, changed, images)


def _turn_hue(images: Tensor, angles: Tensor) -> Tensor:
    """Rotates colors about the gray axis (Rodrigues' formula for the axis (1, 1, 1) / √3)."""
    cosine, sine = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    eye = torch.eye(3, device=images.device)
    axis = eye.roll(-1, dims=1) - eye.roll(1, dims=1)
    turn = cosine * eye + (1 - cosine) / 3 + sine / math.sqrt(3) * axis
    return torch.einsum("bij,bjhw->bihw", turn, images)


def hsv_jitter(
    images: Float[Tensor, "b 3 h w"], strength: float = 0.25, probability: float = 0.8
) -> Float[Tensor, "b 3 h w"]:
    """Changes brightness, contrast, saturation and hue as in the code of DACS (kornia's ``ColorJitter``).

    The changes are applied in a random order for each image, and values are clipped to [0, 1] after each change. Either
    all images of the batch are changed or none.

    Args:
        images: RGB images in [0, 1].
        strength: Strength s. Brightness changes by up to ± s, contrast and saturation by factors in [1 − s, 1 + s],
            hues by up to ± s full turns. DACS uses 0.25, DAFormer and MIC use 0.2.
        probability: Probability that the batch is changed.
    """
    if float(torch.rand(())) >= probability:
        return images
    changed = []
    with torch.autocast(images.device.type, enabled=False):
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
    """Multiplies the HSV saturation by a factor and rotates the hue by a number of full turns."""
    value, largest = image.max(dim=0)
    spread = value - image.amin(dim=0)
    red, green, blue = image
    # The hue is in sixths of a turn. For gray pixels, the hue is arbitrary and has no effect.
    sides = torch.stack([green - blue, blue - red, red - green]) / spread.clamp_min(1e-12)
    sixths = sides.gather(0, largest[None])[0] + 2 * largest + 6 * turns
    saturated = (spread / value.clamp_min(1e-12) * saturation).clamp(0, 1)
    places = (torch.tensor([5.0, 3.0, 1.0], device=image.device).view(3, 1, 1) + sixths) % 6
    return value - value * saturated * torch.minimum(places, 4 - places).clamp(0, 1)


def gaussian_blur(
    images: Float[Tensor, "b 3 h w"], max_sigma: float = 1.15, probability: float = 0.5
) -> Float[Tensor, "b 3 h w"]:
    """Blurs all images of a batch with the given probability, otherwise none.

    The standard deviation of each image is drawn from [0.15, ``max_sigma``] pixels. Images are mirrored at their
    borders. The kernel's radius is 6 × ``max_sigma``, rounded up. The defaults are from DACS (Tranheden et al. 2021).
    """
    if float(torch.rand(())) >= probability:
        return images
    b, _, height, width = images.shape
    sigmas = 0.15 + (max_sigma - 0.15) * torch.rand(b, device=images.device)
    radius = min(max(1, math.ceil(6 * max_sigma)), height - 1, width - 1)
    if radius < 1:
        return images
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigmas[:, None]).square())
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    kernels = kernels.to(torch.promote_types(images.dtype, torch.float32))
    kernels = kernels.repeat_interleave(3, dim=0)[:, None, None]
    with torch.autocast(images.device.type, enabled=False):
        padded = F.pad(images.to(kernels.dtype), (radius, radius, radius, radius), mode="reflect")
        across = F.conv2d(padded.reshape(1, 3 * b, *padded.shape[2:]), kernels, groups=3 * b)
        blurred = F.conv2d(across, kernels.transpose(2, 3), groups=3 * b)
    return blurred.view(images.shape).to(images.dtype)


def cut_mix_mask(labels: Int[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Selects a random rectangle with half of the area of each image (French et al. 2020, CutMix)."""
    b, height, width = labels.shape
    mask = torch.zeros(b, height, width, dtype=torch.bool, device=labels.device)
    for index in range(b):
        tall = float(torch.exp(torch.rand(()) * math.log(0.5)))  # fraction of the height, in [0.5, 1]
        h, w = round(tall * height), round(0.5 / tall * width)
        top = int(torch.randint(0, height - h + 1, ()))
        left = int(torch.randint(0, width - w + 1, ()))
        mask[index, top : top + h, left : left + w] = True
    return mask


def mask_patches(images: Float[Tensor, "b 3 h w"], patch: int, ratio: float) -> Float[Tensor, "b 3 h w"]:
    """Hides random squares of a grid (Hoyer et al. 2023, MIC).

    Hidden pixels get ImageNet's mean color, which is 0 after ImageNet normalization.

    Args:
        images: RGB images in [0, 1].
        patch: Side of the squares in pixels. The squares are stretched so that they divide the image evenly.
        ratio: Probability that a square is hidden, in [0, 1].
    """
    b, _, height, width = images.shape
    rows, columns = (max(1, round(side / patch)) for side in (height, width))
    kept = torch.rand(b, 1, rows, columns, device=images.device) >= ratio
    row, column = (torch.arange(side, device=images.device) for side in (height, width))
    kept = kept[:, :, row * rows // height][..., column * columns // width]
    hidden = torch.stack([images.new_full((), level) for level in _MEAN_COLOR]).view(1, 3, 1, 1)
    return torch.where(kept, images, hidden)


def transfer_color(
    images: Float[Tensor, "b 3 h w"],
    styles: Float[Tensor, "b 3 h w"],
    probability: float = 1.0,
    *,
    valid: Bool[Tensor, "b h w"] | None = None,
    styles_valid: Bool[Tensor, "b h w"] | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Moves the color statistics of images towards those of style images, to a random degree.

    Mean and covariance of the colors change by the linear Monge-Kantorovich map (Pitié & Kokaram 2007). The degree is
    drawn from [0.5, 1] for each image.

    Args:
        images: RGB images in [0, 1].
        styles: Images whose color statistics are used, one per image.
        probability: Probability that an image is changed.
        valid: Mask of the pixels that are not padding. Only these pixels are changed and used for statistics. ``None``
            means all pixels. If the mask of an image or of its style image is empty, the image is not changed.
        styles_valid: Mask of the style images' pixels that are used for statistics. ``None`` means all pixels.
    """
    everywhere = torch.ones_like(images[:, 0], dtype=torch.bool)
    valid = everywhere if valid is None else valid
    styles_valid = everywhere if styles_valid is None else styles_valid
    share = _draw_share(len(images), probability, images.device)
    # A variance floor of about the square of one gray level limits the contrast gain of images with a single color.
    return _transfer(images, valid[:, None], styles, styles_valid[:, None], share, fewest=1, floor=2e-5)


def transfer_class_color(
    images: Float[Tensor, "b 3 h w"],
    labels: Int[Tensor, "b h w"],
    styles: Float[Tensor, "b 3 h w"],
    style_labels: Int[Tensor, "b h w"],
    num_classes: int,
    probability: float = 1.0,
) -> Float[Tensor, "b 3 h w"]:
    """Moves the color statistics of every class of an image towards those of the same class in a style image.

    The strength of the transfer is random, as in ``transfer_color``. A class with fewer than 64 pixels in the image or
    in the style image is not changed.

    Args:
        images: RGB images in [0, 1].
        labels: Label maps of ``images``. Pixels with labels ≥ ``num_classes`` (255 = ignore) are not changed.
        styles: Images whose color statistics are used, one per image.
        style_labels: Label maps of ``styles``. Pixels with labels ≥ ``num_classes`` are not used.
        num_classes: Number k of classes.
        probability: Probability that an image is changed.
    """
    classes = torch.arange(num_classes, device=images.device).view(1, -1, 1, 1)
    share = _draw_share(len(images), probability, images.device)
    masks, style_masks = labels[:, None] == classes, style_labels[:, None] == classes
    # Colors within a class differ little, so the transfer could amplify their noise. A higher variance floor, about the
    # square of eight gray levels, prevents this.
    return _transfer(images, masks, styles, style_masks, share, fewest=_FEWEST, floor=1e-3)


def _draw_share(num: int, probability: float, device: torch.device) -> Float[Tensor, " b"]:
    return (0.5 + 0.5 * torch.rand(num, device=device)) * (torch.rand(num, device=device) < probability)


def _transfer(
    images: Float[Tensor, "b 3 h w"],
    masks: Bool[Tensor, "b r h w"],
    styles: Float[Tensor, "b 3 h w"],
    style_masks: Bool[Tensor, "b r h w"],
    share: Float[Tensor, " b"],
    *,
    fewest: int,
    floor: float,
) -> Float[Tensor, "b 3 h w"]:
    """Moves the colors of each of r disjoint regions towards those of the same region of the style image.

    ``share`` is the degree of the change of each image, from 0 to 1. Regions of fewer than ``fewest`` pixels are not
    changed.
    """
    enough = (masks.sum(dim=(2, 3)) >= fewest) & (style_masks.sum(dim=(2, 3)) >= fewest)
    shares = share.view(-1, 1, 1, 1) * enough[..., None, None]
    with torch.autocast(images.device.type, enabled=False):
        mean, covariance = _color_statistics(images, masks, floor)
        style_mean, style_covariance = _color_statistics(styles, style_masks, floor)
        root, inverse = _root(covariance)
        middle, _ = _root(root @ style_covariance @ root)
        linear = torch.lerp(
            torch.eye(3, device=images.device).expand_as(root), inverse @ middle @ inverse, shares
        )
        goal = torch.lerp(mean, style_mean, shares[..., 0])
        moved, pixels = images, images.float().flatten(2)
        for region in range(masks.shape[1]):
            centered = pixels - mean[:, region, :, None]
            changed = linear[:, region] @ centered + goal[:, region, :, None]
            changed = changed.unflatten(2, images.shape[2:]).clamp(0, 1).to(images.dtype)
            here = masks[:, region, None] & (shares[:, region, None] > 0)
            moved = torch.where(here, changed, moved)
    return moved


def _color_statistics(images: Tensor, masks: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Returns mean (b r 3) and covariance (b r 3 3) of each region's colors. ``floor`` is added to the variances."""
    pixels, counted = images.float().flatten(2), masks.flatten(2).float()
    num = counted.sum(dim=2)[..., None].clamp_min(1)
    mean = counted @ pixels.mT / num
    # The image's mean is subtracted first, because differences of large squares would lose precision (cancellation).
    around = pixels.mean(dim=2, keepdim=True)
    squares = ((pixels - around)[:, :, None] * (pixels - around)[:, None]).flatten(1, 2)
    second = (counted @ squares.mT / num).unflatten(2, (3, 3))
    offset = mean - around.mT
    covariance = second - offset[..., :, None] * offset[..., None, :]
    return mean, covariance + floor * torch.eye(3, device=images.device)


def _root(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the square roots of symmetric positive definite matrices, and the inverses of these roots."""
    values, vectors = torch.linalg.eigh(matrices)
    roots = values.clamp_min(1e-12).sqrt()[..., None, :]
    return (vectors * roots) @ vectors.mT, (vectors / roots) @ vectors.mT
