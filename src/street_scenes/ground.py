"""The ground of a scene: a top-down plan in meters at three resolutions, which is projected into the picture."""

from __future__ import annotations

import cv2
import numpy as np

from street_scenes import noise, paint
from street_scenes.looks import chance
from street_scenes.street import Block, Side, Stage

MATERIALS = ("asphalt", "slabs", "tarmac", "grass", "kerb", "soil", "lane", "court", "cobbles")
LABELS = np.array([0, 1, 1, 9, 1, 9, 0, 1, 0], np.uint8)
GRAIN = np.array([0.09, 0.05, 0.09, 0.2, 0.05, 0.22, 0.09, 0.08, 0.2], np.float32)


class Plan:
    """A top-down plan of the ground at three resolutions, as uint8 arrays of shape (depth, width).

    ``material`` holds for each pixel an index of ``MATERIALS``. ``paint`` has four channels: white paint, yellow
    paint, sunlight (each 0 to 255) and tone (brightness, 128 stands for a factor of 1). Both attributes are lists with
    one array per resolution. ``levels`` lists the extent and the pixel size of each resolution.
    """

    def __init__(self, focal: float) -> None:
        """Creates a plan covered with asphalt. The pixel sizes depend on the camera's focal length in pixels."""
        finest = float(np.clip(15.0 / focal, 0.012, 0.04))
        middle = float(np.clip(40.0 / focal, 0.05, 0.1))
        # per resolution: half of the width, least depth, greatest depth, size of a pixel (all in meters)
        self.levels = (
            (9.0, 0.5, 17.0, finest),
            (26.0, 15.0, 56.0, middle),
            (80.0, 50.0, 230.0, 4.0 * middle),
        )
        self.material: list[np.ndarray] = []
        self.paint: list[np.ndarray] = []
        for half, near, far, step in self.levels:
            shape = (int((far - near) / step), int(2 * half / step))
            self.material.append(np.zeros(shape, np.uint8))
            planes = np.zeros((4, *shape), np.uint8)
            planes[2] = 255
            planes[3] = 128
            self.paint.append(planes)

    def draw(self, points: np.ndarray, plane: int | None, value: int) -> None:
        """Fills a polygon with a value.

        Args:
            points: Corners (lateral, along) in meters, (n, 2).
            plane: Index of a channel of ``paint``, or ``None`` for ``material``.
            value: New value of the pixels, 0 to 255.
        """
        self.draw_many(np.asarray(points, np.float32)[None], plane, value)

    def draw_many(self, shapes: np.ndarray, plane: int | None, value: int) -> None:
        """Fills n polygons with a value, as ``draw`` does. ``shapes`` holds the corners, (n, corners, 2)."""
        start, end = float(shapes[:, :, 1].min()), float(shapes[:, :, 1].max())
        for index, (half, near, far, step) in enumerate(self.levels):
            if end < near or start > far:
                continue
            pixels = (shapes * [1 / step, -1 / step] + [half / step - 0.5, far / step - 0.5]) * 16
            fixed = np.minimum(np.maximum(pixels, -64000), 64000).astype(np.int32)
            target = self.material[index] if plane is None else self.paint[index][plane]
            # ``fillPoly`` applies the even-odd rule to all polygons of a call. Areas where two polygons overlap stay
            # unfilled.
            cv2.fillPoly(
                target, list(fixed), value, lineType=cv2.LINE_8 if plane is None else cv2.LINE_AA, shift=4
            )

    def box(self, left: float, right: float, near: float, far: float, plane: int | None, value: int) -> None:
        """Fills a rectangle with a value, as ``draw`` does. The edges of the rectangle are in meters."""
        self.draw(np.array([[left, near], [right, near], [right, far], [left, far]]), plane, value)

    def boxes(self, edges: list[tuple[float, float, float, float]], plane: int, value: int) -> None:
        """Fills several rectangles with a value, as ``draw`` does.

        ``edges`` holds (left, right, near, far) of each rectangle in meters. The rectangles must not overlap.
        """
        if edges:
            sides = np.array(edges, np.float32)
            self.draw_many(sides[:, [[0, 2], [1, 2], [1, 3], [0, 3]]], plane, value)

    def line(self, points: np.ndarray, width: float, plane: int, value: int) -> None:
        """Draws a polyline through points (lateral, along) in meters, (n, 2). ``width`` is in meters."""
        points = np.asarray(points, np.float32)
        way = np.gradient(points, axis=0)
        side = np.stack([-way[:, 1], way[:, 0]], axis=1)
        side *= 0.5 * width / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
        self.draw(np.concatenate([points + side, (points - side)[::-1]]), plane, value)


def draw_plan(stage: Stage) -> Plan:
    """Draws road, sidewalks, grass strips and side streets on a new ground plan.

    The module ``markings`` adds road markings and shadows to the plan.
    """
    rng, street = stage.rng, stage.street
    plan = Plan(stage.camera.focal)
    for side in street.sides:
        paved = 1 if chance(rng, 0.6) else 2
        for block in side.blocks:
            ground = {
                "houses": 7 if side.front < 2.5 else (3 if chance(rng, 0.6) else 7),
                "green": 3,
                "lot": 0,
            }
            _strip(plan, side, side.back, 90.0, block, ground.get(block.kind, paved))
        whole = Block(-10.0, 230.0, "all")
        _strip(plan, side, side.edge, side.back, whole, paved)
        if paved == 1:
            _joints(rng, plan, side)
        if side.verge > 0.1:
            if chance(rng, 0.5):
                _strip(plan, side, side.edge, side.edge + side.verge, whole, 3)
            else:
                _strip(plan, side, side.edge + side.walk, side.back, whole, 3)
        _strip(plan, side, side.edge, side.edge + 0.16, whole, 4)
        for block in side.blocks:
            if block.kind == "gap":
                _side_street(rng, plan, side, block)
    left, right = street.sides
    plan.box(-left.edge, right.edge, -10, 230, None, 8 if chance(rng, 0.02) else 0)
    if street.island is not None:
        wide = rng.uniform(0.5, 1.0)
        plan.box(-wide, wide, *street.island, None, 4)
        plan.box(-wide + 0.15, wide - 0.15, street.island[0] + 0.15, street.island[1] - 0.15, None, paved)
    for side in street.sides:  # dark gutter
        plan.line(np.array([[side.sign * side.edge, -5.0], [side.sign * side.edge, 80.0]]), 0.12, 3, 80)
    return plan


def _strip(plan: Plan, side: Side, inner: float, outer: float, block: Block, material: int) -> None:
    ends = sorted((side.sign * inner, side.sign * outer))
    plan.box(ends[0], ends[1], block.near, block.far, None, material)


def _joints(rng: np.random.Generator, plan: Plan, side: Side) -> None:
    """Draws the joints between the paving slabs of a sidewalk, up to a depth of about 30 m."""
    tone, step = int(rng.integers(70, 120)), rng.uniform(0.4, 0.95)
    lines = side.sign * np.arange(side.edge + 0.2, side.back, step * rng.uniform(0.8, 1.5))
    plan.boxes([(x - 0.01, x + 0.01, 0.5, 30.0) for x in lines], 3, tone)
    left, right = sorted((side.sign * side.edge, side.sign * side.back))
    plan.boxes([(left, right, along, along + 0.02) for along in np.arange(0.7, 26, step)], 3, tone)


def _side_street(rng: np.random.Generator, plan: Plan, side: Side, block: Block) -> None:
    """Draws a side street with sidewalks and rounded corners."""
    walk, radius = rng.uniform(0.8, 2.0), rng.uniform(1.0, 4.0)
    near, far = block.near + walk, block.far - walk
    _strip(plan, side, side.edge, 90.0, block, 1)
    for width, material in ((0.16, 4), (0.0, 0)):
        start = side.edge - 0.2
        shape = np.array(
            [
                [start, near - radius - width],
                [side.edge + 0.3 * radius, near - 0.3 * radius - width],
                [side.edge + radius, near - width],
                [90.0, near - width],
                [90.0, far + width],
                [side.edge + radius, far + width],
                [side.edge + 0.3 * radius, far + 0.3 * radius + width],
                [start, far + radius + width],
            ]
        )
        shape[:, 0] *= side.sign
        plan.draw(shape, None, material)


def _palette(stage: Stage) -> np.ndarray:
    rng = stage.rng
    asphalt = paint.hsv(rng.uniform(0, 360), rng.uniform(0, 0.09), rng.uniform(0.26, 0.56))
    slabs = paint.hsv(rng.uniform(20, 60), rng.uniform(0.0, 0.16), rng.uniform(0.36, 0.72))
    lane = (8, 20, 120, 145)[int(rng.integers(4))]
    colours = [
        asphalt,
        slabs,
        asphalt * rng.uniform(0.75, 1.4),
        paint.grass(rng),
        paint.hsv(40, rng.uniform(0, 0.1), rng.uniform(0.4, 0.75)),
        paint.hsv(rng.uniform(20, 40), rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.4)),
        paint.hsv(lane, rng.uniform(0.2, 0.45), rng.uniform(0.3, 0.5)),
        slabs * rng.uniform(0.6, 1.2),
        asphalt * rng.uniform(0.7, 1.3),
    ]
    amount = (rng.uniform(*stage.look.saturation) + 1) / 2
    return np.stack([paint.saturate(c, float(amount)) for c in colours]).astype(np.float32)


def paint_ground(stage: Stage, plan: Plan) -> int:
    """Projects the ground plan to the canvas, applies lighting and labels, and returns the row of the horizon."""
    camera, canvas, rng = stage.camera, stage.canvas, stage.rng
    horizon, along = camera.ground()
    lateral = camera.columns_to_lateral(along)
    rows = len(along)
    if rows == 0:
        return horizon
    material = np.zeros(lateral.shape, np.uint8)
    planes = np.zeros((*lateral.shape, 4), np.uint8)
    depth = np.broadcast_to(along[:, None].astype(np.float32), lateral.shape)
    bounds = (0.0, 16.0, 54.0, 1e9)
    for index, (half, _, far, step) in enumerate(plan.levels):
        inside = np.flatnonzero((along >= bounds[index]) & (along < bounds[index + 1]))
        if len(inside) == 0:
            continue
        part = slice(inside[0], inside[-1] + 1)
        across = (lateral[part] + np.float32(half)) * np.float32(1 / step) - np.float32(0.5)
        down = (np.float32(far) - depth[part]) * np.float32(1 / step) - np.float32(0.5)
        edge = cv2.BORDER_REPLICATE
        material[part] = cv2.remap(plan.material[index], across, down, cv2.INTER_NEAREST, borderMode=edge)
        merged = cv2.merge(list(plan.paint[index]))
        planes[part] = cv2.remap(merged, across, down, cv2.INTER_LINEAR, borderMode=edge)
    canvas.label[horizon:] = np.take(LABELS, material)
    color = np.take(_palette(stage), material, axis=0)
    fade = np.clip(6.0 / along, 0, 1).astype(np.float32)[:, None]
    lateral = np.clip(lateral, -400, 400)
    texture = noise.sample("grain", int(rng.integers(3)), lateral * 45, depth * 45) * fade
    slow = noise.sample("mottle", int(rng.integers(3)), lateral * 7, depth * 4)
    slower = noise.sample("cloud", int(rng.integers(3)), lateral * 3, depth * np.float32(1.2))
    strength = np.take(GRAIN, material) * np.float32(rng.uniform(0.4, 1.6))
    factor = 1 + strength * (texture + slow) + np.float32(rng.uniform(0.02, 0.14)) * slower
    tone = planes[:, :, 3].astype(np.float32) * np.float32(1 / 128)
    color *= (np.clip(factor, 0.3, 2.0) * tone)[:, :, None]
    wear = np.clip(rng.uniform(0.75, 1.15) - 0.18 * np.abs(slow) * rng.random(), 0.2, 1) * np.float32(1 / 255)
    white = np.float32(rng.uniform(0.4, 0.85))
    yellow = paint.hsv(rng.uniform(42, 52), rng.uniform(0.4, 0.85), rng.uniform(0.55, 0.85))
    color += (planes[:, :, 0] * wear)[:, :, None] * (white - color)
    color += (planes[:, :, 1] * wear)[:, :, None] * (yellow - color)
    _light_ground(stage, color, planes[:, :, 2], along, factor, material)
    share = np.exp(-canvas.density * along).astype(np.float32)[:, None, None]
    canvas.color[horizon:] = color * share + canvas.haze * (1 - share)
    return horizon


def _light_ground(
    stage: Stage,
    color: np.ndarray,
    lit: np.ndarray,
    along: np.ndarray,
    factor: np.ndarray,
    material: np.ndarray,
) -> None:
    """Multiplies the ground's albedos ``color`` by the irradiance from sun and sky, in place.

    In three of four scenes, reflected light of the sky is added at grazing angles, as on a smooth or wet road.
    """
    rng, light = stage.rng, stage.light
    sunny = light.sun * max(0.0, float(light.to_sun[1]))
    color *= light.ambient * light.openness + lit[:, :, None].astype(np.float32) * (sunny / 255).astype(
        np.float32
    )
    if chance(rng, 0.75):
        grazing = np.clip(1 - stage.camera.height / along * 2.0, 0, 1) ** 4
        wet = rng.uniform(0.0, 0.12) if chance(rng, 0.85) else rng.uniform(0.2, 0.5)
        smooth = (
            np.take(np.where(np.isin(np.arange(9), (3, 5)), 0.2, 1.0).astype(np.float32), material) * factor
        )
        color += (smooth * (grazing * wet).astype(np.float32)[:, None])[:, :, None] * light.horizon.astype(
            np.float32
        )
