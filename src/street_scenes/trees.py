"""Trees and bushes as sprites, and the texture of hedges.

A sprite is a small picture of a plant, with an alpha channel. Each sprite is generated once per process. For each plant
in a scene, a sprite is colored, stretched and possibly mirrored.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from street_scenes import paint
from street_scenes.looks import chance
from street_scenes.street import Stage

SIDE = 512
VARIANTS = 16
VEGETATION = 8

Sprite = tuple[np.ndarray, np.ndarray]


@lru_cache(maxsize=320)
def sprite(kind: str, variant: int, level: int = 0) -> Sprite:
    """Generates the sprite of a tree or bush.

    Args:
        kind: Kind of plant: ``bare``, ``leafy``, ``conifer`` or ``bush``.
        variant: Index of the plant, which seeds the random generator.
        level: Mipmap level: number of times that the size is halved.

    Returns:
        Opacity, and brightness (128 stands for a factor of 1 on the color). Both are (h, w), uint8.
    """
    if level:
        alpha, shade = sprite(kind, variant, level - 1)
        size = (max(2, alpha.shape[1] // 2), max(2, alpha.shape[0] // 2))
        alpha, shade = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (alpha, shade))
    else:
        rng = np.random.default_rng([variant, sorted(("bare", "leafy", "conifer", "bush")).index(kind)])
        alpha, shade = _bare(rng) if kind == "bare" else _foliage(rng, kind)
    alpha.flags.writeable = shade.flags.writeable = False
    return alpha, shade


def _bare(rng: np.random.Generator) -> Sprite:
    """Draws a tree without leaves. The branches fork repeatedly, down to thin twigs."""
    alpha = np.zeros((SIDE, 2 * SIDE), np.uint8)
    shade = np.full((SIDE, 2 * SIDE), 118, np.uint8)
    spread, upright = rng.uniform(0.4, 0.8), rng.uniform(0.0, 0.16)
    dense, thick = rng.uniform(0.0, 0.6), rng.uniform(9, 17)
    branches = [(SIDE * 1.0, SIDE - 1.0, np.pi / 2, rng.uniform(0.14, 0.24) * SIDE, thick, 0)]
    while branches:
        x, y, angle, length, width, depth = branches.pop()
        points = [(x, y)]
        for _ in range(4):
            angle += rng.normal(0, 0.07 if depth == 0 else 0.17)
            x, y = x + np.cos(angle) * length / 4, y - np.sin(angle) * length / 4
            points.append((x, y))
        fixed = np.round(np.array(points) * 8).astype(np.int32)
        line = max(1, round(width))
        cv2.polylines(
            alpha, [fixed], False, 255 if width >= 1 else int(120 + 100 * width), line, cv2.LINE_AA, 3
        )
        cv2.polylines(shade, [fixed], False, int(rng.integers(75, 160)), line, cv2.LINE_8, 3)
        if depth >= 8 or length < 5:
            continue
        children = int(rng.integers(3, 6)) if depth == 0 else 2 + int(rng.random() < dense)
        for index in range(children):
            lean = (
                (index - (children - 1) / 2) * spread * rng.uniform(0.8, 1.7) / max(1, (children - 1) / 1.4)
            )
            turn = angle + lean + rng.normal(0, 0.2)
            turn += (np.pi / 2 - turn) * upright
            share = rng.uniform(0.6, 0.86)
            branches.append((x, y, turn, length * share, width * rng.uniform(0.5, 0.74), depth + 1))
    return _trim(alpha, cv2.GaussianBlur(shade, (0, 0), 1.0))


def _crown(rng: np.random.Generator, kind: str, count: int) -> np.ndarray:
    """Returns random positions (right, up) of leaves in the crown of a plant, (count, 2).

    ``right`` is in about [-0.5, 0.5] and ``up`` in about [0, 1].
    """
    if kind == "conifer":
        up = rng.random(count) ** 1.4
        reach = (1 - up) * rng.uniform(0.2, 0.34) * (0.7 + 0.3 * np.sin(up * 40))
        return np.stack([rng.uniform(-1, 1, count) * reach, up], axis=1)
    number = int(rng.integers(10, 26))
    radius = rng.uniform(0.09, 0.2, number)
    middle_x = np.clip(rng.normal(0, 0.17, number), -0.28, 0.28)
    middle_y = rng.uniform(0.3, 0.78, number) if kind == "leafy" else rng.uniform(0.0, 0.55, number)
    lobe = rng.integers(number, size=count)
    angle, away = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count))
    right = middle_x[lobe] + radius[lobe] * away * np.cos(angle)
    up = middle_y[lobe] + radius[lobe] * away * np.sin(angle)
    return np.stack([right, np.abs(up)], axis=1)


def _foliage(rng: np.random.Generator, kind: str) -> Sprite:
    """Draws thousands of leaf clusters, brighter at the top. Trees also get a trunk and a few branches."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    shade = np.full((SIDE, SIDE), 90, np.uint8)
    bottom = SIDE * 0.98
    if kind != "bush":
        for index in range(5):
            end = (int(SIDE * (0.5 + 0.12 * (index - 2) * rng.random())), int(SIDE * rng.uniform(0.3, 0.5)))
            cv2.line(alpha, (SIDE // 2, int(SIDE * 0.72)), end, 255, int(rng.integers(2, 6)), cv2.LINE_AA)
        width = int(rng.integers(7, 15))
        cv2.line(alpha, (SIDE // 2, SIDE), (SIDE // 2, int(SIDE * 0.6)), 255, width)
        shade[:, SIDE // 2 - 12 : SIDE // 2 + 12] = 55
    leaves = _crown(rng, kind, int(rng.integers(2200, 4200)))
    leaves = leaves[np.argsort(rng.random(len(leaves)) + 0.35 * (leaves[:, 1] > 0.5))]
    x, y = SIDE / 2 + leaves[:, 0] * SIDE, bottom - leaves[:, 1] * SIDE * 0.94
    top, bulk = y.min(), np.ptp(y) + 1
    lump = np.sin(x / 23 + rng.uniform(0, 6)) * np.sin(y / 19 + rng.uniform(0, 6))
    tones = 155 - 80 * (y - top) / bulk - 30 * (x / SIDE - 0.5) + 28 * lump + rng.normal(0, 24, len(x))
    # All random numbers are drawn in one call, because thousands of separate calls took as long as the painting.
    draws = rng.uniform((18, 12, 0), (64, 42, 180), (len(x), 3))
    sizes, turns = draws[:, :2].astype(np.int64).tolist(), draws[:, 2].tolist()
    places = (np.stack([x, y], axis=1) * 8).astype(np.int64).tolist()
    for where, size, turn, tone in zip(places, sizes, turns, np.clip(tones, 25, 235).tolist(), strict=True):
        cv2.ellipse(alpha, where, size, turn, 0, 360, 255, -1, cv2.LINE_AA, 3)
        cv2.ellipse(shade, where, size, turn, 0, 360, tone, -1, cv2.LINE_8, 3)
    return _trim(alpha, shade)


def _trim(alpha: np.ndarray, shade: np.ndarray) -> Sprite:
    columns = np.flatnonzero(alpha.max(axis=0) > 60)
    rows = np.flatnonzero(alpha.max(axis=1) > 60)
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return alpha[part].copy(), shade[part].copy()


@lru_cache(maxsize=4)
def leaf_texture(variant: int) -> np.ndarray:
    """Generates a brightness texture of leaves for hedges, (256, 256), float32, with values around 1."""
    rng = np.random.default_rng([variant, 77])
    shade = np.full((320, 320), 70, np.uint8)
    for _ in range(5200):
        where = (int(rng.integers(320 * 8)), int(rng.integers(320 * 8)))
        size = (int(rng.uniform(14, 50)), int(rng.uniform(10, 30)))
        tone = min(max(rng.normal(118, 42), 15.0), 250.0)
        cv2.ellipse(shade, where, size, float(rng.uniform(0, 180)), 0, 360, tone, -1, cv2.LINE_8, 3)
    texture = shade[32:288, 32:288].astype(np.float32) / 118
    texture.flags.writeable = False
    return texture


def soften(plane: np.ndarray, step: float, blur: float) -> None:
    """Blurs one channel of the ground plan with a box filter, in place.

    Args:
        plane: Channel of the ground plan, (h, w), uint8.
        step: Size of a pixel of the ground plan in meters.
        blur: Approximate standard deviation of the blur in meters.
    """
    deviation = blur / step
    if deviation > 0.4:
        size = min(2 * round(2 * deviation) + 1, 31)
        cv2.blur(plane, (size, size), dst=plane)


def plant(stage: Stage, kind: str, lateral: float, along: float, high: float, color: np.ndarray) -> None:
    """Adds a tree or bush to the paint list ``stage.items``, unless the position is too close to the camera.

    Args:
        stage: Scene to paint on.
        kind: Kind of plant, as in ``sprite``.
        lateral: Lateral street coordinate in meters.
        along: Depth in meters.
        high: Height of the plant in meters.
        color: Albedo, (3,).
    """
    if (along < 3.5 and abs(lateral - stage.camera.lateral) < 3.0) or along < 1.2:
        return
    variant, flip = int(stage.rng.integers(VARIANTS)), chance(stage.rng, 0.5)
    stretch = float(stage.rng.uniform(0.8, 1.35))
    stage.add(along, lambda: paint_tree(stage, kind, variant, flip, stretch, lateral, along, high, color))


def paint_tree(
    stage: Stage,
    kind: str,
    variant: int,
    flip: bool,
    stretch: float,
    lateral: float,
    along: float,
    high: float,
    color: np.ndarray,
) -> None:
    """Paints the sprite of a tree or bush that stands on the ground.

    Args:
        stage: Scene to paint on.
        kind: Kind of plant, as in ``sprite``.
        variant: Index of the sprite.
        flip: Whether the sprite is mirrored.
        stretch: Factor on the sprite's width.
        lateral: Lateral street coordinate in meters.
        along: Depth in meters.
        high: Height of the plant in meters.
        color: Albedo, (3,).
    """
    foot, top = stage.camera.project(np.array([[lateral, -0.05, along], [lateral, high, along]]))
    tall = float(foot[1] - top[1])
    level = int(np.clip(np.log2(SIDE / max(tall, 4.0)), 0, 5))
    alpha, shade = sprite(kind, variant, level)
    wide = tall * alpha.shape[1] / alpha.shape[0] * stretch
    if flip:
        alpha, shade = alpha[:, ::-1], shade[:, ::-1]
    light = stage.light
    facing = light.on((0.0, 0.55, -0.6)) * 0.85
    if stage.rng.random() < 0.25:  # the tree stands in the shade of a house
        facing = facing * np.float32(stage.rng.uniform(0.35, 0.7))
    box = (float(foot[0]) - wide / 2, float(top[1]), float(foot[0]) + wide / 2, float(foot[1]))
    stage.canvas.sprite(alpha, shade, box, color * facing, VEGETATION, along)


def plant_trees(stage: Stage) -> None:
    """Adds the trees and bushes at curbs, in gardens and in green areas to the paint list ``stage.items``."""
    rng, street = stage.rng, stage.street
    bark, leaves = paint.bark(rng), paint.leaves(rng)
    saturation = float(rng.uniform(*stage.look.saturation))
    for side in street.sides:
        if side.trees:
            near = rng.uniform(-4, side.trees) + 4
            kind = "bare" if street.bare else "leafy"
            high = rng.uniform(5, 12)
            place = side.edge + 0.7 if side.front < 1 or chance(rng, 0.4) else side.back + 0.8
            while near < 130:
                if side.kind_at(near) != "gap":
                    tone = paint.saturate(
                        paint.vary(rng, bark if kind == "bare" else leaves, 0.15), saturation
                    )
                    size = high * rng.uniform(0.75, 1.2)
                    plant(stage, kind, side.sign * (place + rng.normal(0, 0.15)), near, size, tone)
                near += side.trees * rng.uniform(0.6, 1.6)
        for block in side.blocks:
            _fill_block(
                stage, side.sign, side.back, block.near, block.far, block.kind, side.front, saturation
            )


def _fill_block(
    stage: Stage, sign: int, back: float, near: float, far: float, kind: str, front: float, saturation: float
) -> None:
    rng = stage.rng
    density = {"green": 0.17, "houses": 0.06 if front > 3 else 0.0, "lot": 0.05, "gap": 0.0}[kind]
    count = int(rng.poisson(density * rng.uniform(0.4, 1.6) * (far - max(near, 3)))) if far > 3 else 0
    for _ in range(min(count, 16)):
        along = rng.uniform(max(near, 3), far)
        lateral = back + rng.uniform(0.8, max(front - 1, 1.2) if kind == "houses" else 16)
        draw = rng.random()
        if draw < 0.25:
            shape, high = "bush", rng.uniform(0.6, 2.6)
        elif draw < 0.36:
            shape, high = "conifer", rng.uniform(3, 13)
        else:
            shape, high = ("bare" if chance(rng, 0.8) == stage.street.bare else "leafy"), rng.uniform(4, 13)
        color = paint.bark(rng) if shape == "bare" else paint.leaves(rng)
        plant(stage, shape, sign * lateral, along, high, paint.saturate(paint.vary(rng, color), saturation))
