"""Conversion of user input (arrays and Pillow images) to one float batch."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from iccld.errors import InputError

Images = UInt8[np.ndarray, "..."] | Float[np.ndarray, "..."] | Tensor | Image.Image | Sequence[Image.Image]
"""Arrays with the channels last, tensors with the channels first, or one or more Pillow images of equal size.

Arrays and tensors are RGB or gray, uint8 or float in [0, 1], and may have a batch axis."""


def to_array(images: Any) -> np.ndarray:
    """Converts an array, a tensor, a Pillow image or a sequence of Pillow images to one array with the channels last.

    Input arrays have the shape (h, w, 3) for RGB, and (h, w) or (h, w, 1) for gray images. Input tensors have the shape
    (3, h, w) for RGB and (1, h, w) for gray images. A leading batch axis is allowed, except for gray arrays of shape
    (h, w). Gray images are returned with three equal channels.

    Pillow images are rotated upright according to their EXIF orientation and converted to 8-bit RGB: alpha is dropped
    and 16 bits are scaled to 8. ``iccld.data.image_files.read_image`` treats image files in the same way.

    Raises:
        InputError: The input is no array, a Pillow image cannot be decoded or converted to RGB, or Pillow images
            differ in size.
    """
    if isinstance(images, Image.Image):
        return _from_pillow(images)
    if isinstance(images, (list, tuple)) and any(isinstance(image, Image.Image) for image in images):
        arrays = [np.asarray(to_array(image)) for image in images]
        if len({array.shape for array in arrays}) > 1:
            sizes = ", ".join(sorted({"×".join(map(str, array.shape[1::-1])) for array in arrays}))
            raise InputError(f"images of one batch differ in size ({sizes} pixels); predict them one by one")
        return np.stack(arrays)
    if isinstance(images, Tensor):
        images = images.detach().cpu()
        images = images.float() if images.is_floating_point() else images  # numpy has no bfloat16
        images = images.movedim(-3, -1).numpy() if images.ndim >= 3 else images.numpy()
    try:
        array = np.asarray(images)
    except (ValueError, TypeError) as error:
        raise InputError(f"images are no array ({error}); give RGB arrays or Pillow images") from error
    if array.ndim == 2 and array.dtype.kind in "uif":
        array = array[..., None]
    return np.repeat(array, 3, axis=-1) if array.ndim in (3, 4) and array.shape[-1] == 1 else array


def to_batch(images: Any) -> tuple[Float[Tensor, "b 3 h w"], bool]:
    """Converts user input to a float batch in [0, 1]. Also returns whether the input was a single image."""
    array = to_array(images)
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or array.size == 0:
        remedy = "give RGB arrays of shape (h, w, 3) or (b, h, w, 3)"
        raise InputError(f"images have shape {array.shape}; {remedy}")
    single = array.ndim == 3
    if single:
        array = array[None]
    is_bytes = array.dtype == np.uint8
    if not is_bytes and not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"images are of type {array.dtype}; give uint8, or floats in [0, 1]")
    array = np.ascontiguousarray(array, dtype=np.uint8 if is_bytes else np.float32)
    if not array.flags.writeable:  # copied, because torch warns about read-only arrays
        array = array.copy()
    batch = torch.from_numpy(array).permute(0, 3, 1, 2)
    if is_bytes:
        return batch.float() / 255, single
    low, high = float(batch.min()), float(batch.max())  # NaN if any pixel is NaN
    if not (low >= 0 and high <= 1):
        raise InputError(f"float images range from {low:g} to {high:g}; scale them to [0, 1] or give uint8")
    return batch, single


def to_bytes(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Converts one input image to 8-bit RGB."""
    array = to_array(image)
    if array.ndim != 3:
        raise InputError(f"an image has shape {array.shape}; give one RGB image of shape (h, w, 3)")
    if array.dtype == np.uint8 and array.shape[-1] == 3 and array.size:
        return array
    return np.asarray((to_batch(array)[0][0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _from_pillow(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise InputError(f"the Pillow image cannot be decoded ({error}); replace it") from error
    # If the EXIF header is broken, the image is not rotated.
    with contextlib.suppress(OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        image = ImageOps.exif_transpose(image)
    if image.mode in ("F", "I"):
        what = f"{'floats' if image.mode == 'F' else '32-bit numbers'} (mode {image.mode})"
        raise InputError(f"the Pillow image holds {what}; give an array of uint8 or floats in [0, 1]")
    if image.mode.startswith("I;16"):  # Pillow would clip the values at 255
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))
