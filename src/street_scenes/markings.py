"""Drawing of road markings, dirt, damage and cast shadows on the ground plan."""

from __future__ import annotations

import numpy as np

from street_scenes import trees
from street_scenes.ground import Plan
from street_scenes.looks import chance
from street_scenes.street import Stage

WHITE, YELLOW, LIT, TONE = 0, 1, 2, 3


def paint_markings(stage: Stage, plan: Plan) -> None:
    """Draws road markings, dirt and damaged asphalt on the ground plan.

    The road markings are lines, arrows, crossings, hatching and letters.
    """
    rng, street = stage.rng, stage.street
    left, right = street.sides
    middle = YELLOW if not street.keeps_left and chance(rng, 0.5) else WHITE
    if chance(rng, 0.85):
        _dashes(rng, plan, 0.0, middle)
    for lane in range(1, street.lanes // 2):
        for sign in (-1, 1):
            if chance(rng, 0.85):
                _dashes(rng, plan, sign * lane * street.lane, WHITE)
    for side in (left, right):
        _edge_lines(rng, plan, side.sign * side.edge, -side.sign)
    own = street.own * street.lane / 2
    if chance(rng, 0.3):
        for _ in range(int(rng.integers(1, 4))):
            _arrow(rng, plan, own * rng.choice([-1.0, 1.0, 1.0]) + rng.normal(0, 0.3), rng.uniform(4, 30))
    if chance(rng, 0.22):
        _crossing(rng, plan, -left.edge, right.edge, rng.uniform(4, 35))
    if chance(rng, 0.2):
        along = rng.uniform(3, 25)
        plan.box(min(0, own * 2), max(0, own * 2), along, along + rng.uniform(0.2, 0.5), WHITE, 255)
    if chance(rng, 0.1):
        _hatching(rng, plan, -left.edge, right.edge)
    if chance(rng, 0.1):
        _letters(rng, plan, own, rng.uniform(4, 16))
    if chance(rng, 0.08):
        side = left if chance(rng, 0.5) else right
        ends = sorted((side.sign * (side.edge - 1.6), side.sign * (side.edge - 0.2)))
        plan.box(ends[0], ends[1], -5, 200, None, 6)
        _dashes(rng, plan, side.sign * (side.edge - 1.6), WHITE)
    _dirt(rng, plan, left.edge, right.edge)


def _dashes(rng: np.random.Generator, plan: Plan, lateral: float, plane: int) -> None:
    width = rng.uniform(0.09, 0.18)
    style = rng.random()
    if style < 0.25:
        offsets = (0.0,) if chance(rng, 0.6) else (-0.12, 0.12)
        for offset in offsets:
            plan.box(lateral + offset - width / 2, lateral + offset + width / 2, -5, 120, plane, 235)
        return
    length, gap = (rng.uniform(1.0, 4.5), rng.uniform(1.5, 7.0)) if style < 0.85 else (0.6, 0.4)
    starts = np.arange(rng.uniform(-6, 0), 90, length + gap)
    plan.boxes(
        [(lateral - width / 2, lateral + width / 2, start, start + length) for start in starts], plane, 240
    )


def _edge_lines(rng: np.random.Generator, plan: Plan, kerb: float, inward: int) -> None:
    kind = rng.random()
    lines: tuple[tuple[float, int], ...] = ()
    if kind < 0.3:
        lines = ((0.2, YELLOW), (0.42, YELLOW))
    elif kind < 0.42:
        lines = ((0.25, YELLOW),)
    elif kind < 0.6:
        lines = ((rng.uniform(0.2, 2.2), WHITE),)
    for distance, plane in lines:
        middle = kerb + inward * distance
        start = rng.uniform(-5, 10)
        plan.box(middle - 0.045, middle + 0.045, start, start + rng.uniform(20, 150), plane, 215)


def _arrow(rng: np.random.Generator, plan: Plan, lateral: float, along: float) -> None:
    size = rng.uniform(0.8, 1.3)
    shape = (
        np.array([[-0.08, 0], [0.08, 0], [0.1, 2.4], [0.42, 2.3], [0, 4], [-0.42, 2.3], [-0.1, 2.4]]) * size
    )
    turn = rng.random()
    if turn < 0.3:
        side = 1.0 if chance(rng, 0.5) else -1.0
        shape = np.array(
            [
                [-0.08, 0],
                [0.08, 0],
                [0.1, 2.2],
                [0.5, 2.9],
                [0.6, 2.5],
                [1.0, 3.4],
                [0.3, 3.8],
                [0.38, 3.3],
                [-0.1, 2.5],
            ]
        ) * [side * size, size]
    if chance(rng, 0.25):
        shape = shape * [1, -1] + [0, 4]
    plan.draw(shape + np.array([lateral, along]), WHITE, 240)


def _crossing(rng: np.random.Generator, plan: Plan, left: float, right: float, along: float) -> None:
    depth, stripe = rng.uniform(2.2, 4.5), rng.uniform(0.4, 0.7)
    starts = np.arange(left + 0.3, right - 0.4, 2 * stripe)
    plan.boxes([(start, start + stripe, along, along + depth) for start in starts], WHITE, 245)
    for offset in (-2.0, depth + 1.8):
        if chance(rng, 0.6):
            plan.box(left, right, along + offset, along + offset + 0.2, WHITE, 235)


def _hatching(rng: np.random.Generator, plan: Plan, left: float, right: float) -> None:
    """Draws crosshatching over the full width of the road: a yellow box junction or white hatching."""
    plane = YELLOW if chance(rng, 0.6) else WHITE
    near, size = rng.uniform(2, 25), rng.uniform(6, 14)
    step = rng.uniform(1.6, 2.6)
    for shift in np.arange(-size, right - left, step):
        for slope in (1, -1):
            start, end = np.array([left + shift, near]), np.array([left + shift + size, near + size])
            points = (
                np.stack([start, end]) if slope > 0 else np.array([[start[0], end[1]], [end[0], start[1]]])
            )
            points[:, 0] = np.clip(points[:, 0], left, right)
            plan.line(points, 0.12, plane, 215)


def _letters(rng: np.random.Generator, plan: Plan, lateral: float, along: float) -> None:
    """Draws random strokes that imitate words painted on the road."""
    for index in range(int(rng.integers(3, 6))):
        x = lateral - 1.2 + index * 0.62
        for _ in range(int(rng.integers(2, 5))):
            a, b = rng.uniform([0, 0], [0.42, 2.2], (2, 2))
            points = np.array([[a[0], a[1]], [a[0] if chance(rng, 0.5) else b[0], b[1]]]) + [x, along]
            plan.line(points, 0.11, WHITE, 235)


def _dirt(rng: np.random.Generator, plan: Plan, left: float, right: float) -> None:
    for _ in range(int(rng.integers(0, 7))):  # repaired patches of asphalt
        x, z = rng.uniform(-left, right), 2 + 30 * rng.random() ** 1.5
        w, d = rng.uniform(0.4, 3.0), rng.uniform(0.6, 9.0)
        plan.box(x, min(x + w, right), z, z + d, TONE, int(rng.normal(125, 22)))
    for _ in range(int(rng.integers(0, 5))):  # manhole covers and drains
        x, z, size = rng.uniform(-left, right), rng.uniform(2, 25), rng.uniform(0.25, 0.4)
        angle = np.linspace(0, 2 * np.pi, 4 if chance(rng, 0.4) else 13)[:-1]
        plan.draw(
            np.stack([x + size * np.cos(angle), z + size * np.sin(angle)], 1),
            TONE,
            int(rng.integers(40, 110)),
        )
    for _ in range(int(rng.integers(0, 6))):  # cracks, seams and sealed joints
        z = 1.5 + 22 * rng.random() ** 1.3
        steps = rng.normal(0, 1, (8, 2)) * [0.25, 0.35] + ([0.0, 1.6] if chance(rng, 0.6) else [0.9, 0.0])
        points = np.cumsum(steps, axis=0) + [rng.uniform(-left, right), z]
        plan.line(points, rng.uniform(0.015, 0.07), TONE, int(rng.integers(60, 170)))
    if chance(rng, 0.6):  # wheel tracks
        tone = int(rng.normal(122, 10))
        for x in (-2.6, -1.1, 1.1, 2.6):
            plan.box(x - 0.3, x + 0.3, -5, 150, TONE, tone)


def cast_shadows(stage: Stage, plan: Plan) -> None:
    """Darkens the sunlight channel of the ground plan where houses and trees cast shadows."""
    rng, light, street = stage.rng, stage.light, stage.street
    if float(light.sun[0]) < 0.05:
        return
    reach = -light.to_sun[[0, 2]] / max(float(light.to_sun[1]), 0.2)
    for side in street.sides:
        if side.sign * reach[0] > 0:
            continue
        wall = side.sign * (side.back + side.front)
        for block in side.blocks:
            if block.kind != "houses":
                continue
            near = block.near
            while near < block.far:
                far = min(near + rng.uniform(5, 14), block.far)
                high = rng.uniform(5, 12)
                base = np.array([[wall, near], [wall, far]])
                tip = base[::-1] + reach * high
                plan.draw(np.concatenate([base, tip]), LIT, int(rng.integers(0, 16)))
                near = far
    for _ in range(int(rng.integers(0, 5))):
        side = street.sides[int(rng.integers(2))]
        base = np.array([side.sign * (side.back + rng.uniform(-1, 4)), rng.uniform(-4, 40)])
        _tree_shadow(rng, plan, base, reach, rng.uniform(4, 9))
    for index in range(3):
        trees.soften(plan.paint[index][LIT], plan.levels[index][3], rng.uniform(0.04, 0.3))


def _tree_shadow(
    rng: np.random.Generator, plan: Plan, base: np.ndarray, reach: np.ndarray, high: float
) -> None:
    tip = base + reach * high
    plan.line(np.stack([base, tip]), 0.3, LIT, 20)
    angle = np.linspace(0, 2 * np.pi, 7)[:-1]
    ring = np.stack([np.cos(angle), np.sin(angle) * 1.4], 1)
    for value in (110, 70, 30, 12):
        count = int(rng.integers(8, 24))
        middle = (
            base + reach * high * rng.uniform(0.45, 1.3, (count, 1)) + rng.normal(0, 0.28 * high, (count, 2))
        )
        plan.draw_many(middle[:, None] + rng.uniform(0.15, 1.0, (count, 1, 1)) * ring, LIT, value)
