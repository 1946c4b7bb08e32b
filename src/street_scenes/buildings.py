"""Houses beside the street, and a backdrop of distant houses and woods."""

from __future__ import annotations

import cv2
import numpy as np

from street_scenes import facades, noise, paint
from street_scenes.camera import NEAREST
from street_scenes.looks import chance
from street_scenes.street import END, Side, Stage

BUILDING = 2


def build_houses(stage: Stage) -> None:
    """Adds the houses on both sides of the street to the paint list ``stage.items``."""
    rng, street = stage.rng, stage.street
    town = street.kind in ("town", "lot")
    for side in street.sides:
        common = facades.draw_style(rng, town, _saturation(stage), stage.look.lit_windows)
        height, last = _height(stage, town), (-99.0, 0.0, 0.0)
        for block in side.blocks:
            if block.kind in ("green", "lot") and chance(rng, 0.6):
                _set_back(stage, side, block.near, block.far)
            if block.kind != "houses":
                continue
            near = block.near + (0.0 if town else rng.uniform(0, 2))
            while near < block.far - 1 and near < END:
                length = float(rng.uniform(5, 9) if chance(rng, 0.5) else rng.uniform(9, 26))
                far = min(near + length, block.far)
                if chance(rng, 0.65):
                    common = facades.draw_style(rng, town, _saturation(stage), stage.look.lit_windows)
                if chance(rng, 0.7):
                    height = _height(stage, town)
                wall = side.back + side.front + (rng.uniform(0, 1.5) if chance(rng, 0.25) else 0.0)
                if far > NEAREST + 0.5:
                    exposed = near - last[0] > 0.3 or height > last[1] + 0.5 or wall < last[2] - 0.05
                    _house(stage, side, near, far, wall, height, common, exposed)
                    last = (far, height, wall)
                near = far + (0.0 if town and chance(rng, 0.85) else rng.uniform(0.5, 6.0))


def _saturation(stage: Stage) -> float:
    return float(stage.rng.uniform(*stage.look.saturation))


def _height(stage: Stage, town: bool) -> float:
    low, high = stage.look.floors
    floors = int(stage.rng.integers(low, high + 1)) if town else int(stage.rng.integers(1, 4))
    return float(floors * stage.rng.uniform(2.7, 3.6) + stage.rng.uniform(0, 1.2))


def _set_back(stage: Stage, side: Side, near: float, far: float) -> None:
    """Adds a long, low building behind a green area or a parking lot to the paint list ``stage.items``."""
    rng = stage.rng
    wall = side.back + rng.uniform(12, 40)
    style = facades.draw_style(rng, chance(rng, 0.5), _saturation(stage), stage.look.lit_windows)
    _house(stage, side, max(near, 2.0), far, float(wall), float(rng.uniform(4, 12)), style, True)


def _house(
    stage: Stage,
    side: Side,
    near: float,
    far: float,
    wall: float,
    height: float,
    style: facades.Style,
    exposed: bool,
) -> None:
    roof = _roof_plan(stage, far - near)
    stage.add(far, lambda: _paint_house(stage, side, near, far, wall, height, style, roof, exposed))


def _roof_plan(stage: Stage, length: float) -> tuple[str, float, np.ndarray, bool]:
    rng = stage.rng
    kind = "flat" if chance(rng, 0.35) else ("gable" if chance(rng, 0.22) and length < 12 else "eaves")
    color = paint.hsv(rng.uniform(5, 30), rng.uniform(0.1, 0.55), rng.uniform(0.2, 0.5))
    if chance(rng, 0.45):
        color = paint.hsv(rng.uniform(200, 260), rng.uniform(0.0, 0.15), rng.uniform(0.15, 0.42))
    return kind, float(rng.uniform(1.5, 4.0)), color, chance(rng, 0.6)


def _paint_house(
    stage: Stage,
    side: Side,
    near: float,
    far: float,
    wall: float,
    height: float,
    style: facades.Style,
    roof: tuple[str, float, np.ndarray, bool],
    exposed: bool,
) -> None:
    camera, canvas, rng, sign = stage.camera, stage.canvas, stage.rng, side.sign
    kind, rise, tiles, chimney = roof
    start = max(near, NEAREST)
    levels = (0.0, height + 1.3 * rise)
    hull = [[x, y, z] for x in (sign * wall, sign * (wall + 9.0)) for y in levels for z in (start, far)]
    if not canvas.seen(camera.project(np.array(hull))):
        return
    x, deep = sign * wall, sign * (wall + 9.0)
    lit = _lit(stage)
    normal = np.array([-sign, 0.0, 0.0], np.float32)
    front_light = stage.light.on(normal, lit)
    end_light = stage.light.on(np.array([0.0, 0.0, -1.0]), lit)
    middle = (start + far) / 2
    # The roof is painted first, because the facade must hide the roof's lower edge.
    ridge = height + rise
    if kind == "eaves":
        slope = np.array([[x - sign * 0.3, height, start], [x + sign * 4, ridge, start], [x + sign * 4, ridge, far],
                          [x - sign * 0.3, height, far]])  # fmt: skip
        roof_light = stage.light.on(np.array([-0.5 * sign, 0.85, 0.0]), lit)
        canvas.fill(
            camera.project(slope), tiles * roof_light, BUILDING, middle, grain=0.1, gradient=(0.95, 1.05)
        )
    if kind == "eaves" and rise > 2 and far - start > 5 and rng.random() < 0.35:
        _dormers(stage, x, sign, (start, far), height, style)
    if chimney and kind == "eaves":
        _chimney(stage, x + sign * 4, near + 0.6, ridge, style.wall, middle)
    if near > NEAREST and exposed:
        _end_wall(stage, x, deep, near, height, ridge if kind != "flat" else height, style, end_light, kind)
    if kind == "gable":
        gable = np.array([[x, height, start], [x, height + rise * 1.3, middle], [x, height, far]])
        canvas.fill(camera.project(gable), style.wall * front_light, BUILDING, middle, grain=0.08)
    _paint_front(stage, style, sign, x, (near, far), height, normal, lit)


def _paint_front(
    stage: Stage,
    style: facades.Style,
    sign: int,
    x: float,
    reach: tuple[float, float],
    height: float,
    normal: np.ndarray,
    lit: float,
) -> None:
    """Paints the facade that faces the street, without the part that is too near to be in the field of view."""
    camera, (near, far) = stage.camera, reach
    # A straight facade enters the picture at the depth |x - lateral| / edge. Painting starts at 70 % of this depth,
    # because a slight bend of the road can move a facade into the picture at a smaller depth.
    edge = max(0.5 * camera.columns / camera.focal - sign * camera.yaw, 0.1)
    entry = 0.7 * abs(x - camera.lateral) / edge
    start = min(max(near, NEAREST, entry), far - 0.5) if abs(camera.bend) < 0.006 else max(near, NEAREST)
    quad = camera.project(_corners(sign, x, start, far, height))
    area = abs(float(cv2.contourArea(quad)))
    middle = (start + far) / 2
    if area < 1 or not stage.canvas.seen(quad):
        return
    even = stage.light.on(normal, lit)
    if area < 220:
        stage.canvas.fill(quad, style.wall * even * np.float32(0.7), BUILDING, middle)
        return
    scale = float(
        np.clip(np.sqrt(1.3 * area / (height * (far - start))), 1.5, 14 * np.sqrt(camera.focal / 350))
    )
    albedo = facades.texture(stage.rng, style, far - start, height, scale)
    stage.canvas.warp(
        albedo * _front_light(stage, albedo.shape[0], height, lit, normal), quad, BUILDING, middle
    )


def _corners(sign: int, x: float, near: float, far: float, height: float) -> np.ndarray:
    """Returns the corners of a facade in street coordinates (meters), (4, 3).

    The corners are in clockwise order as seen from the street. The first corner is at the top left.
    """
    first, last = (far, near) if sign > 0 else (near, far)
    return np.array([[x, height, first], [x, height, last], [x, 0.0, last], [x, 0.0, first]])


def _lit(stage: Stage) -> float:
    return 1.0 if stage.rng.random() < 0.85 else float(stage.rng.uniform(0.0, 0.6))


def _front_light(stage: Stage, rows: int, height: float, lit: float, normal: np.ndarray) -> np.ndarray:
    """Returns the irradiance on each row of a facade's texture, (rows, 1, 3), float32.

    Lower rows receive less light from the sky. In a town, the opposite houses shade the facade up to a random height.
    """
    level = np.linspace(height, 0, rows, dtype=np.float32)
    sky = 0.72 + 0.28 * np.clip(level / 9, 0, 1)
    to_sun = stage.light.to_sun
    width = stage.street.sides[0].back + stage.street.sides[1].back
    facing = max(float(normal @ to_sun), 1e-3)
    edge = stage.rng.uniform(5, 11) - width * float(to_sun[1]) / max(facing, 0.05)
    shadow = np.clip((level - edge) / 0.6, 0, 1) if stage.street.kind == "town" else np.ones_like(level)
    full, none = stage.light.on(normal, lit), stage.light.on(normal, 0.0)
    return (sky[:, None] * (none + (full - none) * shadow[:, None])).astype(np.float32)[:, None, :]


def _dormers(
    stage: Stage, x: float, sign: int, reach: tuple[float, float], height: float, style: facades.Style
) -> None:
    """Paints a row of dormer windows on a roof."""
    light = stage.light.on(np.array([-float(sign), 0.0, 0.0]))
    step = stage.rng.uniform(2.5, 5)
    for middle in np.arange(reach[0] + 1.2, reach[1] - 0.8, step):
        for size, color in ((1.0, style.trim), (0.78, style.glass)):
            quad = _corners(
                sign, x + sign * 0.8, middle - 0.6 * size, middle + 0.6 * size, height + 0.95 + 0.75 * size
            )
            quad[2:, 1] = height + 0.95 - 0.75 * size
            stage.canvas.fill(stage.camera.project(quad), color * light, BUILDING, middle)


def _chimney(stage: Stage, x: float, along: float, ridge: float, color: np.ndarray, depth: float) -> None:
    light = stage.light.on(np.array([0.0, 0.0, -1.0]))
    if along <= NEAREST:
        return
    quad = np.array([[x - 0.5, ridge - 1, along], [x + 0.5, ridge - 1, along], [x + 0.5, ridge + 1.2, along],
                     [x - 0.5, ridge + 1.2, along]])  # fmt: skip
    stage.canvas.fill(stage.camera.project(quad), color * light * 0.9, BUILDING, depth)


def _end_wall(
    stage: Stage,
    x: float,
    deep: float,
    near: float,
    height: float,
    ridge: float,
    style: facades.Style,
    light: np.ndarray,
    kind: str,
) -> None:
    """Paints the wall at the near end of a house. This wall faces the camera."""
    top = [[(x + deep) / 2, ridge, near]] if kind == "eaves" else []
    outline = np.array([[x, 0, near], [x, height, near], *top, [deep, height, near], [deep, 0, near]])
    pixels = stage.camera.project(outline)
    color = style.wall * np.float32(stage.rng.uniform(0.75, 1.1))
    stage.canvas.fill(pixels, color * light, BUILDING, near, grain=0.08, gradient=(1.05, 0.8))
    wide = abs(float(pixels[-1, 0] - pixels[0, 0]))
    if wide > 24 and chance(stage.rng, 0.45) and stage.canvas.seen(pixels):
        left, right = sorted((x, deep))
        quad = stage.camera.project(
            np.array([[left, height, near], [right, height, near], [right, 0, near], [left, 0, near]])
        )
        scale = float(np.clip(wide / 9.0, 1.5, 14))
        albedo = facades.texture(stage.rng, style, right - left, height, scale)
        stage.canvas.warp(albedo * light, quad, BUILDING, near)


def paint_backdrop(stage: Stage, horizon: int) -> None:
    """Paints the backdrop: distant houses and woods along the horizon.

    Args:
        stage: Scene to paint on.
        horizon: Row of the horizon in pixels.
    """
    rng, canvas, camera = stage.rng, stage.canvas, stage.camera
    columns = camera.columns
    if horizon <= 4:
        return
    unit = camera.focal / 170.0
    light = stage.light.on((0.0, 0.4, -0.8))
    for layer in range(2):
        woods = chance(rng, 0.6)
        color = (
            (paint.leaves(rng) if not stage.street.bare else paint.bark(rng)) if woods else paint.wall(rng)[0]
        )
        depth = 260.0 - 80 * layer
        start, wide = rng.uniform(-0.2, 0.6) * columns, rng.uniform(0.4, 1.3) * columns
        left, right = int(max(0, start)), int(min(columns, start + wide))
        if right - left < 4:
            continue
        if woods:
            field = noise.crop(rng, "mottle", 2, right - left, (1.0, unit * 1.2))[0]
            high = np.clip((rng.uniform(3, 9) + 2.0 * field) * unit, 1, None)
            _silhouette(stage, left, horizon, high, color * light, 8, depth)
            continue
        x = float(left)
        while x < right:
            step, high = rng.uniform(6, 22) * unit, rng.uniform(5, 14) * unit
            tone = paint.vary(rng, color, 0.3) * light
            box = np.array(
                [[x, horizon + 1], [x, horizon - high], [x + step, horizon - high], [x + step, horizon + 1]]
            )
            if chance(rng, 0.5):
                box = np.insert(box, 2, [x + step / 2, horizon - high * 1.3], axis=0)
            canvas.fill(box, tone, BUILDING, depth, grain=0.15)
            x += step


def _silhouette(
    stage: Stage, left: int, bottom: int, high: np.ndarray, color: np.ndarray, label: int, depth: float
) -> None:
    """Paints and labels a silhouette: fills ``high`` pixels of each column, from the row ``bottom`` upwards."""
    canvas = stage.canvas
    top = max(0, bottom - int(high.max()) - 2)
    rows = np.arange(top, bottom + 1)
    rows = rows[rows < canvas.label.shape[0]]
    mask = rows[:, None] >= bottom - high[None, :]
    part = canvas.color[rows[0] : rows[-1] + 1, left : left + len(high)]
    tone = 1 + 0.22 * noise.crop(stage.rng, "mottle", len(rows), len(high), 1.0)
    np.copyto(part, canvas.tint(np.clip(tone, 0.2, 2)[:, :, None] * color, depth), where=mask[:, :, None])
    canvas.label[rows[0] : rows[-1] + 1, left : left + len(high)][mask] = label
