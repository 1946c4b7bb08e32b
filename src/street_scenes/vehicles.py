"""Placement and painting of parked and moving vehicles."""

from __future__ import annotations

import numpy as np

from street_scenes import models, paint
from street_scenes.canvas import Canvas
from street_scenes.looks import chance, pick
from street_scenes.models import Model
from street_scenes.street import Side, Stage

_CIRCLE = np.linspace(0, 2 * np.pi, 17)[:-1]


def to_street(local: np.ndarray, lateral: float, along: float, heading: float) -> np.ndarray:
    """Transforms points from vehicle coordinates (right, up, forwards) to street coordinates (lateral, up, along).

    Args:
        local: Points in vehicle coordinates in meters, (n, 3).
        lateral: Lateral street coordinate of the vehicle in meters.
        along: Depth of the vehicle in meters.
        heading: Direction of travel in radians: 0 away from the camera, positive to the right.
    """
    sine, cosine = np.sin(heading), np.cos(heading)
    return np.stack(
        [
            lateral + local[:, 0] * cosine + local[:, 2] * sine,
            local[:, 1],
            along - local[:, 0] * sine + local[:, 2] * cosine,
        ],
        axis=1,
    )


def shadow(stage: Stage, pixels: np.ndarray, scale: float, strength: float) -> None:
    """Darkens the ground under an object.

    Args:
        stage: Scene to paint on.
        pixels: Outline of the shadow in pixels, (n, 2).
        scale: Image scale at the object in pixels per meter. The shadow's edge is blurred in proportion to the scale.
        strength: Fraction of the light that the shadow removes, in [0, 1].
    """
    canvas = stage.canvas
    window = canvas.window(pixels)
    if window is None:
        return
    left, top, right, bottom = window
    soft = Canvas.soften(Canvas.mask(pixels, window), max(1.0, 0.05 * scale))
    canvas.color[top:bottom, left:right] *= (1 - np.float32(strength) * soft)[:, :, None]


class Placed:
    """A vehicle model with a position and a direction of travel in the street."""

    def __init__(self, stage: Stage, model: Model, lateral: float, along: float, heading: float) -> None:
        """Stores the position and computes the camera position in vehicle coordinates.

        Args:
            stage: Scene to paint on.
            model: Shape of the vehicle.
            lateral: Lateral street coordinate in meters.
            along: Depth in meters.
            heading: Direction of travel in radians: 0 away from the camera, positive to the right.
        """
        self.stage, self.model = stage, model
        self.lateral, self.along, self.heading = lateral, along, heading
        self.scale = stage.camera.scale(along)
        camera = stage.camera
        away = np.array(
            [camera.lateral - float(camera.offset(np.array([max(along, 0.0)]))[0]) - lateral, -along]
        )
        sine, cosine = np.sin(heading), np.cos(heading)
        self.turn = np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
        self.eye = np.array(
            [away[0] * cosine - away[1] * sine, camera.height, away[0] * sine + away[1] * cosine]
        )

    def pixels(self, local: np.ndarray) -> np.ndarray:
        """Projects points in vehicle coordinates, (..., 3), to pixels, (..., 2)."""
        street = local.reshape(-1, 3) @ self.turn + np.array([self.lateral, 0.0, self.along])
        return self.stage.camera.project(street).reshape(*local.shape[:-1], 2)

    def light(self, normal: np.ndarray) -> np.ndarray:
        """Returns the irradiance on a surface whose normal is given in vehicle coordinates."""
        return self.stage.light.on(normal @ self.turn)

    def fill(
        self, pixels: np.ndarray, albedo: np.ndarray, gloss: float, light: np.ndarray, up: float
    ) -> None:
        """Paints a polygon of the vehicle with diffuse reflection and with the mirror reflection of the sky.

        Args:
            pixels: Corners in pixels, (n, 2).
            albedo: Albedo of the polygon, linear RGB, (3,).
            gloss: Reflectance for the light of the sky, in [0, 1].
            light: Irradiance on the polygon, linear RGB, (3,).
            up: Vertical component of the polygon's unit normal.
        """
        stage = self.stage
        mirrored = stage.light.horizon * (gloss * stage.light.openness * (0.55 + 0.6 * max(up, 0.0)))
        glass = gloss >= 0.06 and float(albedo.max()) < 0.09
        steep, grain = ((1.7, 0.4), 0.2) if glass else ((1.12, 0.8), 0.07)
        color = (albedo * light + mirrored).astype(np.float32)
        stage.canvas.fill(
            pixels, color, self.model.label, self.along, gradient=steep, grain=grain, kind="cloud"
        )

    def paint(self) -> None:
        """Paints the vehicle with shadow, wheels, mirrors and body."""
        model = self.model
        half, ends = model.width / 2, (model.profile[:, 0].min() - 0.15, model.profile[:, 0].max() + 0.15)
        base = np.array(
            [[x * half * 1.06, 0.0, z] for x, z in ((-1, ends[0]), (1, ends[0]), (1, ends[1]), (-1, ends[1]))]
        )
        tall = base + np.array([0.0, model.profile[:, 1].max(), 0.0])
        if not self.stage.canvas.seen(self.pixels(np.concatenate([base, tall]))):
            return
        shadow(self.stage, self.pixels(base), self.scale, 0.75)
        self._tyres()
        if self.scale > 12 and model.mirrors is not None:
            self._mirrors(model.mirrors)
        quads = model.quads()
        normals = np.cross(quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        centers = quads.mean(axis=1)
        outward = ((centers - [0.0, 0.45 * model.profile[:, 1].max(), 0.0]) * normals).sum(axis=1)
        normals *= np.where(outward < 0, -1.0, 1.0)[:, None]
        visible = ((centers - self.eye) * normals).sum(axis=1) < 0
        distance = np.linalg.norm(centers - self.eye, axis=1)
        order = [int(i) for i in np.argsort(-distance) if visible[i]]
        side = 1 if self.eye[0] > 0.95 * half else (-1 if self.eye[0] < -0.95 * half else 0)
        pixels = self.pixels(quads)
        patches = self.pixels(model.patch_quads()) if self.scale > 10 else None
        end = (
            [i for i in order if abs(normals[i, 2]) < 0.35]
            + [-1]
            + [i for i in order if abs(normals[i, 2]) >= 0.35]
        )
        for index in end:
            if index < 0:
                if side:
                    self._side(side)
                continue
            light, up = self.light(normals[index]), float(normals[index, 1])
            self.fill(pixels[index], model.strips[index], model.gloss[index], light, up)
            if patches is not None:
                for number, patch in enumerate(model.patches):
                    if patch[0] == index:
                        self.fill(patches[number], patch[5], patch[6], light, up)

    def _side(self, side: int) -> None:
        model, half = self.model, self.model.width / 2
        light = self.light(np.array([float(side), 0.0, 0.0]))
        outlines = np.concatenate([outline for outline, _, _ in model.sides])
        local = np.stack([outlines[:, 2] * (half * side), outlines[:, 1], outlines[:, 0]], axis=1)
        pixels, start = self.pixels(local), 0
        for outline, albedo, gloss in model.sides:
            self.fill(pixels[start : start + len(outline)], albedo, gloss, light, 0.0)
            start += len(outline)
        rubber = np.full(3, 0.018, np.float32)
        for place, radius in model.wheels:
            rings = ((1.16, rubber * 0.5), (1.0, rubber), (0.6, np.full(3, 0.22, np.float32)))
            for size, albedo in rings if self.scale > 15 else rings[1:2]:
                circle = np.empty((16, 3))
                circle[:, 0] = half * side
                circle[:, 1] = np.maximum(radius + size * radius * np.sin(_CIRCLE), 0.0)
                circle[:, 2] = place + size * radius * np.cos(_CIRCLE)
                self.stage.canvas.fill(self.pixels(circle), albedo * light, model.label, self.along)

    def _mirrors(self, spot: np.ndarray) -> None:
        """Paints the wing mirrors on both sides. ``spot`` is the mirrors' position (forwards, up) in meters."""
        light = self.light(np.array([0.0, 0.0, -1.0]))
        half, (forwards, up) = self.model.width / 2, spot
        for side in (-1, 1):
            near, far = side * half * 0.95, side * (half + 0.17)
            corners = [
                [near, up, forwards],
                [far, up, forwards],
                [far, up + 0.13, forwards],
                [near, up + 0.15, forwards],
            ]
            color = self.model.strips[-3] * light * np.float32(0.6)
            self.stage.canvas.fill(self.pixels(np.array(corners)), color, self.model.label, self.along)

    def _tyres(self) -> None:
        """Paints the tires under the body, as seen from the front or the rear."""
        half, corners = self.model.width / 2, []
        for place, radius in self.model.wheels:
            for end in (place - radius * 0.8, place + radius * 0.8):
                for x in (-half, half):
                    inner = 0.76 * x
                    corners.append([[x, 0, end], [x, radius, end], [inner, radius, end], [inner, 0, end]])
        if corners:
            dark = np.full(3, 0.008, np.float32)
            for pixels in self.pixels(np.array(corners, np.float64)):
                self.stage.canvas.fill(pixels, dark, self.model.label, self.along)


def place(stage: Stage, kind: str, lateral: float, along: float, heading: float) -> None:
    """Adds a vehicle to the paint list ``stage.items``. Vehicle parts that are too close to the camera are left out.

    Args:
        stage: Scene to paint on.
        kind: Kind of vehicle: ``car``, ``van``, ``bus``, ``truck`` or ``tram``.
        lateral: Lateral street coordinate in meters.
        along: Depth in meters.
        heading: Direction of travel in radians: 0 away from the camera, positive to the right.
    """
    rng = stage.rng
    color = paint.saturate(paint.car(rng), float(rng.uniform(*stage.look.saturation)))
    parts: list[tuple[Model, float]]
    if kind == "truck":
        parts = models.truck(rng, color)
    elif kind == "van":
        white = paint.hsv(60, 0.03, rng.uniform(0.75, 0.95))
        parts = [(models.van(rng, white if chance(rng, 0.6) else color), 0.0)]
    elif kind in ("bus", "tram"):
        body = paint.sign(rng) if chance(rng, 0.7) else color
        parts = [(models.bus(rng, body, models.BUS if kind == "bus" else models.TRAIN), 0.0)]
    else:
        parts = [(models.car(rng, color), 0.0)]
    for model, forwards in parts:
        half = (model.profile[:, 0].max() - model.profile[:, 0].min()) / 2
        spot = to_street(np.array([[0.0, 0.0, forwards]]), lateral, along, heading)[0]
        x, z = float(spot[0]), float(spot[2])
        if z + half * abs(np.cos(heading)) < 1.5:
            continue
        if abs(x - stage.camera.lateral) < 1.2 + model.width / 2 and z - half < 2.5:
            continue
        stage.add(z, Placed(stage, model, x, z, heading).paint)


def park(stage: Stage) -> None:
    """Adds the vehicles that are parked at curbs and in parking lots to the paint list ``stage.items``."""
    rng = stage.rng
    for side in stage.street.sides:
        if side.parked:
            along = rng.uniform(0.5, 7)
            while along < 90:
                if chance(rng, side.parked) and side.kind_at(along) != "gap":
                    kind = "van" if chance(rng, 0.13) else "car"
                    lateral = side.sign * (
                        side.edge - 1.0 + rng.normal(0, 0.08) + (0.6 if chance(rng, 0.04) else 0.0)
                    )
                    heading = rng.normal(0, 0.03) + (np.pi if chance(rng, 0.5) else 0.0)
                    place(stage, kind, lateral, along, heading)
                along += rng.uniform(5.0, 6.6)
        for block in side.blocks:
            if block.kind == "lot":
                _rows(stage, side, block.near, min(block.far, 80.0))


def _rows(stage: Stage, side: Side, near: float, far: float) -> None:
    """Adds one or two rows of parked cars to the paint list ``stage.items``.

    The cars stand in a parking lot between the depths ``near`` and ``far`` in meters.
    """
    rng = stage.rng
    crosswise = chance(rng, 0.7)
    for row in range(int(rng.integers(1, 3))):
        lateral = side.back + 3.2 + row * 8.0
        along = max(near, 4.0) + rng.uniform(0, 2)
        step = 2.7 if crosswise else 5.5
        fill = rng.uniform(0.4, 0.95)
        while along < far - 1:
            if chance(rng, fill):
                heading = (
                    rng.normal(0, 0.04)
                    + (np.pi / 2 if crosswise else 0.0)
                    + (np.pi if chance(rng, 0.5) else 0)
                )
                place(stage, "car", side.sign * lateral, along, heading)
            along += step


def drive(stage: Stage) -> None:
    """Adds moving vehicles to the paint list ``stage.items``. About one vehicle in ten is rotated, as in a turn."""
    rng, street = stage.rng, stage.street
    spots: list[tuple[float, float]] = []
    for _ in range(int(rng.poisson(stage.look.traffic))):
        kind = ("car", "van", "bus", "truck", "tram")[pick(rng, (0.78, 0.1, 0.045, 0.05, 0.025))]
        own = chance(rng, 0.5)
        lane = rng.integers(max(1, street.lanes // 2))
        lateral = (1 if own else -1) * street.own * street.lane * (0.5 + lane) + rng.normal(0, 0.2)
        along = 6 + 75 * rng.random() ** 1.4 + (4 if kind in ("bus", "truck", "tram") else 0)
        if own and abs(lateral - stage.camera.lateral) < 1.8:
            along += 3
        if any(abs(lateral - x) < 2.2 and abs(along - z) < 7 for x, z in spots):
            continue
        spots.append((lateral, along))
        heading = (0.0 if own else np.pi) + rng.normal(0, 0.04)
        if chance(rng, 0.1):
            heading += rng.uniform(-1.3, 1.3)
        place(stage, kind, lateral, along, float(heading))
