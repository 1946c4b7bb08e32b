"""Random photometric changes of training images, for models that must generalize to unseen cameras.

The changes imitate what differs between cameras: white balance, saturation, tone curve, light, sharpness, sensor noise
and JPEG compression. Domain randomization of this kind is described by Yue et al. (2019) and Hendrycks et al. (2020).
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


def change_appearance(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Changes colors, tone, light, sharpness and noise of an RGB image at random. The geometry is not changed.

    Args:
        image: RGB image.
        rng: Source of random numbers. The number of draws does not depend on the size of the image, except for noise.
        strength: Upper limit of all changes. 0 changes nothing. 1 gives changes that are larger than the differences
            between most daylight cameras.
    """
    if strength == 0:
        return image
    pixels = _change_colors(image.astype(np.float32) / 255, rng, strength)
    if rng.random() < 0.4:
        pixels *= _uneven_light(image.shape[:2], rng, strength)[..., None]
    pixels = _change_sharpness(pixels, rng, strength)
    if rng.random() < 0.5:
        deviation = 0.06 * strength * rng.random() ** 2
        pixels = pixels + np.float32(deviation) * rng.standard_normal(pixels.shape, dtype=np.float32)
    changed = (pixels * 255).round().clip(0, 255).astype(np.uint8)
    return _compress(changed, rng, strength) if rng.random() < 0.5 else changed


def _change_colors(
    pixels: Float32[np.ndarray, "h w 3"], rng: np.random.Generator, strength: float
) -> Float32[np.ndarray, "h w 3"]:
    """Changes saturation, white balance, hue, contrast, brightness and gamma."""
    saturation = rng.uniform(1 - 0.9 * strength, 1 + 0.6 * strength)
    if rng.random() < 0.1 * strength:
        saturation = 0.0
    gains = np.exp(strength * rng.normal(0, 0.12, 3))
    matrix = gains[:, None] * (
        saturation * _hue_rotation(rng.normal(0, 0.2 * strength)) + (1 - saturation) * _GRAY
    )
    contrast, brightness = rng.uniform(1 - 0.4 * strength, 1 + 0.4 * strength, 2)
    mean = float((pixels @ _GRAY).mean())
    changed = pixels @ np.float32(contrast * matrix.T) + np.float32((brightness - contrast) * mean)
    gamma = np.exp(strength * rng.uniform(-0.45, 0.45))
    return np.asarray(changed.clip(0, 1) ** np.float32(gamma), np.float32)


def _hue_rotation(angle: float) -> Float32[np.ndarray, "3 3"]:
    """Returns the rotation of colors about the gray axis by an angle in radians (Rodrigues' formula)."""
    axis = np.roll(np.eye(3), -1, axis=0) - np.roll(np.eye(3), 1, axis=0)
    turn = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) / np.sqrt(3) * axis
    return turn.astype(np.float32)


def _uneven_light(
    size: tuple[int, int], rng: np.random.Generator, strength: float
) -> Float32[np.ndarray, "h w"]:
    """Returns smooth random gains, such as those of shadows, haze and vignetting."""
    coarse = rng.normal(0, 0.35 * strength, (4, 6)).astype(np.float32)
    gains = np.exp(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return np.asarray(gains, np.float32)


def _change_sharpness(
    pixels: Float32[np.ndarray, "h w 3"], rng: np.random.Generator, strength: float
) -> Float32[np.ndarray, "h w 3"]:
    """Blurs or sharpens the image, with a filter whose width is relative to the height of the image."""
    drawn, deviation = rng.uniform(-1, 1), max(0.3, rng.uniform(0, 0.008 * strength) * len(pixels))
    blurred = cv2.GaussianBlur(pixels, (0, 0), deviation)
    amount = 1.0 if drawn < -0.4 else max(0.0, drawn) * -1.5 * strength
    return np.asarray(pixels + np.float32(amount) * (blurred - pixels), np.float32).clip(0, 1)


def _compress(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Compresses and decompresses the image with JPEG, whose artifacts are part of most real images."""
    quality = int(rng.integers(95 - round(65 * strength), 96))
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
