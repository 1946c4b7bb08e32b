"""Pedestrians as figures made of tapered capsules, and the painting of such figures."""

from __future__ import annotations

import numpy as np

from street_scenes import paint
from street_scenes.looks import chance
from street_scenes.street import Stage
from street_scenes.vehicles import shadow

PERSON, RIDER, BICYCLE, MOTORCYCLE = 11, 12, 18, 17

_HALF = np.linspace(0, np.pi, 6)

Limb = tuple[tuple[float, float], tuple[float, float], float, float, np.ndarray]
"""A tapered capsule, as a tuple of five entries: first end (right, up), second end (right, up), radius at the first
end, radius at the second end, albedo. All lengths are in meters."""


def outlines(limbs: list[Limb]) -> np.ndarray:
    """Returns the outlines of n limbs, which are tapered capsules.

    The array has the shape (n, 12, 2): polygons with 12 corners each, as coordinates (right, up) in meters.
    """
    numbers = np.array([[*start, *end, first, last] for start, end, first, last, _ in limbs])
    start, end, first, last = (
        numbers[:, None, 0:2],
        numbers[:, None, 2:4],
        numbers[:, None, 4:5],
        numbers[:, None, 5:6],
    )
    way = end - start
    around = np.arctan2(way[:, :, 1], way[:, :, 0]) + np.pi / 2 + _HALF[None, :]
    ring = np.stack([np.cos(around), np.sin(around)], axis=2)
    return np.concatenate([start + first * ring, end - last * ring], axis=1)


def figure(rng: np.random.Generator, *, sideways: float, stride: float, size: float) -> list[Limb]:
    """Builds a standing or walking person as a list of tapered capsules (``Limb``), in painting order.

    The feet are at height 0.

    Args:
        rng: Random generator for clothes and details of the pose.
        sideways: Walking direction in the picture, from -1 (to the left) to 1 (to the right). At 0, the person walks
            toward the camera or away from the camera.
        stride: Relative length of the step, from 0 (standing) to about 1.
        size: Body height in meters.
    """
    trousers, top, shoes = paint.cloth(rng), paint.cloth(rng), paint.hsv(20, 0.3, rng.uniform(0.05, 0.3))
    face, hair = (
        paint.skin(rng),
        paint.hsv(rng.uniform(15, 40), rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.5)),
    )
    turn, wide = np.sign(sideways) or 1.0, 1 - 0.45 * abs(sideways)
    hip, shoulder = 0.5, 0.81
    bulk = rng.uniform(0.85, 1.2)
    skirt = chance(rng, 0.12)
    limbs: list[Limb] = []

    def leg(phase: float, spread: float) -> None:
        swing = 0.2 * stride * phase * sideways
        knee = (spread + swing * 0.55 + 0.03 * abs(phase) * turn * stride * abs(sideways), 0.27)
        lift = 0.03 * stride if phase < 0 else 0.0
        foot = (spread * 1.05 + swing, 0.035 + lift)
        tone = trousers if not skirt else face
        limbs.append(((spread * 0.8, hip), knee, 0.05 * bulk, 0.036 * bulk, tone))
        limbs.append((knee, foot, 0.036 * bulk, 0.026, tone))
        limbs.append((foot, (foot[0] + 0.05 * sideways, 0.018), 0.022, 0.018, shoes))

    def arm(phase: float, spread: float) -> None:
        swing = 0.13 * stride * phase * sideways
        elbow = (spread * 1.15 + swing * 0.5, 0.63)
        hand = (spread * 1.12 + swing + 0.05 * turn * abs(sideways), rng.uniform(0.46, 0.56))
        limbs.append(((spread, shoulder - 0.02), elbow, 0.03 * bulk, 0.026 * bulk, top * 0.9))
        limbs.append((elbow, hand, 0.026 * bulk, 0.018, top * 0.85))
        limbs.append((hand, (hand[0], hand[1] - 0.02), 0.017, 0.014, face))

    arm(-1.0, 0.115 * wide)
    leg(-1.0, 0.045 * wide)
    leg(1.0, -0.045 * wide)
    coat = rng.uniform(0.36, 0.47) if chance(rng, 0.35) or skirt else 0.475
    limbs.append(((0.0, coat), (0.0, 0.6), 0.078 * wide * bulk + 0.01, 0.075 * wide * bulk, top))
    limbs.append(((-0.055 * wide, 0.77), (0.055 * wide, 0.77), 0.05 * bulk, 0.05 * bulk, top))
    limbs.append(((0.0, 0.58), (0.0, 0.75), 0.08 * wide * bulk, 0.095 * wide * bulk, top))
    arm(1.0, -0.115 * wide)
    if chance(rng, 0.3):
        bag = paint.cloth(rng)
        x = -0.1 * turn if sideways else rng.choice([-0.13, 0.0, 0.13])
        low = 0.42 if abs(x) > 0.12 else 0.62
        limbs.append(((x, low), (x, low + 0.1), 0.055, 0.05, bag))
    limbs += _head(rng, face, hair, turn, abs(sideways))
    return [
        ((a[0] * size, a[1] * size), (b[0] * size, b[1] * size), r * size, q * size, c)
        for a, b, r, q, c in limbs
    ]


def _head(
    rng: np.random.Generator, face: np.ndarray, hair: np.ndarray, turn: float, side: float
) -> list[Limb]:
    behind = side < 0.5 and chance(rng, 0.5)
    tone = hair if behind else face
    head: list[Limb] = [
        ((0.0, 0.82), (0.0, 0.87), 0.03, 0.03, face),
        ((0.0, 0.905), (0.0, 0.945), 0.045, 0.05, tone),
    ]
    if not behind:
        back = -0.015 * turn * side
        head.append(((back, 0.955), (back, 0.965), 0.044, 0.042, hair))
    if chance(rng, 0.25):
        head.append(((-0.02, 0.88), (0.02, 0.88), 0.04, 0.04, hair))
    return head


def paint_limbs(
    stage: Stage, limbs: list[Limb], lateral: float, along: float, label: int, lit: float = 1.0
) -> None:
    """Paints limbs (see ``Limb``) as a flat figure that faces the camera.

    Args:
        stage: Scene to paint on.
        limbs: Limbs in painting order.
        lateral: Lateral street coordinate in meters.
        along: Depth in meters.
        label: TrainId of the limbs.
        lit: Fraction of the sunlight that reaches the limbs, in [0, 1].
    """
    camera, canvas, light = stage.camera, stage.canvas, stage.light
    foot = camera.project(np.array([[lateral, 0.0, along]]))[0]
    scale = camera.scale(along)
    bright = light.on((0.0, 0.2, -0.95), lit)
    shapes = (outlines(limbs) * [scale, -scale] + foot).astype(np.float32)
    if not canvas.seen(shapes.reshape(-1, 2)):
        return
    for shape, (_, _, _, _, albedo) in zip(shapes, limbs, strict=True):
        canvas.fill(shape, albedo * bright, label, along, gradient=(1.1, 0.75), grain=0.12)


def ground_shadow(stage: Stage, lateral: float, along: float, half: float) -> None:
    """Paints the shadow under a figure. ``half`` is half of the shadow's width in meters."""
    ring = np.array(
        [[lateral + x, 0.0, along + z] for x, z in ((-half, -0.2), (half, -0.2), (half, 0.25), (-half, 0.25))]
    )
    shadow(stage, stage.camera.project(ring), stage.camera.scale(along), 0.5)


def stand(stage: Stage, lateral: float, along: float) -> None:
    """Adds a pedestrian with random clothes and a random pose to the paint list ``stage.items``."""
    rng = stage.rng
    sideways = float(rng.choice([-1.0, 1.0])) * (1.0 if chance(rng, 0.35) else rng.uniform(0, 0.5))
    stride = rng.uniform(0.4, 1.1) if chance(rng, 0.75) else 0.1
    size = rng.uniform(1.55, 1.9) if chance(rng, 0.92) else rng.uniform(0.95, 1.4)
    limbs = figure(rng, sideways=sideways, stride=float(stride), size=float(size))
    lit = 1.0 if chance(rng, 0.6) else 0.2

    def paint_it() -> None:
        ground_shadow(stage, lateral, along, 0.3)
        paint_limbs(stage, limbs, lateral, along, PERSON, lit)

    stage.add(along, paint_it)


def populate(stage: Stage) -> None:
    """Adds single pedestrians and groups to the paint list ``stage.items``. Most pedestrians are on the sidewalks."""
    rng, street = stage.rng, stage.street
    town = street.kind in ("town", "lot")
    crowd = rng.uniform(0.3, 1.9)
    for _ in range(int(rng.poisson(stage.look.people * crowd * (1.2 if town else 0.55)))):
        side = street.sides[int(rng.integers(2))]
        if chance(rng, 0.09):
            lateral = rng.uniform(-street.sides[0].edge, street.sides[1].edge)
        else:
            inner, outer = side.edge + 0.3, max(side.back - 0.2, side.edge + 0.6)
            lateral = side.sign * rng.uniform(inner, outer)
        along = 4.5 + 45 * rng.random() ** 1.6
        for number in range(1 if chance(rng, 0.65) else int(rng.integers(2, 4))):
            stand(stage, lateral + 0.55 * number + rng.normal(0, 0.1), along + rng.normal(0, 0.25))


def queue_limbs(stage: Stage, parts: list[tuple[list[Limb], int]], lateral: float, along: float) -> None:
    """Adds one object with several parts, for example a rider on a bicycle, to the paint list ``stage.items``.

    ``parts`` holds (limbs, trainId) of each part in painting order.
    """
    lit = 1.0 if chance(stage.rng, 0.6) else 0.3

    def paint_it() -> None:
        ground_shadow(stage, lateral, along, 0.4)
        for limbs, label in parts:
            paint_limbs(stage, limbs, lateral, along, label, lit)

    stage.add(along, paint_it)
