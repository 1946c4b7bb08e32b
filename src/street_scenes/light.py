"""Light of a scene: the irradiance from sun and sky on surfaces, and the painting of the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from street_scenes import noise
from street_scenes.camera import Camera
from street_scenes.looks import Look, chance, uniform
from street_scenes.paint import hsv

SKY = 10


@dataclass(frozen=True)
class Light:
    """The light of a scene. Colors and irradiances are linear RGB, (3,).

    Attributes:
        sun: Irradiance from the sun on a surface that faces the sun: low under an overcast sky, and 0 at night.
        ambient: Irradiance from the whole sky on an unoccluded horizontal surface. At night, street lamps replace the
            sky.
        to_sun: Unit vector (lateral, up, along) toward the sun.
        zenith: Color of the sky overhead.
        horizon: Color of the sky at the horizon.
        clouds: Cloud cover in [0, 1].
        cloud_color: Color of the clouds.
        density: Extinction coefficient of the haze in 1/m.
        openness: Fraction of the sky that is visible from the street, in [0, 1].
    """

    sun: np.ndarray
    ambient: np.ndarray
    to_sun: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    cloud_color: np.ndarray
    density: float
    openness: float

    def on(self, normal: tuple[float, float, float] | np.ndarray, lit: float = 1.0) -> np.ndarray:
        """Returns the irradiance on a surface, linear RGB, (3,).

        Args:
            normal: Unit normal (lateral, up, along) of the surface.
            lit: Fraction of the sunlight that reaches the surface, in [0, 1].
        """
        normal = np.asarray(normal, np.float32)
        facing = max(0.0, float(normal @ self.to_sun))
        sky = self.openness * (0.6 + 0.4 * float(normal[1]))
        return (self.ambient * sky + self.sun * (facing * lit)).astype(np.float32)


def draw_light(rng: np.random.Generator, look: Look) -> Light:
    """Samples the light of a scene (weather and position of the sun) from the distributions of a look."""
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.deg2rad(rng.uniform(12, 60))
    up, flat = np.sin(elevation), np.cos(elevation)
    to_sun = np.array([flat * np.sin(azimuth), up, flat * np.cos(azimuth)], np.float32)
    low = 1 - (elevation / np.deg2rad(60))
    game = not look.photographed
    openness = rng.uniform(0.28, 0.8)
    haze = 10 ** (rng.uniform(-4.3, -2.8) if chance(rng, 0.91) else rng.uniform(-2.8, -2.0))
    if look.is_dark:
        return _street_light(rng, to_sun, openness, haze)
    if chance(rng, look.overcast):
        bright = rng.uniform(0.75, 1.0)
        tone = hsv(rng.uniform(195, 235), 0.14 * rng.random() ** 2, bright)
        seen = tone * rng.uniform(0.9, 2.8)
        horizon = seen * rng.uniform(0.85, 1.3)
        sun = np.full(3, rng.uniform(0, 0.35) ** 1.5, np.float32) * rng.random()
        clouds = float(rng.choice([0.0, 0.5, 1.0]))
        return Light(
            sun, tone * 0.95, to_sun, seen, horizon, clouds, seen * rng.uniform(0.45, 1.15), haze, openness
        )
    warm = 0.25 * low * rng.random() * (2.0 if game else 1.0)
    sun = np.array([1.0, 0.93 - 0.4 * warm, 0.82 - 1.0 * warm], np.float32) * rng.uniform(1.4, 3.6)
    depth = rng.uniform(0.35, 0.8) * (1.25 if game else 0.8)
    zenith = hsv(rng.uniform(203, 225), min(depth, 0.9), rng.uniform(0.6, 0.95)) * rng.uniform(0.9, 1.7)
    horizon = hsv(
        rng.uniform(195, 220), depth * rng.uniform(0.05, 0.5), rng.uniform(0.85, 1.0)
    ) * rng.uniform(1.0, 2.8)
    if chance(rng, 0.3 if game else 0.05):
        horizon = hsv(rng.uniform(18, 42), rng.uniform(0.15, 0.5), 1.0) * rng.uniform(0.8, 1.2)
    ambient = (0.55 * zenith + 0.45 * horizon) * rng.uniform(0.35, 0.7)
    clouds = float(rng.uniform(0.2, 0.8)) if chance(rng, 0.6) else 0.0
    white = np.full(3, rng.uniform(0.8, 1.5), np.float32)
    return Light(sun, ambient.astype(np.float32), to_sun, zenith, horizon, clouds, white, haze, openness)


def _street_light(rng: np.random.Generator, to_sun: np.ndarray, openness: float, haze: float) -> Light:
    """Samples the light of a night scene: ambient light from street lamps, and a dark sky with a faint glow."""
    lamps = hsv(rng.uniform(20, 45), rng.uniform(0.05, 0.6), 1.0) * np.float32(rng.uniform(0.5, 1.0))
    zenith = hsv(rng.uniform(215, 255), rng.uniform(0.2, 0.7), 1.0) * rng.uniform(0.003, 0.015)
    horizon = zenith + hsv(rng.uniform(15, 45), rng.uniform(0.2, 0.6), 1.0) * rng.uniform(0.0, 0.03)
    none = np.zeros(3, np.float32)
    clouds = float(rng.choice([0.0, 0.7]))
    return Light(none, lamps, to_sun, zenith, horizon, clouds, horizon, haze, openness)


def sky_picture(rng: np.random.Generator, light: Light, camera: Camera, rows: int) -> np.ndarray:
    """Paints the sky: a gradient, clouds and the glow around the sun.

    Args:
        rng: Random generator.
        light: Light of the scene.
        camera: Camera of the scene.
        rows: Number of rows from the top of the picture down to the horizon.

    Returns:
        Linear RGB, (rows, columns, 3), float32.
    """
    columns = camera.columns
    if rows <= 0:
        return np.zeros((0, columns, 3), np.float32)
    slope = (camera.rows / 2 - np.arange(rows, dtype=np.float32) - 0.5) / camera.focal
    angle = np.clip(np.arctan(slope) - camera.pitch, 0, None)
    mix = (1 - np.exp(-angle * 3.2))[:, None, None]
    picture = np.broadcast_to(light.horizon * (1 - mix) + light.zenith * mix, (rows, columns, 3)).astype(
        np.float32
    )
    if light.clouds > 0:
        size = camera.rows / 256
        stretch = uniform(rng, (1.2, 4.0)) * size
        field = noise.crop(rng, "cloud", rows, columns, (stretch * rng.uniform(0.35, 1.0), stretch))
        field += 0.25 * noise.crop(rng, "mottle", rows, columns, size)
        cover = np.clip((field + 1.6 * light.clouds - 0.9) * rng.uniform(0.4, 1.2), 0, 1)[:, :, None]
        body = light.cloud_color * (1 + rng.uniform(0.05, 0.3) * field[:, :, None])
        picture += cover * rng.uniform(0.4, 1.0) * (np.maximum(body, 0.02) - picture)
    if light.to_sun[2] > 0.15 and light.sun[0] > 0.2:
        column = columns / 2 + camera.focal * light.to_sun[0] / light.to_sun[2]
        row = camera.rows / 2 - camera.focal * (light.to_sun[1] / light.to_sun[2] + np.tan(camera.pitch))
        reach = camera.focal * rng.uniform(0.15, 0.5)
        across = (np.arange(columns, dtype=np.float32) - np.float32(column)) ** 2
        down = (np.arange(rows, dtype=np.float32) - np.float32(row)) ** 2
        glow = np.exp(-np.sqrt(across[None, :] + down[:, None]) / reach)
        picture += glow[:, :, None] * light.sun * rng.uniform(0.2, 1.0)
    return np.maximum(picture, 0.01)
