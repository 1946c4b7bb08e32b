"""Scaling of images and label maps, which is the same in training, evaluation, prediction and exported graphs.

In images and in label maps, pixel i of n covers the interval [i/n, (i + 1)/n] of its axis (``align_corners=False``).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor


def scaled_width(height: int, width: int, target_height: int) -> int:
    """Returns the width in pixels of an image that is scaled to ``target_height`` with the same aspect ratio.

    The width is rounded, and halves are rounded up. Only integers are used, as in exported graphs.
    """
    return (2 * width * target_height + height) // (2 * height)


def base_size(
    size: tuple[int, int], wanted: tuple[int, int] | None, *, stretch: bool = False
) -> tuple[int, int]:
    """Returns the (height, width) to which a training image of ``size`` is scaled before cropping.

    With ``stretch``, the result is ``wanted``, the size in the run's settings. Otherwise, the image is scaled to the
    height of ``wanted`` with the same aspect ratio, as in prediction. If ``wanted`` is ``None``, the result is
    ``size``.
    """
    if wanted is None or stretch:
        return wanted or size
    return wanted[0], max(1, scaled_width(*size, wanted[0]))


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scales a batch of images (b c h w, uint8 or floating point) to (height, width) with a triangle filter.

    The filter is that of Pillow's ``BILINEAR`` and of torch's bilinear interpolation with antialiasing. If an image
    shrinks by a factor, the filter is wider by this factor. The images keep their dtype, and uint8 values are rounded.
    """
    if images.shape[-2:] == size:
        return images
    # In the contiguous layout, torch 2.13 returns wrong pixels or raises an error if the new width is 1.
    images = images.contiguous(memory_format=torch.channels_last)
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def resize_image(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Scales one image to (height, width) as ``resize_images`` does."""
    if size == image.shape[:2]:
        return image
    # Read-only arrays, such as memory-mapped files, are copied, because torch warns about them.
    pixels = torch.from_numpy(image if image.flags.writeable else image.copy())
    resized = resize_images(pixels.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)
    return np.asarray(resized.contiguous().numpy())


def resize_label(label: UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2"]:
    """Scales a label map to (height, width). Each new pixel gets the label at its center."""
    if size == label.shape:
        return label
    # INTER_NEAREST would use the label at the corner of the new pixel. This would shift the map by half a pixel.
    resized = cv2.resize(label, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)
