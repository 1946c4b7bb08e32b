"""Street furniture: lamps, traffic lights, signs, bollards, bins and other objects on the sidewalk."""

from __future__ import annotations

from functools import partial

import numpy as np

from street_scenes import paint
from street_scenes.looks import chance
from street_scenes.street import Side, Stage

POLE, LIGHT, SIGN, VOID = 5, 6, 7, 255


def _flat(stage: Stage, lateral: float, along: float, outline: np.ndarray) -> np.ndarray:
    """Returns the pixel coordinates (n, 2) of a flat outline that faces the camera.

    ``outline`` has points (right, up) in meters, (n, 2), relative to the position (``lateral``, ``along``).
    """
    points = np.stack([outline[:, 0] + lateral, outline[:, 1], np.full(len(outline), along)], axis=1)
    return stage.camera.project(points)


def _rectangle(left: float, right: float, low: float, high: float) -> np.ndarray:
    return np.array([[left, high], [right, high], [right, low], [left, low]])


def _disc(radius: float, up: float, corners: int = 14, turn: float = 0.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners + 1)[:-1] + turn
    return np.stack([radius * np.cos(angle), up + radius * np.sin(angle)], axis=1)


def pole(stage: Stage, lateral: float, along: float, high: float, width: float, color: np.ndarray) -> None:
    """Paints a vertical pole that stands on the ground. All lengths are in meters."""
    light = stage.light.on((0.3, 0.1, -0.9))
    foot, top = stage.camera.project(np.array([[lateral, 0, along], [lateral, high, along]]))
    thick = max(width * stage.camera.scale(along), 0.35)
    stage.canvas.stroke(np.stack([foot, top]), thick, color * light, POLE, along)
    if thick > 4:
        shift = np.array([thick * 0.3, 0], np.float32)
        stage.canvas.stroke(
            np.stack([foot + shift, top + shift]), thick * 0.3, color * light * 0.6, POLE, along
        )


def metal(rng: np.random.Generator) -> np.ndarray:
    """Returns a random albedo for metal poles and boxes: dark paint or bare gray metal."""
    if chance(rng, 0.45):
        return paint.hsv(rng.uniform(80, 220), rng.uniform(0, 0.3), rng.uniform(0.08, 0.25))
    return paint.hsv(210, 0.04, rng.uniform(0.4, 0.75))


def lamp(stage: Stage, side: Side, along: float, high: float, color: np.ndarray, arm: float) -> None:
    """Adds a street lamp to the paint list ``stage.items``. All lengths are in meters.

    ``arm`` is the length of the lamp's arm over the road. Some lamps carry a banner.
    """
    rng = stage.rng
    lateral = side.sign * (side.edge + 0.4 if chance(rng, 0.7) else side.back - 0.2)
    banner = paint.sign(rng) if chance(rng, 0.06) else None

    def paint_it() -> None:
        pole(stage, lateral, along, high, 0.14, color)
        light = stage.light.on((0.0, -0.3, -0.9))
        thick = max(0.08 * stage.camera.scale(along), 0.3)
        ends = stage.camera.project(
            np.array([[lateral, high, along], [lateral - side.sign * arm * 0.6, high + 0.25, along],
                      [lateral - side.sign * arm, high + 0.2, along]])
        )  # fmt: skip
        stage.canvas.stroke(ends, thick, color * light, POLE, along)
        head = _rectangle(-0.35, 0.35, high + 0.1, high + 0.26) - [side.sign * arm, 0]
        stage.canvas.fill(
            _flat(stage, lateral, along, head), np.full(3, 0.4, np.float32) * light, POLE, along
        )
        if banner is not None:
            board = _rectangle(0.1, 0.75, high * 0.45, high * 0.75)
            stage.canvas.fill(_flat(stage, lateral, along, board), banner * light, SIGN, along, grain=0.1)

    stage.add(along, paint_it)


def signal(stage: Stage, lateral: float, along: float, low: float) -> None:
    """Adds a traffic light on a pole to the paint list ``stage.items``. Some traffic lights are seen from behind.

    ``low`` is the height of the traffic light's lower edge in meters.
    """
    rng = stage.rng
    color, state, back = metal(rng), int(rng.integers(3)), chance(rng, 0.35)
    board = chance(rng, 0.4)

    def paint_it() -> None:
        light = stage.light.on((0.0, 0.0, -1.0))
        pole(stage, lateral, along, low + 1.0, 0.12, color)
        dark = np.full(3, 0.012, np.float32) * (1 + 2 * light)
        if board:
            frame = _rectangle(-0.28, 0.28, low - 0.1, low + 1.1)
            stage.canvas.fill(_flat(stage, lateral, along, frame), dark * 1.3, LIGHT, along)
        stage.canvas.fill(
            _flat(stage, lateral, along, _rectangle(-0.17, 0.17, low, low + 1.0)), dark, LIGHT, along
        )
        if back:
            return
        hues = ((2.2, 0.12, 0.08), (2.2, 1.0, 0.1), (0.15, 2.0, 0.9))
        for index in range(3):
            glow = np.array(hues[index], np.float32) * (1.0 if index == state else 0.03)
            pixels = _flat(stage, lateral, along, _disc(0.1, low + 0.83 - 0.33 * index, 10))
            stage.canvas.fill(pixels, glow, LIGHT, along)

    stage.add(along, paint_it)


def sign(stage: Stage, lateral: float, along: float) -> None:
    """Adds a traffic sign on a pole to the paint list ``stage.items``.

    The sign is round, triangular or rectangular. Some signs are seen from behind.
    """
    rng = stage.rng
    low, size = rng.uniform(1.7, 2.6), rng.uniform(0.28, 0.45)
    kind, color = rng.random(), metal(rng)
    white, red, blue = np.full(3, 0.75, np.float32), paint.hsv(0, 0.85, 0.75), paint.hsv(215, 0.8, 0.6)
    parts: list[tuple[np.ndarray, np.ndarray]]
    if kind < 0.3:
        parts = [(_disc(size, low), red), (_disc(size * 0.75, low), white)]
    elif kind < 0.45:
        parts = [(_disc(size, low), blue), (_rectangle(-0.06, 0.06, low - 0.15, low + 0.2), white)]
    elif kind < 0.65:
        parts = [(_disc(size, low, 3, np.pi / 2), red), (_disc(size * 0.65, low, 3, np.pi / 2), white)]
    elif kind < 0.86:
        parts = [(_rectangle(-size, size, low - size, low + size * 1.3), paint.sign(rng))]
        parts.append((_rectangle(-size * 0.6, size * 0.5, low, low + size * 0.6), white))
    elif kind < 0.91:
        wide = size * rng.uniform(1.5, 3)
        tone = (blue, white, paint.hsv(145, 0.8, 0.4))[int(rng.integers(3))]
        parts = [(_rectangle(-wide, wide, low - size, low + size * 1.2), tone)]
        for line in (low - size * 0.5, low + size * 0.1):
            parts.append(
                (_rectangle(-wide * 0.8, wide * rng.uniform(0, 0.8), line, line + size * 0.2), white)
            )
    else:
        parts = [(_disc(size, low), np.full(3, 0.3, np.float32))]

    def paint_it() -> None:
        light = stage.light.on((0.0, 0.1, -1.0))
        pole(stage, lateral, along, low + size, 0.07, color)
        for outline, tone in parts:
            stage.canvas.fill(_flat(stage, lateral, along, outline), tone * light, SIGN, along, grain=0.06)

    stage.add(along, paint_it)


def shop_sign(stage: Stage, side: Side, along: float) -> None:
    """Adds a shop sign, which sticks out from a facade, to the paint list ``stage.items``."""
    rng = stage.rng
    wall = side.back + side.front
    low, size, tone = rng.uniform(2.6, 4.2), rng.uniform(0.5, 1.0), paint.sign(rng)
    outer = side.sign * (wall - size - 0.15)
    left, right = sorted((outer, side.sign * (wall - 0.15)))
    mark = paint.hsv(40, 0.1, 0.9) if float(tone.mean()) < 0.4 else paint.hsv(220, 0.3, 0.15)

    def paint_it() -> None:
        light = stage.light.on((0.0, 0.1, -1.0))
        board = _rectangle(left, right, low, low + size * rng.uniform(0.7, 1.4))
        stage.canvas.fill(_flat(stage, 0.0, along, board), tone * light, SIGN, along, grain=0.08)
        inner = (board - board.mean(axis=0)) * [0.7, 0.3] + board.mean(axis=0)
        stage.canvas.fill(_flat(stage, 0.0, along, inner), mark * light, SIGN, along)

    stage.add(along, paint_it)


def bollard(stage: Stage, lateral: float, along: float) -> None:
    """Adds a bollard (labeled as a pole) or a bin (unlabeled, 255) to the paint list ``stage.items``."""
    rng = stage.rng
    color, bin_, high = metal(rng), chance(rng, 0.25), rng.uniform(0.7, 1.1)

    def paint_it() -> None:
        light = stage.light.on((0.0, 0.1, -0.9))
        half = 0.3 if bin_ else 0.08
        pixels = _flat(stage, lateral, along, _rectangle(-half, half, 0.0, high))
        stage.canvas.fill(pixels, color * light, VOID if bin_ else POLE, along, gradient=(1.1, 0.7))

    stage.add(along, paint_it)


def furnish(stage: Stage) -> None:
    """Adds all street furniture of a scene to the paint list ``stage.items``."""
    rng, street = stage.rng, stage.street
    clutter(stage)
    steel, high, arm = metal(rng), rng.uniform(5, 10.5), rng.uniform(0.4, 2.2)
    for side in street.sides:
        if chance(rng, 0.75):
            step = rng.uniform(14, 38)
            for along in np.arange(rng.uniform(3, step), 110, step):
                lamp(stage, side, float(along + rng.normal(0, 1)), high, steel, arm)
        for _ in range(int(rng.poisson(2.3))):
            sign(stage, side.sign * (side.edge + rng.uniform(0.2, 1.2)), 6 + 60 * rng.random() ** 1.1)
        if street.kind in ("town", "lot"):
            for _ in range(int(rng.poisson(2.6))):
                along = 4 + 40 * rng.random()
                if side.kind_at(along) == "houses":
                    shop_sign(stage, side, along)
        for _ in range(int(rng.poisson(0.7))):
            along = 3 + 25 * rng.random()
            for number in range(int(rng.integers(1, 5))):
                bollard(stage, side.sign * (side.edge + 0.4), along + 1.6 * number)
        if chance(rng, 0.3):
            along = 5 + 35 * rng.random()
            signal(stage, side.sign * (side.edge + 0.5), along, rng.uniform(2.0, 2.7))
    if street.island is not None:
        sign(stage, rng.normal(0, 0.1), street.island[0] + 0.4)
        if chance(rng, 0.6):
            bollard(stage, 0.0, street.island[1] - 0.4)
    if chance(rng, 0.12):
        signal(stage, rng.normal(0, 0.5), 8 + 30 * rng.random(), rng.uniform(2.0, 2.7))


def clutter(stage: Stage) -> None:
    """Adds unlabeled (255) phone boxes, cabinets, letter boxes, boards and sacks to the paint list ``stage.items``."""
    rng = stage.rng
    for side in stage.street.sides:
        for _ in range(int(rng.poisson(0.9))):
            along = 4.0 + 35 * rng.random() ** 1.3
            lateral = side.sign * rng.uniform(side.edge + 0.4, max(side.back, side.edge + 0.6))
            kind = int(rng.integers(4))
            half, high = ((0.45, 2.4), (0.22, 1.5), (0.6, 1.3), (0.35, 0.9))[kind]
            red = paint.hsv(rng.uniform(-5, 8) % 360, 0.85, rng.uniform(0.4, 0.75))
            color = red if kind < 2 and chance(rng, 0.6) else metal(rng)
            stage.add(along, partial(_paint_box, stage, float(lateral), along, half, high, color, kind == 0))


def _paint_box(
    stage: Stage, lateral: float, along: float, half: float, high: float, color: np.ndarray, panes: bool
) -> None:
    light = stage.light.on((0.0, 0.1, -0.9))
    pixels = _flat(stage, lateral, along, _rectangle(-half, half, 0.0, high))
    stage.canvas.fill(pixels, color * light, VOID, along, gradient=(1.1, 0.75), grain=0.05)
    if panes:
        glass = np.full(3, 0.05, np.float32) * light
        inner = _flat(stage, lateral, along, _rectangle(-0.75 * half, 0.75 * half, 0.5, 0.85 * high))
        stage.canvas.fill(inner, glass, VOID, along, gradient=(1.6, 0.6), grain=0.2)
