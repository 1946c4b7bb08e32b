"""Walls, fences, railings and hedges along the back edges of the sidewalks."""

from __future__ import annotations

import numpy as np

from street_scenes import noise, paint, trees
from street_scenes.camera import NEAREST
from street_scenes.furniture import metal
from street_scenes.looks import chance
from street_scenes.street import Stage

WALL, FENCE, VEGETATION = 3, 4, 8


def enclose(stage: Stage) -> None:
    """Adds the walls, fences, railings and hedges of both sidewalks to the paint list ``stage.items``."""
    rng = stage.rng
    for side in stage.street.sides:
        color = paint.wall(rng)[0] if side.bound == "wall" else metal(rng)
        if side.bound == "hedge":
            color = paint.leaves(rng) * 0.8
        high = rng.uniform(0.7, 2.2) if side.bound in ("wall", "hedge", "fence") else rng.uniform(0.9, 1.5)
        for block in side.blocks:
            if block.kind == "gap" or side.bound == "none":
                continue
            if block.kind != "houses" or side.front > 0.8:
                for near in np.arange(block.near, min(block.far, 75), 5.0):
                    far = min(near + 5.0, block.far)
                    if far > NEAREST + 0.4 and not chance(rng, 0.08):
                        _stretch(
                            stage,
                            side.sign * (side.back + 0.1),
                            max(near, NEAREST),
                            far,
                            high,
                            color,
                            side.bound,
                        )
        if chance(rng, 0.08):  # railings at the curb
            start = rng.uniform(3, 25)
            for near in np.arange(start, start + rng.uniform(5, 25), 5.0):
                _stretch(stage, side.sign * (side.edge + 0.3), near, near + 5, 1.05, metal(rng), "railing")


def _stretch(
    stage: Stage, x: float, near: float, far: float, high: float, color: np.ndarray, kind: str
) -> None:
    sign = 1 if x > 0 else -1
    first, last = (far, near) if sign > 0 else (near, far)
    quad = np.array([[x, high, first], [x, high, last], [x, 0.0, last], [x, 0.0, first]])
    normal = (-float(sign), 0.1, -0.1)

    def paint_it() -> None:
        canvas, rng, middle = stage.canvas, stage.rng, (near + far) / 2
        light = stage.light.on(normal)
        pixels = stage.camera.project(quad)
        if not canvas.seen(pixels):
            return
        if kind == "railing":
            _rails(stage, x, near, far, high, color * light)
            return
        if kind == "hedge":
            part = trees.leaf_texture(int(rng.integers(4)))
            size = int(np.clip(600 / max(near, 3.0), 24, 128))
            top, left = int(rng.integers(256 - size)), int(rng.integers(256 - size))
            texture = part[top : top + size, left : left + size, None] * color * light
            texture *= np.linspace(1.25, 0.6, size, dtype=np.float32)[:, None, None]
            # Bushes in front of the hedge give the hedge a ragged outline.
            for along in (far - 0.5, middle, near + 0.5) if near < 30 else (middle,):
                if along > 2.5:
                    variant, size_up = int(rng.integers(trees.VARIANTS)), high * rng.uniform(1.02, 1.22)
                    trees.paint_tree(
                        stage, "bush", variant, False, 1.4, x + sign * 0.3, along, size_up, color
                    )
            canvas.warp(texture.astype(np.float32), pixels, VEGETATION, middle)
            return
        label = WALL if kind == "wall" else FENCE
        tone = 1 + 0.12 * noise.crop(rng, "mottle", 24, 64, 1.0)
        if kind == "fence":
            tone[:, :: int(rng.integers(3, 7))] *= 0.5
        else:
            tone[:: int(rng.integers(3, 5))] *= 0.85
            tone[:2] *= 1.25
        canvas.warp((tone[:, :, None] * color * light).astype(np.float32), pixels, label, middle)

    stage.add(far, paint_it)


def _rails(stage: Stage, x: float, near: float, far: float, high: float, color: np.ndarray) -> None:
    """Paints a railing. The gaps between the bars are also labeled as fence, as in hand-labeled data sets."""
    camera, canvas, middle = stage.camera, stage.canvas, (near + far) / 2
    scale = camera.scale(middle)
    for level in (0.12, high):
        ends = camera.project(np.array([[x, level, near], [x, level, far]]))
        canvas.stroke(ends, 0.05 * scale, color, FENCE, middle)
    step = max(0.13, 2.2 / scale)
    places = np.arange(near, far, step)
    points = np.empty((len(places), 2, 3))
    points[:, :, 0], points[:, 0, 1], points[:, 1, 1], points[:, :, 2] = x, 0.0, high, places[:, None]
    for along, ends in zip(
        places.tolist(), camera.project(points.reshape(-1, 3)).reshape(-1, 2, 2), strict=True
    ):
        canvas.stroke(ends, min(0.035 * camera.scale(along), 6.0), color, FENCE, along)
    area = np.array([[x, high, near], [x, high, far], [x, 0.05, far], [x, 0.05, near]])
    canvas.mark(camera.project(area), FENCE)
