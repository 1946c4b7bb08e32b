"""Bicycles and motorcycles, ridden or parked, in views from the side, from behind or from the front."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from street_scenes import paint
from street_scenes.looks import chance
from street_scenes.people import BICYCLE, MOTORCYCLE, RIDER, Limb, queue_limbs
from street_scenes.street import Stage

_DARK = np.full(3, 0.015, np.float32)


def _ring(x: float, y: float, radius: float, squeeze: float, width: float) -> list[Limb]:
    angle = np.linspace(0, 2 * np.pi, 15)
    points = [(x + radius * squeeze * float(np.cos(a)), y + radius * float(np.sin(a))) for a in angle]
    return [(a, b, width, width, _DARK) for a, b in pairwise(points)]


def bicycle(rng: np.random.Generator, view: float) -> list[Limb]:
    """Builds a bicycle as a list of tapered capsules (``Limb``).

    Args:
        rng: Random generator for colors and details.
        view: Direction of travel in the picture, from -1 (to the left) to 1 (to the right). If the absolute value is
            below 0.3, the bicycle is seen from behind or from the front.
    """
    frame, r = paint.sign(rng) * 0.7, 0.34
    if abs(view) < 0.3:
        limbs: list[Limb] = [
            ((0.0, 0.03), (0.0, 0.65), 0.03, 0.03, _DARK),
            ((-0.27, 1.02), (0.27, 1.02), 0.02, 0.02, _DARK),
        ]
        limbs += [
            ((0.0, 0.6), (0.0, 0.95), 0.02, 0.025, frame),
            ((-0.08, 0.92), (0.08, 0.92), 0.035, 0.035, _DARK),
        ]
        if chance(rng, 0.5):
            limbs.append(((0.0, 0.72), (0.0, 0.75), 0.035, 0.035, paint.hsv(0, 0.9, 0.7)))
        if chance(rng, 0.35):
            limbs.append(((0.0, 0.45), (0.0, 0.62), 0.13, 0.13, paint.cloth(rng)))
        return limbs
    back, front = (-0.52 * view, r), (0.52 * view, r)
    seat, crank, head = (-0.2 * view, 0.88), (-0.05 * view, 0.3), (0.36 * view, 0.9)
    limbs = _ring(back[0], r, r, abs(view), 0.02) + _ring(front[0], r, r, abs(view), 0.02)
    bars = [(back, seat), (back, crank), (seat, crank), (crank, head), (seat, head), (head, front)]
    limbs += [(a, b, 0.018, 0.018, frame) for a, b in bars]
    limbs.append((head, (head[0] - 0.05 * view, 1.02), 0.016, 0.016, _DARK))
    limbs.append(((head[0] - 0.1 * view, 1.02), (head[0] + 0.08 * view, 1.0), 0.02, 0.02, _DARK))
    limbs.append(((seat[0] - 0.1 * view, 0.92), (seat[0] + 0.1 * view, 0.92), 0.035, 0.025, _DARK))
    return limbs


def rider(rng: np.random.Generator, view: float, seat: float = 0.92) -> list[Limb]:
    """Builds the rider of a bicycle or a motorcycle as a list of tapered capsules (``Limb``).

    Args:
        rng: Random generator for clothes and details.
        view: Direction of travel, as in ``bicycle``.
        seat: Height of the seat in meters.
    """
    bright = chance(rng, 0.25)
    top = paint.hsv(rng.uniform(50, 75), 0.8, 0.9) if bright else paint.cloth(rng)
    legs, face = paint.cloth(rng), paint.skin(rng)
    helmet = paint.hsv(rng.uniform(10, 40), 0.4, 0.2) if chance(rng, 0.5) else paint.sign(rng)
    turn = float(rng.uniform(0.2, 0.8))
    if abs(view) < 0.3:
        low, high = 0.22 + 0.14 * turn, 0.22 + 0.14 * (1 - turn)
        limbs: list[Limb] = []
        for x, foot in ((-0.11, low), (0.11, high)):
            knee = (x * 1.35, foot + 0.4)
            limbs += [((x * 0.7, seat), knee, 0.09, 0.065, legs), (knee, (x, foot), 0.065, 0.045, legs)]
            limbs.append(((x, foot), (x * 1.1, foot - 0.04), 0.05, 0.045, _DARK * 2))
        for x in (-0.22, 0.22):
            limbs += [((x * 0.85, 1.4), (x * 1.25, 1.15), 0.06, 0.045, top * 0.9)]
            limbs += [((x * 1.25, 1.15), (x * 1.1, 1.03), 0.045, 0.035, top * 0.85)]
        limbs += [
            ((0.0, seat + 0.02), (0.0, 1.2), 0.16, 0.16, top),
            ((-0.1, 1.38), (0.1, 1.38), 0.1, 0.1, top),
        ]
        limbs += [((0.0, 1.15), (0.0, 1.38), 0.16, 0.18, top)]
        if chance(rng, 0.3):
            limbs.append(((0.0, 1.12), (0.0, 1.35), 0.14, 0.13, paint.cloth(rng)))
        head = (0.0, 1.58)
    else:
        hip, shoulder = (-0.2 * view, seat + 0.02), (0.1 * view, 1.4)
        limbs = []
        for phase in (-1.0, 1.0):
            sole = (-0.05 * view + 0.12 * phase * view * turn, 0.3 + 0.14 * phase * (1 - turn))
            bent = (0.18 * view + 0.06 * phase * view, 0.62 + 0.1 * phase)
            limbs += [(hip, bent, 0.09, 0.065, legs), (bent, sole, 0.065, 0.045, legs)]
            limbs.append((sole, (sole[0] + 0.12 * view, sole[1] - 0.03), 0.04, 0.035, _DARK * 2))
        limbs += [(hip, shoulder, 0.13, 0.14, top), (shoulder, (0.26 * view, 1.18), 0.06, 0.045, top * 0.85)]
        limbs.append(((0.26 * view, 1.18), (0.34 * view, 1.04), 0.045, 0.035, top * 0.8))
        head = (0.2 * view, 1.58)
    limbs.append(((head[0], head[1] - 0.1), head, 0.06, 0.09, face))
    limbs.append(((head[0], head[1] + 0.03), (head[0], head[1] + 0.06), 0.1, 0.09, helmet))
    return limbs


def motorcycle(rng: np.random.Generator, view: float) -> list[Limb]:
    """Builds a motorcycle as a list of tapered capsules (``Limb``). For ``view``, see ``bicycle``."""
    body = paint.sign(rng)
    if abs(view) < 0.3:
        limbs: list[Limb] = [
            ((0.0, 0.08), (0.0, 0.55), 0.08, 0.09, _DARK),
            ((0.0, 0.55), (0.0, 0.85), 0.17, 0.16, body),
        ]
        limbs += [
            ((-0.36, 1.05), (0.36, 1.05), 0.025, 0.025, _DARK),
            ((-0.42, 1.12), (-0.38, 1.12), 0.05, 0.05, _DARK),
        ]
        limbs += [((0.38, 1.12), (0.42, 1.12), 0.05, 0.05, _DARK)]
        limbs.append(((-0.04, 0.8), (0.04, 0.8), 0.05, 0.05, paint.hsv(0, 0.9, 0.6)))
        return limbs
    limbs = []
    for x in (-0.68, 0.68):
        limbs += _ring(x * view, 0.3, 0.25, abs(view), 0.06)
        limbs.append(((x * view, 0.3), (x * view, 0.31), 0.13, 0.13, np.full(3, 0.1, np.float32)))
    limbs += [((-0.4 * view, 0.45), (0.3 * view, 0.45), 0.17, 0.2, _DARK * 3)]
    limbs += [
        ((0.05 * view, 0.72), (0.35 * view, 0.78), 0.16, 0.14, body),
        ((-0.75 * view, 0.8), (-0.1 * view, 0.74), 0.08, 0.1, _DARK),
    ]
    limbs += [((0.45 * view, 0.95), (0.68 * view, 0.3), 0.035, 0.035, np.full(3, 0.2, np.float32))]
    limbs += [
        ((0.4 * view, 1.02), (0.5 * view, 0.9), 0.05, 0.1, body),
        ((-0.75 * view, 0.65), (-0.55 * view, 0.7), 0.1, 0.1, body),
    ]
    return limbs


def ride(stage: Stage) -> None:
    """Adds cyclists, motorcyclists, and cycles parked on the sidewalks to the paint list ``stage.items``."""
    rng, street, look = stage.rng, stage.street, stage.look
    for _ in range(int(rng.poisson(look.cyclists))):
        view = float(rng.choice([-1.0, 1.0])) if chance(rng, 0.18) else float(rng.normal(0, 0.06))
        _rider(stage, view, motor=False)
    if chance(rng, 0.08):
        _rider(stage, float(rng.choice([-1.0, 1.0])) if chance(rng, 0.3) else 0.0, motor=True)
    for side in street.sides:
        if chance(rng, 0.14):
            along, view = 4 + 30 * rng.random() ** 1.4, float(rng.choice([-1.0, 1.0]))
            motor = chance(rng, 0.2)
            for number in range(int(rng.integers(1, 7 if not motor else 3))):
                lateral = side.sign * (side.back - rng.uniform(0.2, 0.6) - (0.0 if chance(rng, 0.6) else 0.8))
                limbs = motorcycle(rng, view) if motor else bicycle(rng, view * rng.uniform(0.4, 1.0))
                place = lateral + (rng.normal(0, 0.1) if not motor else 0)
                queue_limbs(
                    stage,
                    [(limbs, MOTORCYCLE if motor else BICYCLE)],
                    place,
                    along + number * rng.uniform(0.5, 1.2),
                )


def _rider(stage: Stage, view: float, motor: bool) -> None:
    rng, street = stage.rng, stage.street
    own = chance(rng, 0.6)
    edge = street.sides[0 if (street.own if own else -street.own) < 0 else 1]
    reach = edge.edge - (2.4 if edge.parked else 0.5)
    lateral = edge.sign * max(0.3, reach - 1.8 * rng.random())
    along = 4.5 + 35 * rng.random() ** 1.5
    cycle = motorcycle(rng, view) if motor else bicycle(rng, view)
    label = MOTORCYCLE if motor else BICYCLE
    person = rider(rng, view, 0.85 if motor else 0.92)
    parts = [(cycle, label), (person, RIDER)]
    if not own and abs(view) < 0.3:
        parts = [(person, RIDER), (cycle[:1] + cycle[1:2], label)]
    queue_limbs(stage, parts, float(lateral), float(along))
