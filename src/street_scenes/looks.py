"""What sets the looks apart: distributions of camera, light, palette, traffic and optics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """Distributions a scene is drawn from; a pair is the ends of a uniform distribution.

    Attributes:
        name: ``game``, ``camera`` or ``night``.
        focal: focal length over the square root of the picture's area.
        horizon: mean and deviation of the horizon's row over the picture's height.
        height: of the camera, metres.
        left_traffic: chance that the traffic keeps to the left.
        overcast: chance of a covered sky.
        kinds: weights of the kinds of place, see ``street_scenes.street.KINDS``.
        saturation: factor on the saturation of all paint.
        bare: chance that a place's trees have no leaves.
        traffic: mean number of moving vehicles.
        people: mean number of pedestrians.
        cyclists: mean number of cyclists.
        lane: width of a lane, metres.
        floors: least and most floors of a house in town.
        key: mean picture brightness (linear) that the exposure aims at, a range drawn on a log scale.
        sky_weight: how much the sky counts for the exposure.
        blur: deviation of the lens blur over the picture's height.
        noise: strength of the sensor noise.
        quality: JPEG quality.
        contrast: strength of the tone curve's S.
        distortion: radial lens distortion.
        detail: amount of sharpening.
        grade: strength of a color grade, from 0 for none to 1.
        photographed: whether the picture has a lens's faults.
        lit_windows: share of windows with light behind them; 0 by day.
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
        """Whether street lamps light the scene instead of sun and sky."""
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
    """Finds a look by name.

    Raises:
        ValueError: no such look.
    """
    if name not in LOOKS:
        raise ValueError(f"unknown look {name!r} of the street scenes; choose from {', '.join(LOOKS)}")
    return LOOKS[name]


def uniform(rng: np.random.Generator, ends: Range) -> float:
    """Draws between the ends of a range."""
    return ends[0] + (ends[1] - ends[0]) * float(rng.random())


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def pick(rng: np.random.Generator, weights: tuple[float, ...]) -> int:
    """Draws an index with the given weights."""
    edges = np.cumsum(weights)
    return int(min(np.searchsorted(edges, rng.random() * edges[-1], side="right"), len(weights) - 1))
