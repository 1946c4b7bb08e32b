"""Random albedos of surfaces and color conversions. All colors are linear RGB, (3,), float32."""

from __future__ import annotations

import colorsys

import numpy as np

from street_scenes.looks import chance, pick


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def linear(red: float, green: float, blue: float) -> np.ndarray:
    """Converts sRGB values (0 to 255) to linear RGB (0 to 1)."""
    return np.array([_linear(red / 255), _linear(green / 255), _linear(blue / 255)], np.float32)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Converts an sRGB color in HSV form to linear RGB.

    ``hue`` is in degrees. ``saturation`` and ``value`` are in [0, 1].
    """
    red, green, blue = colorsys.hsv_to_rgb(hue / 360.0 % 1.0, saturation, value)
    return np.array([_linear(red), _linear(green), _linear(blue)], np.float32)


def vary(rng: np.random.Generator, color: np.ndarray, amount: float = 0.12) -> np.ndarray:
    """Multiplies a color by a common random factor, and each channel also by a separate random factor.

    All factors are log-normal. The logarithm of the common factor has the standard deviation ``amount``. The logarithm
    of a channel's factor has a quarter of this standard deviation.
    """
    factor = np.exp(amount * rng.standard_normal() + 0.25 * amount * rng.standard_normal(3))
    return np.clip(color * factor, 0.002, 0.95).astype(np.float32)


def saturate(color: np.ndarray, amount: float) -> np.ndarray:
    """Multiplies the saturation of a color by ``amount`` and keeps the brightness."""
    grey = float(color @ np.array([0.21, 0.72, 0.07], np.float32))
    return np.clip(grey + (color - grey) * amount, 0.002, 0.95).astype(np.float32)


def car(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for the paint of a car."""
    kind = pick(rng, (0.24, 0.22, 0.12, 0.14, 0.14, 0.06, 0.08))
    if kind == 0:
        return hsv(220, 0.05, rng.uniform(0.55, 0.78))  # silver
    if kind == 1:
        return hsv(230, 0.15 * rng.random(), rng.uniform(0.06, 0.25))  # black, dark gray
    if kind == 2:
        return hsv(60, 0.04, rng.uniform(0.82, 0.95))  # white
    if kind == 3:
        return hsv(rng.uniform(210, 235), rng.uniform(0.5, 0.9), rng.uniform(0.18, 0.55))
    if kind == 4:
        return hsv(rng.uniform(-8, 8) % 360, rng.uniform(0.65, 0.95), rng.uniform(0.35, 0.75))
    if kind == 5:
        return hsv(rng.uniform(120, 175), rng.uniform(0.3, 0.7), rng.uniform(0.18, 0.45))
    return hsv(rng.uniform(0, 360), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.8))


def cloth(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for clothes: mostly dark and weakly saturated, sometimes bright."""
    if chance(rng, 0.72):
        return hsv(rng.uniform(0, 360), rng.uniform(0.0, 0.35), rng.uniform(0.06, 0.4))
    return hsv(rng.uniform(0, 360), rng.uniform(0.1, 0.9), rng.uniform(0.35, 0.95))


def skin(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for skin."""
    return hsv(rng.uniform(12, 26), rng.uniform(0.25, 0.55), rng.uniform(0.4, 0.9))


def wall(rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Returns a random albedo for a wall, and whether the wall is made of bricks."""
    kind = pick(rng, (0.22, 0.2, 0.14, 0.16, 0.14, 0.14))
    if kind == 0:  # red brick
        return hsv(rng.uniform(4, 18), rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.55)), True
    if kind == 1:  # yellow or brown brick
        return hsv(rng.uniform(24, 42), rng.uniform(0.2, 0.45), rng.uniform(0.4, 0.75)), True
    if kind == 2:  # white or cream plaster
        return hsv(rng.uniform(30, 60), rng.uniform(0.0, 0.2), rng.uniform(0.75, 0.95)), False
    if kind == 3:  # concrete, stone
        return hsv(rng.uniform(25, 60), rng.uniform(0.03, 0.2), rng.uniform(0.35, 0.7)), False
    if kind == 4:  # dark cladding
        return hsv(rng.uniform(0, 360), rng.uniform(0.0, 0.2), rng.uniform(0.12, 0.35)), False
    return hsv(rng.uniform(0, 360), rng.uniform(0.1, 0.4), rng.uniform(0.45, 0.85)), False


def sign(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo of a sign or painted surface. It is a saturated color, nearly white, or nearly black."""
    kind = pick(rng, (0.65, 0.2, 0.15))
    if kind == 0:
        return hsv(rng.uniform(0, 360), rng.uniform(0.5, 0.95), rng.uniform(0.3, 0.85))
    return hsv(40, 0.08, rng.uniform(0.75, 0.95)) if kind == 1 else hsv(40, 0.1, rng.uniform(0.05, 0.2))


def leaves(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for leaves: green or olive, sometimes an autumn color."""
    if chance(rng, 0.1):
        return hsv(rng.uniform(20, 50), rng.uniform(0.4, 0.75), rng.uniform(0.3, 0.55))
    return hsv(rng.uniform(55, 125), rng.uniform(0.2, 0.65), rng.uniform(0.26, 0.6))


def bark(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for trunks and twigs: brown, gray or greenish, dark or pale."""
    return hsv(rng.uniform(18, 60), rng.uniform(0.08, 0.4), rng.uniform(0.16, 0.48))


def grass(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for mown grass, from fresh green to dry."""
    return hsv(rng.uniform(50, 105), rng.uniform(0.3, 0.65), rng.uniform(0.28, 0.55))
