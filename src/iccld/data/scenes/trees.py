"""Trees, bushes and hedges: cut-outs grown once per process, then coloured, mirrored and stretched."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from iccld.data.scenes import paint
from iccld.data.scenes.looks import chance
from iccld.data.scenes.street import Stage

SIDE = 384
VARIANTS = 14
VEGETATION = 8

Sprite = tuple[np.ndarray, np.ndarray]


@lru_cache(maxsize=64)
def sprite(kind: str, variant: int) -> Sprite:
    """Grows a cut-out: opacity and brightness (128 is neutral), uint8.

    Args:
        kind: ``bare``, ``leafy``, ``conifer`` or ``bush``.
        variant: which of the individuals.
    """
    rng = np.random.default_rng([variant, sorted(("bare", "leafy", "conifer", "bush")).index(kind)])
    if kind == "bare":
        return _bare(rng)
    return _foliage(rng, kind)


def _bare(rng: np.random.Generator) -> Sprite:
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    shade = np.full((SIDE, SIDE), 118, np.uint8)
    spread, upright = rng.uniform(0.35, 0.7), rng.uniform(0.0, 0.18)
    trunk = rng.uniform(0.16, 0.3)
    branches = [(SIDE / 2, SIDE - 1.0, np.pi / 2, trunk * SIDE, rng.uniform(9, 17), 0)]
    while branches:
        x, y, angle, length, width, depth = branches.pop()
        points = [(x, y)]
        for _ in range(4):
            angle += rng.normal(0, 0.09 if depth == 0 else 0.16)
            x, y = x + np.cos(angle) * length / 4, y - np.sin(angle) * length / 4
            points.append((x, y))
        fixed = np.round(np.array(points) * 8).astype(np.int32)
        thick = max(1, round(width))
        cv2.polylines(alpha, [fixed], False, 255 if width >= 1 else int(150 + 90 * width), thick, cv2.LINE_AA, 3)
        cv2.polylines(shade, [fixed], False, int(rng.integers(85, 150)), thick, cv2.LINE_8, 3)
        if depth >= 7 or length < 5:
            continue
        children = int(rng.integers(2, 4)) if depth else int(rng.integers(3, 6))
        for index in range(children):
            lean = (index - (children - 1) / 2) * spread * rng.uniform(0.8, 1.7) / max(1, (children - 1) / 1.4)
            turn = angle + lean + rng.normal(0, 0.18)
            turn += (np.pi / 2 - turn) * upright
            branches.append((x, y, turn, length * rng.uniform(0.62, 0.9), width * rng.uniform(0.5, 0.72), depth + 1))
    shade = cv2.GaussianBlur(shade, (0, 0), 1.0)
    return _trim(alpha, shade)


def _foliage(rng: np.random.Generator, kind: str) -> Sprite:
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    shade = np.full((SIDE, SIDE), 100, np.uint8)
    middle, bottom = SIDE / 2, SIDE * (1.0 if kind == "bush" else rng.uniform(0.72, 0.9))
    if kind != "bush":
        cv2.line(alpha, (SIDE // 2, SIDE), (SIDE // 2, int(SIDE * 0.4)), 255, int(rng.integers(7, 16)))
        shade[:, SIDE // 2 - 12 : SIDE // 2 + 12] = 60
    lobes = [(rng.normal(0, 0.2), rng.uniform(0.15, 0.75), rng.uniform(0.16, 0.3)) for _ in range(int(rng.integers(5, 11)))]
    count = 1500
    centers = np.empty((count, 2))
    for index in range(count):
        if kind == "conifer":
            height = rng.random() ** 1.4
            reach = (1 - height) * 0.3 * (0.7 + 0.3 * np.sin(height * 40))
            centers[index] = middle + rng.uniform(-1, 1) * reach * SIDE, bottom - height * bottom * 0.97
            continue
        x, y, radius = lobes[int(rng.integers(len(lobes)))]
        angle, away = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
        flat = 0.8 if kind == "bush" else 1.0
        centers[index] = (
            middle + (x + away * np.cos(angle)) * SIDE,
            bottom - max(0.0, y * flat + away * np.sin(angle) * 0.9) * bottom * 0.95,
        )
    order = np.argsort(rng.random(count) + 0.4 * (centers[:, 1] / SIDE < 0.5))
    top, bulk = centers[:, 1].min(), np.ptp(centers[:, 1]) + 1
    for index in order:
        x, y = centers[index]
        size = (int(rng.uniform(20, 75)), int(rng.uniform(14, 48)))
        tone = 150 - 75 * (y - top) / bulk - 18 * (x - middle) / SIDE + rng.normal(0, 26)
        where, turn = (int(x * 8), int(y * 8)), float(rng.uniform(0, 180))
        cv2.ellipse(alpha, where, size, turn, 0, 360, 255, -1, cv2.LINE_AA, 3)
        cv2.ellipse(shade, where, size, turn, 0, 360, float(np.clip(tone, 25, 235)), -1, cv2.LINE_8, 3)
    return _trim(alpha, shade)


def _trim(alpha: np.ndarray, shade: np.ndarray) -> Sprite:
    columns = np.flatnonzero(alpha.max(axis=0) > 60)
    rows = np.flatnonzero(alpha.max(axis=1) > 60)
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    alpha, shade = alpha[part].copy(), shade[part].copy()
    alpha.flags.writeable = shade.flags.writeable = False
    return alpha, shade


@lru_cache(maxsize=4)
def leaf_texture(variant: int) -> np.ndarray:
    """A tile (256, 256) of leaves, brightness around 1, for hedges and woods."""
    rng = np.random.default_rng([variant, 77])
    shade = np.full((320, 320), 70, np.uint8)
    for _ in range(5200):
        where = (int(rng.integers(320 * 8)), int(rng.integers(320 * 8)))
        size = (int(rng.uniform(14, 50)), int(rng.uniform(10, 30)))
        tone = float(np.clip(rng.normal(118, 42), 15, 250))
        cv2.ellipse(shade, where, size, float(rng.uniform(0, 180)), 0, 360, tone, -1, cv2.LINE_8, 3)
    texture = shade[32:288, 32:288].astype(np.float32) / 118
    texture.flags.writeable = False
    return texture


def soften(plane: np.ndarray, step: float, blur: float) -> None:
    """Blurs a plane of the plan by a deviation in metres, in place."""
    deviation = blur / step
    if deviation > 0.4:
        size = min(2 * round(2 * deviation) + 1, 31)
        cv2.blur(plane, (size, size), dst=plane)


def plant(stage: Stage, kind: str, lateral: float, along: float, high: float, color: np.ndarray) -> None:
    """Queues a tree (or a bush) of a height in metres."""
    variant, flip = int(stage.rng.integers(VARIANTS)), chance(stage.rng, 0.5)
    stretch = float(stage.rng.uniform(0.8, 1.35))
    stage.add(along, lambda: paint_tree(stage, sprite(kind, variant), flip, stretch, lateral, along, high, color))


def paint_tree(
    stage: Stage,
    cut: Sprite,
    flip: bool,
    stretch: float,
    lateral: float,
    along: float,
    high: float,
    color: np.ndarray,
) -> None:
    """Paints one cut-out that stands on the ground."""
    alpha, shade = cut
    foot, top = stage.camera.project(np.array([[lateral, -0.05, along], [lateral, high, along]]))
    tall = float(foot[1] - top[1])
    wide = tall * alpha.shape[1] / alpha.shape[0] * stretch
    if flip:
        alpha, shade = alpha[:, ::-1], shade[:, ::-1]
    light = stage.light
    facing = light.on((0.0, 0.55, -0.6)) * 0.85
    if stage.rng.random() < 0.25:  # a tree in the shade of a house
        facing = facing * np.float32(stage.rng.uniform(0.35, 0.7))
    box = (float(foot[0]) - wide / 2, float(top[1]), float(foot[0]) + wide / 2, float(foot[1]))
    stage.canvas.sprite(alpha, shade, box, color * facing, VEGETATION, along)


def plant_trees(stage: Stage) -> None:
    """Queues the street's trees: along the kerbs, in gardens and in green stretches."""
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
                    tone = paint.saturate(paint.vary(rng, bark if kind == "bare" else leaves, 0.15), saturation)
                    size = high * rng.uniform(0.75, 1.2)
                    plant(stage, kind, side.sign * (place + rng.normal(0, 0.15)), near, size, tone)
                near += side.trees * rng.uniform(0.6, 1.6)
        for block in side.blocks:
            _fill_block(stage, side.sign, side.back, block.near, block.far, block.kind, side.front, saturation)


def _fill_block(
    stage: Stage, sign: int, back: float, near: float, far: float, kind: str, front: float, saturation: float
) -> None:
    rng = stage.rng
    density = {"green": 0.17, "houses": 0.06 if front > 3 else 0.0, "lot": 0.05, "gap": 0.0}[kind]
    count = int(rng.poisson(density * rng.uniform(0.4, 1.6) * (far - max(near, 3))))if far > 3 else 0
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
