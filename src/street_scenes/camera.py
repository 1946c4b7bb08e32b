"""A pinhole camera over a street: metres to pixels, and rows of the picture back to depths on the ground.

Street coordinates are (lateral, up, along) in metres: lateral is measured from the middle of the road to the
right, up from the ground, along from the camera forwards. Bends and hills are part of the projection, so that
whatever is placed beside the road follows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

NEAREST = 0.6
"""Points nearer than this (metres) are moved to it before they are projected."""

_STRAIGHT_FROM = 150.0


def _curve(along: np.ndarray, curvature: float) -> np.ndarray:
    """A parabola that goes on as a straight line behind 150 m."""
    near = np.clip(along, None, _STRAIGHT_FROM)
    return curvature * (0.5 * near * near + _STRAIGHT_FROM * (np.maximum(along, near) - near))


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and how it looks.

    Attributes:
        rows: height of the picture in pixels.
        columns: width of the picture in pixels.
        focal: focal length in pixels.
        height: metres above the road.
        lateral: metres right of the middle of the road.
        pitch: radians, positive looks down.
        yaw: lateral drift of the road per metre of depth.
        bend: curvature of the road, 1/m, positive to the right.
        hill: curvature of its profile, 1/m, positive climbs.
    """

    rows: int
    columns: int
    focal: float
    height: float
    lateral: float
    pitch: float
    yaw: float
    bend: float
    hill: float

    def project(self, points: np.ndarray) -> Float32[np.ndarray, "n 2"]:
        """Projects (n, 3) street points to (n, 2) pixels (column, row)."""
        along = np.maximum(points[:, 2], NEAREST)
        near = np.minimum(along, _STRAIGHT_FROM)
        arc = 0.5 * near * near + _STRAIGHT_FROM * (along - near)
        right = points[:, 0] + self.bend * arc + (self.yaw * along - self.lateral)
        up = points[:, 1] + (self.hill * arc - self.height)
        sine, cosine = math.sin(self.pitch), math.cos(self.pitch)
        scale = self.focal / np.maximum(along * cosine - up * sine, 0.3)
        pixels = np.empty((len(points), 2), np.float32)
        pixels[:, 0] = right * scale + self.columns / 2
        pixels[:, 1] = self.rows / 2 - (up * cosine + along * sine) * scale
        return pixels

    def offset(self, along: np.ndarray) -> np.ndarray:
        """Lateral shift of the road's middle at some depths, in metres."""
        return _curve(along, self.bend) + self.yaw * along

    def scale(self, along: float) -> float:
        """Pixels per metre at a depth."""
        return self.focal / max(along, NEAREST)

    def ground(self) -> tuple[int, np.ndarray]:
        """Finds the row where the ground begins and the depth (metres) seen in that row and each below it."""
        along = np.geomspace(NEAREST, 600.0, 500)
        points = np.stack([np.full_like(along, self.lateral), np.zeros_like(along), along], axis=1)
        rows = self.project(points)[:, 1].astype(np.float64)
        visible = np.minimum.accumulate(rows)
        keep = np.concatenate([[True], visible[1:] < visible[:-1] - 1e-6])
        horizon = int(np.clip(np.ceil(visible[-1]), 0, self.rows - 1))
        wanted = np.arange(horizon, self.rows, dtype=np.float64) + 0.5
        return horizon, np.interp(wanted, visible[keep][::-1], along[keep][::-1])

    def columns_to_lateral(self, along: np.ndarray) -> Float32[np.ndarray, "rows columns"]:
        """The lateral street coordinate of each pixel on the ground, given the depth of each row."""
        up = _curve(along, self.hill) - self.height
        depth = np.maximum(along * np.cos(self.pitch) - up * np.sin(self.pitch), 0.3)
        column = (np.arange(self.columns) + 0.5 - self.columns / 2) / self.focal
        base = self.lateral - self.offset(along)
        return (column[None, :] * depth[:, None] + base[:, None]).astype(np.float32)
