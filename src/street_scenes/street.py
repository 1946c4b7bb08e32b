"""The layout of a street (lanes, sidewalks, blocks), the pose of the camera, and the list of objects to paint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from street_scenes.camera import Camera
from street_scenes.canvas import Canvas
from street_scenes.light import Light
from street_scenes.looks import Look, chance, pick, uniform

KINDS = ("town", "suburb", "open", "avenue", "lot")
"""Kinds of place: ``town`` has rows of houses with shops, ``suburb`` has houses behind gardens, ``open`` has wide
strips of grass, ``avenue`` is a road with trees, and ``lot`` is a road beside parking lots."""

END = 120.0
"""Greatest depth in meters at which a block or a house begins."""


@dataclass(frozen=True)
class Block:
    """A stretch of one side of the street, between two depths in meters.

    The kind is ``houses``, ``green`` (grass and trees), ``lot`` (a parking lot) or ``gap`` (a side street).
    """

    near: float
    far: float
    kind: str


@dataclass
class Side:
    """One side of the street. Lengths are in meters and positive on both sides.

    Attributes:
        sign: Sign of the lateral coordinates: -1 on the left side, 1 on the right side.
        edge: Distance from the road's centerline to the curb.
        verge: Width of the strip of grass beside the sidewalk, or 0 if there is no strip.
        walk: Width of the sidewalk.
        front: Distance from the back edge of the sidewalk to the facades.
        bound: Kind of boundary behind the sidewalk: ``none``, ``wall``, ``fence``, ``railing`` or ``hedge``.
        parked: Probability that a parking space at the curb is occupied.
        trees: Typical distance between street trees, or 0 if there are no trees.
        blocks: Blocks along the side, ordered by depth.
    """

    sign: int
    edge: float
    verge: float
    walk: float
    front: float
    bound: str
    parked: float
    trees: float
    blocks: list[Block] = field(default_factory=list)

    @property
    def back(self) -> float:
        """Returns the distance in meters from the road's centerline to the back edge of the sidewalk."""
        return self.edge + self.verge + self.walk

    def kind_at(self, along: float) -> str:
        """Returns the kind of the block at the given depth in meters, or ``green`` if no block is there."""
        return next((b.kind for b in self.blocks if b.near <= along < b.far), "green")


@dataclass
class Street:
    """The layout of a street.

    Attributes:
        kind: Kind of place, one of ``KINDS``.
        lane: Width of a lane in meters.
        lanes: Number of lanes in both directions together.
        keeps_left: Whether traffic keeps to the left.
        bare: Whether street trees have no leaves.
        island: Depths in meters at which a traffic island on the centerline begins and ends, or ``None`` if the street
            has no traffic island.
        sides: Left side and right side of the street.
    """

    kind: str
    lane: float
    lanes: int
    keeps_left: bool
    bare: bool
    island: tuple[float, float] | None
    sides: tuple[Side, Side]

    @property
    def own(self) -> int:
        """Returns the side of the road on which the ego vehicle drives: -1 for the left side, 1 for the right side."""
        return -1 if self.keeps_left else 1


@dataclass
class Stage:
    """The state of a scene that all painting functions share.

    Attributes:
        rng: Random generator of the scene.
        look: Look of the scene.
        street: Layout of the street.
        camera: Camera of the scene.
        light: Light of the scene.
        canvas: Canvas to paint on.
        items: Paint list. Each entry has the depth of an object in meters and a callback that paints the object.
    """

    rng: np.random.Generator
    look: Look
    street: Street
    camera: Camera
    light: Light
    canvas: Canvas
    items: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def add(self, depth: float, paint: Callable[[], None]) -> None:
        """Adds an object to the paint list ``items``.

        Args:
            depth: Depth of the object in meters.
            paint: Callback that paints the object.
        """
        self.items.append((depth, paint))

    def paint(self) -> None:
        """Paints all added objects from back to front."""
        for _, paint in sorted(self.items, key=lambda item: -item[0]):
            paint()


def _blocks(rng: np.random.Generator, kind: str) -> list[Block]:
    weights = {
        "town": (0.85, 0.06, 0.02, 0.07),
        "suburb": (0.62, 0.2, 0.06, 0.12),
        "open": (0.1, 0.74, 0.1, 0.06),
        "avenue": (0.4, 0.5, 0.02, 0.08),
        "lot": (0.3, 0.35, 0.3, 0.05),
    }[kind]
    blocks: list[Block] = []
    near = float(rng.uniform(-12, 4))
    while near < END:
        choice = ("houses", "green", "lot", "gap")[pick(rng, weights)]
        if choice == "gap" and (not blocks or blocks[-1].kind == "gap"):
            choice = "houses" if kind != "open" else "green"
        length = rng.uniform(6, 13) if choice == "gap" else rng.uniform(14, 60)
        blocks.append(Block(near, near + float(length), choice))
        near += float(length)
    return blocks


def _side(rng: np.random.Generator, kind: str, sign: int, edge: float) -> Side:
    town = kind == "town"
    walk = rng.uniform(1.5, 5.0) if town else rng.uniform(1.2, 2.8)
    verge = 0.0 if town or chance(rng, 0.45) else rng.uniform(0.8, 5.0)
    if kind == "open":
        verge = rng.uniform(1.0, 7.0)
        walk = 0.05 if chance(rng, 0.35) else walk
    front = 0.0 if town and chance(rng, 0.82) else rng.uniform(1.0, 8.0)
    if kind == "suburb":
        front = rng.uniform(3.0, 10.0)
    if front < 0.5:
        bound = "none"
    else:
        bound = ("none", "wall", "fence", "railing", "hedge")[pick(rng, (0.24, 0.2, 0.18, 0.18, 0.2))]
    parked = 0.0 if chance(rng, 0.58) or kind == "open" else 0.1 + 0.75 * rng.random() ** 1.5
    spacing = {"town": 0.2, "suburb": 0.55, "open": 0.8, "avenue": 1.0, "lot": 0.7}[kind]
    trees = rng.uniform(6, 22) if chance(rng, spacing) else 0.0
    return Side(
        sign,
        edge,
        float(verge),
        float(walk),
        float(front),
        bound,
        float(parked),
        float(trees),
        _blocks(rng, kind),
    )


def draw_street(rng: np.random.Generator, look: Look) -> Street:
    """Samples the layout of a street from the distributions of a look."""
    kind = KINDS[pick(rng, look.kinds)]
    lane = uniform(rng, look.lane)
    lanes = 2 if chance(rng, 0.8) else (3 if chance(rng, 0.5) else 4)
    half = lane * lanes / 2
    if kind == "lot":
        half += rng.uniform(2, 9)
    edges = (half + rng.uniform(-0.4, 0.6), half + rng.uniform(-0.4, 0.6))
    sides = (_side(rng, kind, -1, edges[0]), _side(rng, kind, 1, edges[1]))
    for side in sides:
        if side.parked and chance(rng, 0.6):
            side.edge += 2.0
    start = float(rng.uniform(5, 30))
    island = (start, start + float(rng.uniform(2, 9))) if chance(rng, 0.12) else None
    return Street(kind, lane, lanes, chance(rng, look.left_traffic), chance(rng, look.bare), island, sides)


def draw_camera(rng: np.random.Generator, look: Look, street: Street, rows: int, columns: int) -> Camera:
    """Samples the pose and the focal length of the camera from the distributions of a look.

    ``rows`` and ``columns`` are the size of the picture in pixels. The focal length is limited, because very wide or
    very tall pictures would otherwise have an unrealistic field of view.
    """
    focal = uniform(rng, look.focal) * np.sqrt(rows * columns)
    focal = float(np.clip(focal, 0.55 * max(rows, columns), 2.4 * min(rows, columns)))
    horizon = float(np.clip(rng.normal(*look.horizon), 0.3, 0.64))
    pitch = float(np.arctan((0.5 - horizon) * rows / focal))
    left, right = street.sides
    lateral = street.own * street.lane / 2 + rng.normal(0, 0.5)
    if chance(rng, 0.15):
        lateral = rng.uniform(-left.edge + 0.8, right.edge - 0.8)
    if chance(rng, 0.03):
        lateral = rng.uniform(-left.back, right.back)
    bend = rng.normal(0, 1 / 260) if chance(rng, 0.55) else 0.0
    hill = rng.normal(0, 1 / 2600) if chance(rng, 0.5) else 0.0
    yaw = rng.normal(0, 0.05) if chance(rng, 0.85) else rng.normal(0, 0.2)
    return Camera(
        rows,
        columns,
        focal,
        uniform(rng, look.height),
        float(lateral),
        pitch,
        float(yaw),
        float(bend),
        float(hill),
    )
