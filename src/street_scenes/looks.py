"""The looks of scenes. A look is a set of distributions for camera, light, colors, traffic and optics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """The distributions from which the parameters of a scene are sampled.

    A pair of numbers gives the ends of a uniform distribution, except for ``horizon`` and ``key``.

    Attributes:
        name: Name of the look: ``game``, ``camera`` or ``night``.
        focal: Focal length in pixels, divided by the square root of the number of pixels in the picture.
        horizon: Row of the horizon divided by the picture's height. The pair gives the mean and the standard deviation
            of a normal distribution.
        height: Height of the camera in meters.
        left_traffic: Probability that traffic keeps to the left.
        overcast: Probability of an overcast sky.
        kinds: Relative frequencies of the kinds of place in ``street_scenes.street.KINDS``.
        saturation: Factor on the color saturation of surfaces.
        bare: Probability that street trees have no leaves.
        traffic: Mean number of sampled moving vehicles. Vehicles that would overlap are skipped after sampling.
        people: Mean number of pedestrian groups, which is multiplied by a random factor for each scene.
        cyclists: Mean number of cyclists on the road.
        lane: Width of a lane in meters.
        floors: Least and greatest number of floors of a house in a town.
        key: Target brightness of the automatic exposure. If ``sky_weight`` is 0, the geometric mean of the linear
            brightness of all pixels outside the sky becomes ``key``. The pair gives the ends of a log-uniform
            distribution.
        sky_weight: Weight of the sky in the exposure, from 0 (exposure for the pixels outside the sky) to 1 (exposure
            for the sky).
        blur: Standard deviation of the lens blur divided by the picture's height.
        noise: Strength of the sensor noise.
        quality: JPEG quality. If the sampled quality is 97 or more, the picture is not compressed.
        contrast: Strength of the S-shaped tone curve.
        distortion: Coefficient of the radial lens distortion.
        detail: Strength of the sharpening.
        grade: Strength of the color grade, from 0 (no color grade) to 1.
        photographed: Whether the picture imitates a photograph, with lens flaws such as vignetting.
        lit_windows: Fraction of windows that are lit from inside, 0 by day.
    """

    name: str
    focal: Range
    horizon: Range
    height: Range
    left_traffic: float
    overcast: float
    kinds: tuple[float, ...]
    saturation: Range
    bare: float
    traffic: float
    people: float
    cyclists: float
    lane: Range
    floors: tuple[int, int]
    key: Range
    sky_weight: Range
    blur: Range
    noise: Range
    quality: tuple[int, int]
    contrast: Range
    distortion: Range
    detail: Range
    grade: float = 0.0
    photographed: bool = True
    lit_windows: float = 0.0

    @property
    def is_dark(self) -> bool:
        """Returns whether the scene is lit by street lamps instead of sun and sky."""
        return self.lit_windows > 0


CAMERA = Look(
    name="camera",
    focal=(0.85, 1.3),
    horizon=(0.485, 0.05),
    height=(1.15, 1.75),
    left_traffic=0.75,
    overcast=0.5,
    kinds=(0.66, 0.14, 0.07, 0.08, 0.05),
    saturation=(0.55, 1.1),
    bare=0.6,
    traffic=3.2,
    people=4.6,
    cyclists=0.55,
    lane=(2.7, 3.5),
    floors=(2, 5),
    key=(0.045, 0.17),
    sky_weight=(0.0, 0.4),
    blur=(0.0, 0.0022),
    noise=(0.004, 0.03),
    quality=(55, 96),
    contrast=(0.3, 1.7),
    distortion=(-0.06, 0.05),
    detail=(0.2, 1.8),
)

GAME = Look(
    name="game",
    focal=(0.65, 1.05),
    horizon=(0.44, 0.06),
    height=(1.4, 2.8),
    left_traffic=0.15,
    overcast=0.3,
    kinds=(0.45, 0.15, 0.2, 0.08, 0.12),
    saturation=(1.0, 1.7),
    bare=0.12,
    traffic=4.0,
    people=4.2,
    cyclists=0.4,
    lane=(3.2, 4.4),
    floors=(2, 9),
    key=(0.12, 0.24),
    sky_weight=(0.5, 1.0),
    blur=(0.0, 0.0008),
    noise=(0.0, 0.004),
    quality=(93, 100),
    contrast=(0.4, 1.2),
    distortion=(0.0, 0.0),
    detail=(0.2, 1.2),
    grade=0.4,
    photographed=False,
)

NIGHT = replace(
    CAMERA,
    name="night",
    overcast=1.0,
    people=3.2,
    key=(0.035, 0.09),
    sky_weight=(0.0, 0.0),
    noise=(0.015, 0.05),
    detail=(0.2, 1.0),
    lit_windows=0.3,
)

LOOKS = {look.name: look for look in (GAME, CAMERA, NIGHT)}


def get_look(name: str) -> Look:
    """Returns the look with the given name.

    Raises:
        ValueError: No look has this name.
    """
    if name not in LOOKS:
        raise ValueError(f"unknown look {name!r} of the street scenes; choose from {', '.join(LOOKS)}")
    return LOOKS[name]


def uniform(rng: np.random.Generator, ends: Range) -> float:
    """Samples a number uniformly between the two ends of a range."""
    return ends[0] + (ends[1] - ends[0]) * float(rng.random())


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Returns ``True`` with the given probability."""
    return bool(rng.random() < probability)


def pick(rng: np.random.Generator, weights: tuple[float, ...]) -> int:
    """Samples an index from 0 to n - 1 with probabilities proportional to the n weights."""
    edges = np.cumsum(weights)
    return int(min(np.searchsorted(edges, rng.random() * edges[-1], side="right"), len(weights) - 1))
