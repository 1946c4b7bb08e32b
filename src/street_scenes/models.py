"""Shapes of vehicles. A shape is a side profile, extruded across the width, with panes, lamps and wheels."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from street_scenes import paint
from street_scenes.looks import chance

TRUCK, BUS, TRAIN, CAR = 14, 15, 16, 13

Patch = tuple[int, float, float, float, float, np.ndarray, float]
"""A rectangle on a strip of a vehicle's body, as a tuple of seven entries: index of the strip; left edge and right edge
as fractions of the strip's half width (-1 to 1); start and end along the strip (0 at the strip's first profile point, 1
at the second); albedo; gloss. A strip is the surface between two neighboring profile points (see ``Model``)."""


@dataclass
class Model:
    """The shape of a vehicle. Vehicle coordinates are (right, up, forwards) in meters.

    Attributes:
        label: TrainId of the vehicle.
        width: Width of the vehicle in meters.
        profile: Points of the outline seen from the side, (n, 3), from the bottom of the rear over the roof to the
            bottom of the front. A point has a forwards position in meters, a height in meters, and a width as a
            fraction of ``width``.
        strips: Albedos of the n - 1 strips of the body. A strip lies between two neighboring points of the profile.
        gloss: Reflectance of each strip for the light of the sky, in [0, 1].
        sides: Polygons that are painted on both sides, as tuples (points as in ``profile``, (m, 3); albedo; gloss).
        patches: Panes, lamps and license plates on the strips (see ``Patch``).
        wheels: (Forwards position of the center, radius) of each wheel on one side, in meters.
        mirrors: Position (forwards, up) of the wing mirrors in meters, or ``None`` if there are no mirrors.
    """

    label: int
    width: float
    profile: np.ndarray
    strips: list[np.ndarray]
    gloss: list[float]
    sides: list[tuple[np.ndarray, np.ndarray, float]]
    patches: list[Patch] = field(default_factory=list)
    wheels: list[tuple[float, float]] = field(default_factory=list)
    mirrors: np.ndarray | None = None

    def quads(self) -> np.ndarray:
        """Returns the corners of the strips in vehicle coordinates, (number of strips, 4, 3)."""
        count = len(self.profile) - 1
        ones = np.ones(count)
        return self._part(np.arange(count), -ones, ones, 0 * ones, ones)

    def patch_quads(self) -> np.ndarray:
        """Returns the corners of the patches in vehicle coordinates, (number of patches, 4, 3)."""
        numbers = np.array([patch[:5] for patch in self.patches], np.float64).reshape(-1, 5)
        return self._part(numbers[:, 0].astype(int), *numbers[:, 1:].T)

    def _part(
        self, index: np.ndarray, left: np.ndarray, right: np.ndarray, start: np.ndarray, end: np.ndarray
    ) -> np.ndarray:
        """Returns the 3D corners of k rectangles on the model's surface, as an array (k, 4, 3).

        Each argument contains one of the first five entries of k patches (see ``Patch``), as an array (k,). ``index``
        is the strip: the surface between the profile points ``index`` and ``index`` + 1.
        """
        first, way = self.profile[index], self.profile[index + 1] - self.profile[index]
        corners = []
        for across, along in ((left, start), (left, end), (right, end), (right, start)):
            spot = first + way * along[:, None]
            corners.append(np.stack([spot[:, 2] * across * (self.width / 2), spot[:, 1], spot[:, 0]], axis=1))
        return np.stack(corners, axis=1)


def _dark(rng: np.random.Generator, low: float = 0.008, high: float = 0.05) -> np.ndarray:
    return np.full(3, rng.uniform(low, high), np.float32) * np.array([0.95, 1.0, 1.06], np.float32)


def _shrink(points: np.ndarray, amount: float) -> np.ndarray:
    middle = points.mean(axis=0)
    return middle + (points - middle) * [amount, amount, 1.0]


def car(rng: np.random.Generator, color: np.ndarray) -> Model:
    """Builds the shape of a car: a sedan, a hatchback, a station wagon, or a taller car such as an SUV or a minivan."""
    kind = rng.random()
    saloon, tall = kind < 0.3, kind > 0.72
    length, width = rng.uniform(3.6, 4.8), rng.uniform(1.62, 1.88)
    high = rng.uniform(1.62, 1.88) if tall else rng.uniform(1.36, 1.52)
    belt = high * rng.uniform(0.59, 0.66)
    hood = belt * rng.uniform(0.86, 0.97)
    rear, deck = (-0.49, -0.3) if saloon else (-0.5, -0.485)
    roof_rear = rng.uniform(-0.22, -0.14) if saloon else rng.uniform(-0.46, -0.36)
    roof_front, screen = rng.uniform(0.02, 0.1), rng.uniform(0.2, 0.28)
    top = rng.uniform(0.7, 0.8)
    profile = np.array([
        [-0.475, 0.2, 0.86], [-0.5, 0.42, 0.93], [rear, belt * 0.82, 0.95],
        [min(rear + 0.015, deck - 0.004), belt, 0.93],
        [deck, belt + 0.02, 0.92], [roof_rear, high * 0.965, top], [(roof_rear + roof_front) / 2, high, top + 0.02],
        [roof_front, high * 0.97, top], [screen, belt + 0.03, 0.9], [0.42, hood, 0.87], [0.485, hood * 0.82, 0.85],
        [0.5, 0.42, 0.85], [0.48, 0.2, 0.8],
    ])  # fmt: skip
    profile[:, 0] *= length
    glass, bumper = _dark(rng), color if chance(rng, 0.7) else _dark(rng, 0.02, 0.06)
    strips = [bumper, bumper, color, color, glass, color, color, glass, color, color, bumper, bumper]
    shine = rng.uniform(0.06, 0.24)
    gloss = [0.02, 0.02, 0.04, 0.08, shine * 0.7, 0.12, 0.12, shine, 0.1, 0.06, 0.03, 0.02]
    lower = np.concatenate([profile[:5], profile[8:]])
    lower[3:6, 2] = 1.0
    house = profile[4:9].copy()
    pane = _shrink(house + np.array([0, 0.02, 0]), 0.86)
    pane[:, 1] = np.maximum(pane[:, 1], belt + 0.05)
    pillar = float(rng.uniform(-0.04, 0.08)) * length
    front, back = pane.copy(), pane.copy()
    front[:, 0], back[:, 0] = np.maximum(front[:, 0], pillar + 0.04), np.minimum(back[:, 0], pillar - 0.04)
    sides = [(lower, color, 0.06), (house, color * 0.9, 0.08), (front, glass, 0.14), (back, glass, 0.14)]
    line = np.array(
        [
            [-0.4 * length, 0.33, 1.0],
            [0.42 * length, 0.33, 1.0],
            [0.42 * length, 0.25, 1.0],
            [-0.4 * length, 0.25, 1],
        ]
    )
    sides.append((line, color * 0.4, 0.0))
    radius = rng.uniform(0.29, 0.36)
    base = rng.uniform(0.27, 0.31) * length
    return Model(
        CAR,
        width,
        profile,
        strips,
        gloss,
        sides,
        _car_patches(rng, color, shine),
        [(-base, radius), (base * 1.06, radius)],
        np.array([screen * length - 0.25, belt]),
    )


def _car_patches(rng: np.random.Generator, color: np.ndarray, shine: float) -> list[Patch]:
    red = paint.hsv(rng.uniform(-6, 6) % 360, 0.85, rng.uniform(0.3, 0.65)) * (
        6.0 if chance(rng, 0.15) else 1.0
    )
    lamp = np.array([0.7, 0.7, 0.72], np.float32) * (8.0 if chance(rng, 0.12) else 1.0)
    plate = paint.hsv(50, 0.75, 0.85) if chance(rng, 0.5) else np.full(3, 0.7, np.float32)
    inner, low = rng.uniform(0.6, 0.78), rng.uniform(-0.3, 0.4)
    patches: list[Patch] = [
        (2, -0.97, -inner, low, 1.0, red, 0.05), (2, inner, 0.97, low, 1.0, red, 0.05),
        (1, -0.3, 0.3, 0.35, 0.7, plate, 0.0), (0, -0.95, 0.95, 0.0, 0.5, _dark(rng), 0.0),
        (4, -0.86, 0.86, 0.1, 0.86, _dark(rng), shine * 0.6), (7, -0.9, 0.9, 0.08, 0.94, _dark(rng), shine),
        (9, -0.98, -0.6, 0.3, 1.0, lamp, 0.1), (9, 0.6, 0.98, 0.3, 1.0, lamp, 0.1),
        (9, -0.5, 0.5, 0.45, 1.0, _dark(rng), 0.02),
        (10, -0.28, 0.28, 0.5, 0.8, np.full(3, 0.7, np.float32), 0.0),
        (11, -0.9, 0.9, 0.2, 0.8, _dark(rng), 0.0),
    ]  # fmt: skip
    if chance(rng, 0.5):
        patches.append((9, -0.95, 0.95, 0.85, 1.0, color * 0.6, 0.02))
    return patches


def box(
    rng: np.random.Generator,
    label: int,
    length: float,
    width: float,
    high: float,
    color: np.ndarray,
    floor: float = 0.3,
) -> Model:
    """Builds a box-shaped vehicle with an inclined front. Vans, buses, trucks and trams are made from such boxes.

    Args:
        rng: Random generator for the proportions of the vehicle.
        label: TrainId of the vehicle.
        length: Length in meters.
        width: Width in meters.
        high: Height in meters.
        color: Albedo of the body, (3,).
        floor: Height of the body's lower edge in meters.
    """
    nose = rng.uniform(0.02, 0.06) if length > 6 else rng.uniform(0.06, 0.16)
    shoulder = rng.uniform(0.35, 0.5)
    profile = np.array([
        [-0.498, floor, 0.95], [-0.5, 0.5 * high, 1.0], [-0.498, 0.94 * high, 0.98], [-0.49, high, 0.92],
        [0.46 - nose, high, 0.92], [0.49 - nose, 0.95 * high, 0.95], [0.5 - nose * 0.3, shoulder * high, 0.98],
        [0.5, 0.3 * high, 0.97], [0.49, floor, 0.94],
    ])  # fmt: skip
    profile[:, 0] *= length
    glass = _dark(rng)
    strips = [color, color, color, color * 0.9, color, glass, color, color * 0.8]
    gloss = [0.03, 0.04, 0.05, 0.1, 0.1, 0.22, 0.05, 0.03]
    lower = profile.copy()
    lower[:, 2] = np.maximum(lower[:, 2], 0.97)
    red = paint.hsv(0, 0.85, 0.5)
    white = np.full(3, 0.65, np.float32)
    patches: list[Patch] = [
        (0, -0.97, -0.8, 0.5, 0.95, red, 0.04), (0, 0.8, 0.97, 0.5, 0.95, red, 0.04),
        (0, -0.3, 0.3, 0.2, 0.4, paint.hsv(50, 0.7, 0.8), 0.0), (0, -0.97, 0.97, 0.0, 0.12, _dark(rng), 0.0),
        (6, -0.95, -0.6, 0.5, 1.0, white, 0.1), (6, 0.6, 0.95, 0.5, 1.0, white, 0.1),
        (7, -0.3, 0.3, 0.3, 0.6, white, 0.0), (7, -0.95, 0.95, 0.75, 1.0, _dark(rng), 0.0),
    ]  # fmt: skip
    radius = 0.34 if length < 6.5 else 0.48
    wheels = [(-0.3 * length, radius), (0.32 * length, radius)]
    return Model(label, width, profile, strips, gloss, [(lower, color, 0.05)], patches, wheels)


def _band(length: float, start: float, end: float, low: float, high: float) -> np.ndarray:
    return np.array([[start, low, 0.985], [start, high, 0.98], [end, high, 0.98], [end, low, 0.985]]) * [
        length,
        1,
        1,
    ]


def van(rng: np.random.Generator, color: np.ndarray) -> Model:
    """Builds a delivery van. As in Cityscapes, the van is labeled as a car."""
    length, high = rng.uniform(4.2, 5.9), rng.uniform(1.8, 2.6)
    model = box(rng, CAR, length, rng.uniform(1.75, 2.0), high, color, 0.25)
    glass = _dark(rng)
    model.sides.append((_band(length, 0.2, 0.4, 0.55 * high, 0.88 * high), glass, 0.14))
    if chance(rng, 0.35):
        model.sides.append((_band(length, -0.42, 0.15, 0.55 * high, 0.88 * high), glass, 0.14))
    if chance(rng, 0.7):
        for left, right in ((-0.85, -0.08), (0.08, 0.85)):
            model.patches.append((1, left, right, 0.25, 0.85, glass, 0.15))
    if chance(rng, 0.3):
        model.sides.append((_band(length, -0.4, 0.1, 0.3 * high, 0.5 * high), paint.sign(rng), 0.02))
    return model


def bus(rng: np.random.Generator, color: np.ndarray, label: int = BUS) -> Model:
    """Builds a bus with one or two decks, or a tram if ``label`` is ``TRAIN``.

    A tram is longer than a bus and has no visible wheels.
    """
    double = label == BUS and chance(rng, 0.3)
    length = rng.uniform(9, 12.5) if label == BUS else rng.uniform(14, 26)
    high = rng.uniform(4.1, 4.4) if double else rng.uniform(2.8, 3.4)
    model = box(rng, label, length, rng.uniform(2.4, 2.6), high, color)
    glass, deck = _dark(rng, 0.015, 0.07), high / (2 if double else 1)
    panes = int(length / rng.uniform(1.3, 2.2))
    for level in range(2 if double else 1):
        low, top = level * deck + 0.42 * deck, level * deck + (0.8 if double else 0.86) * deck
        edges = np.linspace(-0.47, 0.47, panes + 1)
        for start, end in pairwise(edges.tolist()):
            model.sides.append((_band(length, start + 0.006, end - 0.006, low, top), glass, 0.14))
    stripe = paint.sign(rng) if chance(rng, 0.6) else color * 0.6
    model.sides.append((_band(length, -0.49, 0.49, 0.42, 0.42 + rng.uniform(0.1, 0.4)), stripe, 0.03))
    model.patches += [(1, -0.85, 0.85, 0.1, 0.7, glass, 0.16), (5, -0.93, 0.93, 0.1, 0.95, glass, 0.2)]
    model.patches.append((5, -0.7, 0.7, 0.0, 0.1, _dark(rng), 0.0))
    model.patches.append((4, -0.6, 0.6, 0.3, 0.9, paint.hsv(40, 0.8, 0.5), 0.0))
    if label != BUS:
        model.wheels = []
    return model


def truck(rng: np.random.Generator, color: np.ndarray) -> list[tuple[Model, float]]:
    """Builds a truck from two parts, a cab and a body.

    Returns:
        The shape of each part with the forwards position of the part's center in meters.
    """
    width = rng.uniform(2.2, 2.55)
    cab = box(rng, TRUCK, rng.uniform(1.9, 2.4), width * 0.95, rng.uniform(2.4, 3.1), color, 0.45)
    cab.sides.append((_band(2.0, -0.1, 0.4, 1.5, 2.2), _dark(rng), 0.14))
    cab.wheels = [(0.1, 0.48)]
    length, high = rng.uniform(4.0, 9.0), rng.uniform(2.8, 3.9)
    if chance(rng, 0.25):
        high = rng.uniform(1.4, 2.0)
    load = paint.hsv(rng.uniform(0, 360), rng.uniform(0, 0.6), rng.uniform(0.3, 0.95))
    body = box(rng, TRUCK, length, width, high, load, 0.85)
    body.profile[:, 0] = np.sign(body.profile[:, 0]) * length / 2
    body.strips = [load] * 8
    body.patches = [
        (0, -0.02, 0.02, 0.0, 1.0, load * 0.5, 0.0),
        (0, -0.98, -0.8, -0.25, -0.05, paint.hsv(0, 0.8, 0.5), 0.0),
        (0, 0.8, 0.98, -0.25, -0.05, paint.hsv(0, 0.8, 0.5), 0.0),
        (0, -0.98, 0.98, -0.35, 0.03, _dark(rng), 0.0),
    ]  # fmt: skip
    if chance(rng, 0.5):
        body.sides.append((_band(length, -0.3, 0.3, 0.45 * high, 0.75 * high), paint.sign(rng), 0.0))
    body.wheels = [(-0.33 * length, 0.48), (-0.33 * length + 1.1, 0.48)]
    return [(cab, 1.2), (body, -length / 2 - 0.1)]
