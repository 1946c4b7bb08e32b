"""Tileable noise textures: generated once per process from fixed seeds, then cropped at random."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

SIZE = 512
"""Height and width of a noise tile in pixels. A tile can be repeated without visible borders."""

_SLOPES = {"grain": 0.35, "mottle": 1.0, "cloud": 1.75}


@lru_cache(maxsize=16)
def tile(kind: str, variant: int = 0) -> Float32[np.ndarray, "size size"]:
    """Generates a tile of noise with zero mean and unit standard deviation, clipped at ±3.

    The amplitude at the frequency f is proportional to ``f**-slope``.

    Args:
        kind: ``grain`` (nearly white, slope 0.35), ``mottle`` (stains, slope 1) or ``cloud`` (smooth, slope 1.75).
        variant: Index of the tile. Tiles of the same kind with different indices are independent.
    """
    rng = np.random.default_rng([variant, sorted(_SLOPES).index(kind)])
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1.0
    spectrum *= frequency ** -_SLOPES[kind]
    spectrum[0, 0] = 0.0
    values = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    values = np.clip(values / values.std(), -3.0, 3.0).astype(np.float32)
    values.flags.writeable = False
    return values


def crop(
    rng: np.random.Generator,
    kind: str,
    height: int,
    width: int,
    scale: float | tuple[float, float] = 1.0,
) -> Float32[np.ndarray, "height width"]:
    """Crops a random window from a random tile and resizes the window.

    Args:
        rng: Random generator for the choice of the tile and the position of the window.
        kind: Kind of noise, as in ``tile``.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        scale: Output pixels per tile pixel: one number, or (vertical, horizontal).
    """
    vertical, horizontal = scale if isinstance(scale, tuple) else (scale, scale)
    rows = max(2, min(SIZE, int(np.ceil(height / vertical)) + 1))
    columns = max(2, min(SIZE, int(np.ceil(width / horizontal)) + 1))
    source = tile(kind, int(rng.integers(3)))
    if vertical == 1.0 and horizontal == 1.0 and height <= SIZE and width <= SIZE:
        top, left = int(rng.integers(SIZE - height + 1)), int(rng.integers(SIZE - width + 1))
        return source[top : top + height, left : left + width]
    top, left = int(rng.integers(SIZE)), int(rng.integers(SIZE))
    if top + rows <= SIZE and left + columns <= SIZE:
        window = source[top : top + rows, left : left + columns]
    else:
        window = np.take(
            np.take(source, range(top, top + rows), 0, mode="wrap"),
            range(left, left + columns),
            1,
            mode="wrap",
        )
    return np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def sample(kind: str, variant: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Samples a tile at the given positions with bilinear interpolation. The tile is repeated in both directions.

    Args:
        kind: Kind of noise, as in ``tile``.
        variant: Index of the tile.
        x: Column of each position in tile pixels, float32, below 32,000 in absolute value.
        y: Row of each position in tile pixels, float32, with the same limit and shape as ``x``.
    """
    return np.asarray(cv2.remap(tile(kind, variant), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))
