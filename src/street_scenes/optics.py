"""Conversion of linear light to a picture: lens, exposure, sensor noise, tone curve, sharpening and compression."""

from __future__ import annotations

import cv2
import numpy as np

from street_scenes import noise
from street_scenes.looks import Look, chance, uniform

SKY = 10

_CAST_GAIN = np.array([0.55, 0.75, 0.8], np.float32)
_CAST_OFFSET = np.array([0.34, 0.08, 0.26], np.float32)


def distort(
    rng: np.random.Generator, look: Look, color: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotates picture and label map by a small random angle and applies the same radial lens distortion to both.

    Returns:
        The distorted picture and the distorted label map.
    """
    strength, roll = uniform(rng, look.distortion), float(rng.normal(0, 0.012))
    rows, columns = label.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    half = np.float32(np.hypot(rows, columns) / 2)
    x, y = (x - columns / 2) / half, (y - rows / 2) / half
    radius = x * x + y * y
    widest = max(1.0, 1.0 + strength)
    grow = (1 + np.float32(strength) * radius) / np.float32(
        widest * (1 + abs(roll) * max(rows, columns) / min(rows, columns))
    )
    cosine, sine = np.float32(np.cos(roll)), np.float32(np.sin(roll))
    source_x = (cosine * x - sine * y) * grow * half + np.float32(columns / 2)
    source_y = (sine * x + cosine * y) * grow * half + np.float32(rows / 2)
    edge = cv2.BORDER_REPLICATE
    color = cv2.remap(color, source_x, source_y, cv2.INTER_LINEAR, borderMode=edge)
    return color, cv2.remap(label, source_x, source_y, cv2.INTER_NEAREST, borderMode=edge)


def bonnet(rng: np.random.Generator, look: Look, color: np.ndarray, label: np.ndarray) -> None:
    """Paints the hood of the ego vehicle at the bottom of the picture, in place, and labels the hood as 255.

    Only some scenes get a hood. If the look does not imitate photographs, no scene gets a hood.
    """
    if not look.photographed or not chance(rng, 0.07):
        return
    rows, columns = label.shape
    x = np.linspace(-1, 1, 24)
    middle, high = rng.uniform(-0.6, 0.6), rng.uniform(0.02, 0.1)
    edge = rows * (1 - high * np.clip(1 - ((x - middle) / 1.4) ** 2, 0, 1))
    outline = np.stack([(x + 1) * columns / 2, edge], axis=1)
    outline = np.concatenate([outline, [[columns, rows + 9], [0, rows + 9]]]).astype(np.int32)
    tone = float(rng.uniform(0.01, 0.2))
    cv2.fillPoly(color, [outline], (tone, tone, tone * 1.05))
    cv2.fillPoly(label, [outline], 255)
    if chance(rng, 0.6):
        cv2.polylines(color, [outline[:24]], False, (2 * tone, 2 * tone, 2.1 * tone), max(1, rows // 90))


def halve(color: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halves the resolution of the picture and the label map.

    A new pixel gets the mean color and the most frequent label of 2×2 old pixels.
    """
    rows, columns = label.shape
    small = cv2.resize(color, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
    vote = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return small, vote.astype(np.uint8)


def develop(rng: np.random.Generator, look: Look, color: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Converts linear light to an RGB picture, as a camera or a game would show the scene.

    Args:
        rng: Random generator.
        look: Look of the scene.
        color: Linear RGB, (h, w, 3), float32.
        label: Label map of trainIds, (h, w). The automatic exposure needs the pixels of the sky.

    Returns:
        The picture, (h, w, 3), uint8.
    """
    rows, columns = label.shape
    color = _lens(rng, look, color)
    color = color * _exposure(rng, look, color, label)
    if look.noise[1] > 0:
        strength = np.float32(uniform(rng, look.noise) * rng.random())
        grain = np.stack(
            [noise.crop(rng, "grain", rows, columns, rng.uniform(1.0, 1.6)) for _ in range(3)], axis=2
        )
        mono = noise.crop(rng, "grain", rows, columns, 1.0)[:, :, None]
        color = color + strength * np.sqrt(np.clip(color, 0, 1) * 0.3 + 0.003) * (0.6 * grain + 0.7 * mono)
    picture = _grade(look, _tone(rng, look, color))
    amount = np.float32(uniform(rng, look.detail))
    if amount > 0.1:
        soft = cv2.GaussianBlur(picture, (0, 0), max(0.6, rows / 400))
        picture = picture + amount * (picture - soft)
    result = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    quality = int(rng.integers(look.quality[0], look.quality[1] + 1))
    if quality < 97:
        done, data = cv2.imencode(".jpg", result[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        back = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert done
        assert back is not None
        result = np.ascontiguousarray(back[:, :, ::-1])
    return result


def _lens(rng: np.random.Generator, look: Look, color: np.ndarray) -> np.ndarray:
    """Applies the flaws of a lens: blur, glare, chromatic aberration and vignetting."""
    rows, columns = color.shape[:2]
    deviation = uniform(rng, look.blur) * rows
    if deviation > 0.3:
        color = cv2.GaussianBlur(color, (0, 0), deviation)
    glare = rng.uniform(0.0, 0.05) if look.photographed else rng.uniform(0.0, 0.03)
    small = cv2.resize(
        np.minimum(color, 4), (max(8, columns // 8), max(8, rows // 8)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(1.0, 4.0))
    veil = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)
    color = color + np.float32(glare) * (veil - color)
    if look.photographed:
        if chance(rng, 0.5):
            shift = rng.normal(0, 0.0012, 2)
            for channel, sign in ((0, 1), (2, -1)):
                grow = 1 + sign * shift[0]
                matrix = np.array(
                    [[grow, 0, columns / 2 * (1 - grow)], [0, grow, rows / 2 * (1 - grow)]], np.float32
                )
                color[:, :, channel] = cv2.warpAffine(
                    np.ascontiguousarray(color[:, :, channel]),
                    matrix,
                    (columns, rows),
                    borderMode=cv2.BORDER_REPLICATE,
                )
        y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
        color = color * (1 - np.float32(rng.uniform(0, 0.22)) * (x * x + y * y))[:, :, None]
    return np.asarray(color, np.float32)


def _exposure(rng: np.random.Generator, look: Look, color: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns a gain for each color channel, (3,): that of the exposure, multiplied by a white balance.

    The exposure depends on the brightness of the sky and on the brightness of all other pixels, with random weights.
    """
    bright = color.mean(axis=2)
    sky = label == SKY
    ground = float(np.exp(np.log(bright[~sky] + 0.01).mean())) if (~sky).any() else 0.2
    above = float(bright[sky].mean()) if sky.any() else ground
    weight = uniform(rng, look.sky_weight)
    key = float(np.exp(uniform(rng, (float(np.log(look.key[0])), float(np.log(look.key[1]))))))
    # In some photographs, the exposure follows the bright sky. The street is then dark.
    if look.photographed and not look.is_dark and chance(rng, 0.13):
        key, weight = key * rng.uniform(0.25, 0.6), 0.35
    gain = (key / ground) ** (1 - weight) * (0.75 / max(above, 0.05)) ** weight
    gain = max(gain, 0.3 * key / ground)
    warmth = rng.normal(0, 0.035)
    tint = np.array([1 + warmth, 1 + rng.normal(0, 0.015), 1 - warmth], np.float32)
    return (gain * tint).astype(np.float32)


def _tone(rng: np.random.Generator, look: Look, color: np.ndarray) -> np.ndarray:
    """Applies a random tone curve (highlight compression, gamma and contrast) and a random saturation."""
    color = np.maximum(color, 0)
    shoulder = np.float32(rng.uniform(0.0, 0.35))
    color = color * (1 + shoulder * color * 0.3) / (1 + shoulder * color)
    picture = np.power(np.clip(color, 0, 1.2), np.float32(1 / rng.uniform(2.0, 2.5)))
    contrast = np.float32(uniform(rng, look.contrast))
    clipped = np.clip(picture, 0, 1)
    curved = clipped * clipped * (3 - 2 * clipped)
    picture = picture + contrast * 0.5 * (curved - clipped)
    grey = picture.mean(axis=2, keepdims=True)
    vivid = rng.uniform(0.7, 1.15) if look.photographed else rng.uniform(1.0, 1.4)
    picture = grey + np.float32(vivid) * (picture - grey)
    return np.asarray(picture + np.float32(0.03 * rng.random() ** 3), np.float32)


def _grade(look: Look, picture: np.ndarray) -> np.ndarray:
    """Applies the color grade of a renderer: pale colors with a violet cast.

    The color grade is the largest difference between the looks. Domain adaptation can bridge this difference, because
    the grade leaves shapes unchanged and is an affine function of the colors.
    """
    strength = np.float32(look.grade)
    if strength == 0:
        return picture
    light = picture.mean(axis=2, keepdims=True)
    pale = (0.45 * picture + 0.33 * light) * _CAST_GAIN + _CAST_OFFSET
    return np.asarray(picture + strength * (pale - picture), np.float32)
