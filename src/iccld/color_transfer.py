"""Color transfer: source images take the colors of target images, as a whole or class by class."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.compute import full_precision, to_device

_FEWEST = 64
"""Pixels of a class from which on its colors are known."""


def transfer_color(
    images: Float[Tensor, "b 3 h w"],
    styles: Float[Tensor, "b 3 h w"],
    probability: float = 1.0,
    *,
    valid: Bool[Tensor, "b h w"] | None = None,
    styles_valid: Bool[Tensor, "b h w"] | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the color statistics of others, to a random degree.

    Mean and covariance of the colors move towards those of the style image by the linear Monge-Kantorovich map
    (Pitié & Kokaram 2007), by a share drawn from [0.5, 1] for each image.

    Args:
        images: RGB in [0, 1].
        styles: images whose colors are taken, one for each image.
        probability: that an image is changed at all.
        valid: the pixels of the images that are changed and whose colors count, all if None: padding is no color of
            an image.
        styles_valid: the pixels of the styles whose colors count. An image or a style without any changes nothing.
    """
    b, _, height, width = images.shape
    everywhere = torch.ones(b, height, width, dtype=torch.bool, device=images.device)
    valid = everywhere if valid is None else valid
    styles_valid = everywhere if styles_valid is None else styles_valid
    share = _draw_share(b, probability, images.device)
    # A floor of about one gray level keeps images of a single color from being blown up.
    return _transfer(images, valid[:, None], styles, styles_valid[:, None], share, fewest=1, floor=2e-5)


def transfer_class_color(
    images: Float[Tensor, "b 3 h w"],
    labels: Int[Tensor, "b h w"],
    styles: Float[Tensor, "b 3 h w"],
    style_labels: Int[Tensor, "b h w"],
    num_classes: int,
    probability: float = 1.0,
) -> Float[Tensor, "b 3 h w"]:
    """Gives every class of an image the color statistics of that class in another image, to a random degree.

    Sky becomes that sky and road that road, where ``transfer_color`` gives the sky's part of the image's mean to
    the road too. Classes of fewer than 64 pixels in either image keep their colors.

    Args:
        images: RGB in [0, 1].
        labels: their classes; from ``num_classes`` on (255 = ignore), pixels are not changed.
        styles: images whose colors are taken, one for each image.
        style_labels: theirs; pixels from ``num_classes`` on do not count.
        num_classes: k.
        probability: that an image is changed at all.
    """
    classes = torch.arange(num_classes, device=images.device).view(1, -1, 1, 1)
    share = _draw_share(len(images), probability, images.device)
    masks, style_masks = labels[:, None] == classes, style_labels[:, None] == classes
    # Within a class colors differ little: a higher floor, of eight gray levels, keeps noise from being made contrast.
    return _transfer(images, masks, styles, style_masks, share, fewest=_FEWEST, floor=1e-3)


def _draw_share(num: int, probability: float, device: torch.device) -> Float[Tensor, " b"]:
    share = (0.5 + 0.5 * torch.rand(num)) * (torch.rand(num) < probability)
    return to_device(share, device)


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
    """Moves the colors of each of r disjoint regions towards those of the same region of the style."""
    enough = (masks.sum(dim=(2, 3)) >= fewest) & (style_masks.sum(dim=(2, 3)) >= fewest)
    shares = share.view(-1, 1, 1, 1) * enough[..., None, None]
    with full_precision(images.device):
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
    """Mean (b r 3) and covariance (b r 3 3) of the colors of each region."""
    pixels, counted = images.float().flatten(2), masks.flatten(2).float()
    num = counted.sum(dim=2)[..., None].clamp_min(1)
    mean = counted @ pixels.mT / num
    # Centered by the image's mean, so that the difference of large squares is not taken.
    around = pixels.mean(dim=2, keepdim=True)
    squares = ((pixels - around)[:, :, None] * (pixels - around)[:, None]).flatten(1, 2)
    second = (counted @ squares.mT / num).unflatten(2, (3, 3))
    offset = mean - around.mT
    covariance = second - offset[..., :, None] * offset[..., None, :]
    return mean, covariance + floor * torch.eye(3, device=images.device)


def _root(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Square root and its inverse of symmetric positive matrices."""
    values, vectors = torch.linalg.eigh(matrices)
    roots = values.clamp_min(1e-12).sqrt()[..., None, :]
    return (vectors * roots) @ vectors.mT, (vectors / roots) @ vectors.mT
