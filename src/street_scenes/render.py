"""Rendering of a street scene with its label map from a seed. The labels are the 19 classes of Cityscapes.

The look ``game`` is sharp and vivid like a video game. The look ``camera`` imitates photographs by day. The look
``night`` imitates photographs under street lamps. The looks differ in colors, light, noise, optics, camera geometry and
traffic.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from street_scenes import (
    barriers,
    buildings,
    cycles,
    furniture,
    ground,
    light,
    markings,
    optics,
    people,
    street,
    trees,
    vehicles,
)
from street_scenes.canvas import Canvas
from street_scenes.looks import LOOKS, get_look
from street_scenes.street import Stage

SMALLEST = 48
"""Least height and width of a scene in pixels."""
LARGEST = 16_000
"""Greatest height and width of a scene in pixels. Scenes are painted at twice their size, and OpenCV cannot warp
images with sides of 32,767 or more pixels."""

_SUPERSAMPLING = 2

Scene = tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]
"""An RGB picture with its label map of Cityscapes trainIds (255 for unlabeled pixels)."""


def render_scene(seed: int, *, look: str, height: int, width: int) -> Scene:
    """Renders one scene. The same arguments always give the same pixels.

    Args:
        seed: Seed of the random generator, 0 or greater.
        look: Name of the look: ``game``, ``camera`` or ``night``.
        height: Height of the picture in pixels, at least 48.
        width: Width of the picture in pixels, at least 48.

    Returns:
        The RGB picture, (h, w, 3), uint8, and the label map of Cityscapes trainIds, (h, w), uint8. Unlabeled pixels
        have the value 255.

    Raises:
        ValueError: The seed is negative, the look is unknown, or the picture is too small.
    """
    chosen = get_look(look)
    if seed < 0 or min(height, width) < SMALLEST:
        raise ValueError(
            f"street scene with seed {seed}, height {height}, width {width}: "
            f"give a seed of 0 or more and sizes of at least {SMALLEST} pixels"
        )
    rng = np.random.default_rng([seed, sorted(LOOKS).index(look)])
    rows, columns = height * _SUPERSAMPLING, width * _SUPERSAMPLING
    plan = street.draw_street(rng, chosen)
    camera = street.draw_camera(rng, chosen, plan, rows, columns)
    weather = light.draw_light(rng, chosen)
    canvas = Canvas(rows, columns, weather.horizon * np.float32(0.85), weather.density, rng)
    stage = Stage(rng, chosen, plan, camera, weather, canvas)
    _paint(stage)
    color, label = optics.distort(rng, chosen, canvas.color, canvas.label)
    optics.bonnet(rng, chosen, color, label)
    color, label = optics.halve(color, label)
    return optics.develop(rng, chosen, color, label), label


def _paint(stage: Stage) -> None:
    bird = ground.draw_plan(stage)
    markings.paint_markings(stage, bird)
    markings.cast_shadows(stage, bird)
    horizon = ground.paint_ground(stage, bird)
    stage.canvas.color[:horizon] = light.sky_picture(stage.rng, stage.light, stage.camera, horizon)
    stage.canvas.label[:horizon] = light.SKY
    buildings.paint_backdrop(stage, horizon)
    buildings.build_houses(stage)
    trees.plant_trees(stage)
    barriers.enclose(stage)
    furniture.furnish(stage)
    vehicles.park(stage)
    vehicles.drive(stage)
    cycles.ride(stage)
    people.populate(stage)
    stage.paint()
