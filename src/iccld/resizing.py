"""How images and label maps are scaled, wherever they are: in training, evaluation, prediction and exported graphs.

Pixels are squares and their centers lie half a pixel inside: pixel i of n covers [i/n, (i + 1)/n] of its axis, in
images and label maps alike.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor


def scaled_width(height: int, width: int, target_height: int) -> int:
    """The width, in pixels, of an image that is scaled to a height and keeps its shape; halves are rounded up.

    In whole numbers, so that exported graphs can compute it too.
    """
    return (2 * width * target_height + height) // (2 * height)


def base_size(
    size: tuple[int, int], wanted: tuple[int, int] | None, *, stretch: bool = False
) -> tuple[int, int]:
    """The (height, width) that a training image is brought to before it is cropped.

    That of the run's settings (``wanted``) is taken as it is with ``stretch``. Otherwise the image keeps its shape and
    is scaled to the height, as a model scales what it predicts; None keeps its own size.
    """
    if wanted is None or stretch:
        return wanted or size
    return wanted[0], max(1, scaled_width(*size, wanted[0]))


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scales a batch of images by a triangle filter that is as wide as a new pixel where it shrinks them.

    This is Pillow's ``BILINEAR`` and torch's bilinear interpolation with antialiasing. The images (b c h w, uint8 or
    floating point) keep their type; uint8 is rounded.
    """
    if images.shape[-2:] == size:
        return images
    # In the usual layout torch 2.13 gives wrong pixels, or an internal error, where the new width is 1.
    images = images.contiguous(memory_format=torch.channels_last)
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def resize_image(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Scales one image to (height, width) as ``resize_images`` does."""
    if size == image.shape[:2]:
        return image
    # torch warns of memory that is read only, such as that of files.
    pixels = torch.from_numpy(image if image.flags.writeable else image.copy())
    resized = resize_images(pixels.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)
    return np.asarray(resized.contiguous().numpy())


def resize_label(label: UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2"]:
    """Scales a label map to (height, width); each new pixel takes the label under its center."""
    if size == label.shape:
        return label
    # INTER_NEAREST takes the label under the pixel's corner, half a pixel off the image.
    resized = cv2.resize(label, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)
