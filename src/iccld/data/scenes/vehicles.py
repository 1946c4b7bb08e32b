"""Painting vehicles from their models, parking them and letting them drive."""

from __future__ import annotations

import numpy as np

from iccld.data.scenes import models, paint
from iccld.data.scenes.canvas import Canvas
from iccld.data.scenes.looks import chance, pick
from iccld.data.scenes.models import Model
from iccld.data.scenes.street import Side, Stage

_CIRCLE = np.linspace(0, 2 * np.pi, 17)[:-1]


def to_street(local: np.ndarray, lateral: float, along: float, heading: float) -> np.ndarray:
    """Turns vehicle coordinates (right, up, forwards) into street coordinates; heading 0 drives away."""
    sine, cosine = np.sin(heading), np.cos(heading)
    return np.stack(
        [
            lateral + local[:, 0] * cosine + local[:, 2] * sine,
            local[:, 1],
            along - local[:, 0] * sine + local[:, 2] * cosine,
        ],
        axis=1,
    )


def shadow(stage: Stage, outline: np.ndarray, strength: float) -> None:
    """Darkens the ground under something; outline is (n, 3) street points."""
    canvas = stage.canvas
    pixels = stage.camera.project(outline)
    window = canvas.window(np.clip(pixels, -5000, 5000))
    if window is None:
        return
    left, top, right, bottom = window
    mask = Canvas.mask(pixels, window)
    soft = Canvas.soften(mask, max(1.0, 0.05 * stage.camera.scale(float(outline[:, 2].mean()))))
    canvas.color[top:bottom, left:right] *= (1 - strength * soft)[:, :, None]


class Placed:
    """A model at a place in the street."""

    def __init__(self, stage: Stage, model: Model, lateral: float, along: float, heading: float) -> None:
        """Projects the model's profile on both sides."""
        self.stage, self.model = stage, model
        self.lateral, self.along, self.heading = lateral, along, heading
        offset = float(stage.camera.offset(np.array(max(along, 0.0))))
        self.eye = np.array([stage.camera.lateral - offset, stage.camera.height, 0.0])
        self.middle = to_street(np.array([[0.0, 0.45 * model.profile[:, 1].max(), 0.0]]), lateral, along, heading)[0]

    def points(self, outline: np.ndarray, side: float) -> np.ndarray:
        """Street points of (forwards, up, half width) points on one side (-1 to 1)."""
        half = self.model.width / 2
        local = np.stack([outline[:, 2] * half * side, outline[:, 1], outline[:, 0]], axis=1)
        return to_street(local, self.lateral, self.along, self.heading)

    def light(self, points: np.ndarray) -> tuple[bool, np.ndarray, float]:
        """Whether a polygon faces the camera, the light on it, and how much it looks upwards."""
        normal = np.cross(points[1] - points[0], points[2] - points[0])
        size = float(np.linalg.norm(normal))
        if size < 1e-9:
            return False, np.zeros(3, np.float32), 0.0
        normal = normal / size
        center = points.mean(axis=0)
        if normal @ (center - self.middle) < 0:
            normal = -normal
        return bool(normal @ (center - self.eye) < 0), self.stage.light.on(normal), float(normal[1])

    def fill(self, points: np.ndarray, albedo: np.ndarray, gloss: float, light: np.ndarray, up: float) -> None:
        """Paints a polygon with diffuse light and the mirrored sky."""
        stage = self.stage
        mirrored = stage.light.horizon * (gloss * stage.light.openness * (0.55 + 0.6 * max(up, 0.0)))
        color = albedo * light + mirrored
        big = 0.06 if gloss < 0.13 else 0.12
        steep = (1.12, 0.82) if gloss < 0.13 else (1.5, 0.55)
        pixels = stage.camera.project(points)
        stage.canvas.fill(pixels, color, self.model.label, self.along, gradient=steep, grain=big)

    def strip(self, index: int, left: float, right: float, start: float, end: float) -> np.ndarray:
        """Corners of a part of the strip behind profile point ``index``."""
        a, b = self.model.profile[index], self.model.profile[index + 1]
        row = np.stack([a + (b - a) * start, a + (b - a) * end])
        one, two = self.points(row, left), self.points(row, right)
        return np.concatenate([one, two[::-1]])

    def paint(self) -> None:
        """Paints shadow, wheels and body."""
        model = self.model
        ends = model.profile[:, 0].min(), model.profile[:, 0].max()
        base = np.array([[ends[0] - 0.15, 0.0, 1.06], [ends[1] + 0.15, 0.0, 1.06]])
        ring = np.concatenate([self.points(base, -1), self.points(base, 1)[::-1]])
        shadow(self.stage, ring, 0.75)
        self._tyres()
        faces: list[tuple[float, int, np.ndarray, np.ndarray, float]] = []
        for index in range(len(model.strips)):
            corners = self.strip(index, -1.0, 1.0, 0.0, 1.0)
            visible, light, up = self.light(corners)
            if visible:
                faces.append((float(np.linalg.norm(corners.mean(axis=0) - self.eye)), index, corners, light, up))
        for side in (-1, 1):
            corners = self.points(model.sides[0][0], side)
            flat = np.stack([corners[0], corners[len(corners) // 2], corners[-1]])
            visible, light, up = self.light(flat)
            if visible:
                faces.append((float(np.linalg.norm(corners.mean(axis=0) - self.eye)), side - 10, corners, light, up))
        for _, index, corners, light, up in sorted(faces, key=lambda face: -face[0]):
            if index < 0:
                self._side(index + 10, light)
                continue
            self.fill(corners, model.strips[index], model.gloss[index], light, up)
            if self.stage.camera.scale(self.along) > 6:
                for number, left, right, start, end, albedo, gloss in model.patches:
                    if number == index:
                        self.fill(self.strip(index, left, right, start, end), albedo, gloss, light, up)

    def _side(self, side: int, light: np.ndarray) -> None:
        for outline, albedo, gloss in self.model.sides:
            self.fill(self.points(outline, side), albedo, gloss, light, 0.0)
        rubber = np.full(3, 0.018, np.float32)
        rim = np.full(3, 0.22, np.float32)
        for place, radius in self.model.wheels:
            for size, albedo, out in ((1.16, rubber * 0.5, 0.99), (1.0, rubber, 1.0), (0.6, rim, 1.0)):
                circle = np.stack(
                    [
                        place + size * radius * np.cos(_CIRCLE),
                        np.maximum(radius + size * radius * np.sin(_CIRCLE), 0.0),
                        np.full(16, out),
                    ],
                    axis=1,
                )
                pixels = self.stage.camera.project(self.points(circle, side))
                self.stage.canvas.fill(pixels, albedo * light, self.model.label, self.along)

    def _tyres(self) -> None:
        """The tyres seen from the front or the rear, under the body."""
        for place, radius in self.model.wheels:
            for side in (-1.0, 1.0):
                for end in (place - radius * 0.8, place + radius * 0.8):
                    corners = np.array([[end, 0, side], [end, radius, side], [end, radius, side * 0.76], [end, 0, side * 0.76]])
                    pixels = self.stage.camera.project(self.points(corners, 1.0))
                    self.stage.canvas.fill(pixels, np.full(3, 0.008, np.float32), self.model.label, self.along)


def place(stage: Stage, kind: str, lateral: float, along: float, heading: float) -> None:
    """Queues a vehicle: ``car``, ``van``, ``bus``, ``truck`` or ``tram``."""
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
        stage.add(z, lambda model=model, x=x, z=z: Placed(stage, model, x, z, heading).paint())


def park(stage: Stage) -> None:
    """Queues parked vehicles along the kerbs and on paved stretches."""
    rng = stage.rng
    for side in stage.street.sides:
        if side.parked:
            along = rng.uniform(0.5, 7)
            while along < 90:
                if chance(rng, side.parked) and side.kind_at(along) != "gap":
                    kind = "van" if chance(rng, 0.13) else "car"
                    lateral = side.sign * (side.edge - 1.0 + rng.normal(0, 0.08))
                    heading = rng.normal(0, 0.03) + (np.pi if chance(rng, 0.5) else 0.0)
                    place(stage, kind, lateral, along, heading)
                along += rng.uniform(5.0, 6.6)
        for block in side.blocks:
            if block.kind == "lot":
                _rows(stage, side, block.near, min(block.far, 80.0))


def _rows(stage: Stage, side: Side, near: float, far: float) -> None:
    """Rows of cars on a car park beside the road."""
    rng = stage.rng
    crosswise = chance(rng, 0.7)
    for row in range(int(rng.integers(1, 3))):
        lateral = side.back + 3.2 + row * 8.0
        along = max(near, 4.0) + rng.uniform(0, 2)
        step = 2.7 if crosswise else 5.5
        fill = rng.uniform(0.4, 0.95)
        while along < far - 1:
            if chance(rng, fill):
                heading = rng.normal(0, 0.04) + (np.pi / 2 if crosswise else 0.0) + (np.pi if chance(rng, 0.5) else 0)
                place(stage, "car", side.sign * lateral, along, heading)
            along += step


def drive(stage: Stage) -> None:
    """Queues moving traffic and, now and then, vehicles that turn or stand across."""
    rng, street = stage.rng, stage.street
    spots: list[tuple[float, float]] = []
    for _ in range(int(rng.poisson(stage.look.traffic))):
        kind = ("car", "van", "bus", "truck", "tram")[pick(rng, (0.77, 0.1, 0.055, 0.05, 0.025))]
        own = chance(rng, 0.5)
        lane = rng.integers(max(1, street.lanes // 2))
        lateral = (1 if own else -1) * street.own * street.lane * (0.5 + lane) + rng.normal(0, 0.2)
        along = 5 + 75 * rng.random() ** 1.6 + (4 if kind in ("bus", "truck", "tram") else 0)
        if own and abs(lateral - stage.camera.lateral) < 1.8:
            along += 3
        if any(abs(lateral - x) < 2.2 and abs(along - z) < 7 for x, z in spots):
            continue
        spots.append((lateral, along))
        heading = (0.0 if own else np.pi) + rng.normal(0, 0.04)
        if chance(rng, 0.1):
            heading += rng.uniform(-1.3, 1.3)
        place(stage, kind, lateral, along, float(heading))
