"""A pinhole camera above a street: projects street coordinates to pixels and computes the depth of ground pixels.

Street coordinates are (lateral, up, along) in meters. ``lateral`` points from the road's centerline to the right,
``up`` from the ground upwards, and ``along`` from the camera forwards (the depth). Bends and hills are part of the
projection. Therefore, all objects beside the road follow the road.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

NEAREST = 0.6
"""Minimum depth in meters. Nearer points are projected as if they were at this depth."""

_STRAIGHT_FROM = 150.0


def _curve(along: np.ndarray, curvature: float) -> np.ndarray:
    """Returns the shift of a curved road relative to a straight road, in meters, at the given depths in meters.

    The shift is ½ · curvature · depth². Beyond 150 m, the shift is extrapolated linearly.
    """
    near = np.clip(along, None, _STRAIGHT_FROM)
    return curvature * (0.5 * near * near + _STRAIGHT_FROM * (np.maximum(along, near) - near))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with its pose relative to the road.

    Attributes:
        rows: Height of the picture in pixels.
        columns: Width of the picture in pixels.
        focal: Focal length in pixels.
        height: Height of the camera above the road in meters.
        lateral: Distance of the camera from the road's centerline in meters, positive to the right.
        pitch: Pitch angle of the camera in radians, positive if the camera is tilted downwards.
        yaw: Yaw of the camera, given as the lateral shift of the road in meters per meter of depth (positive to the
            right).
        bend: Horizontal curvature of the road in 1/m, positive to the right.
        hill: Vertical curvature of the road in 1/m, positive upwards.
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
        """Projects points in street coordinates, (n, 3) in meters, to pixels, (n, 2) as (column, row)."""
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
        """Returns the lateral shift of the road's centerline that bend and yaw cause at the given depths.

        All lengths are in meters.
        """
        return _curve(along, self.bend) + self.yaw * along

    def scale(self, along: float) -> float:
        """Returns the image scale in pixels per meter at the given depth in meters."""
        return self.focal / max(along, NEAREST)

    def ground(self) -> tuple[int, np.ndarray]:
        """Computes the row of the horizon and the depth of the ground in each row below the horizon.

        Returns:
            The row of the horizon in pixels, and the depths in meters from the horizon's row down to the last row.
        """
        along = np.geomspace(NEAREST, 600.0, 500)
        points = np.stack([np.full_like(along, self.lateral), np.zeros_like(along), along], axis=1)
        rows = self.project(points)[:, 1].astype(np.float64)
        visible = np.minimum.accumulate(rows)
        keep = np.concatenate([[True], visible[1:] < visible[:-1] - 1e-6])
        horizon = int(np.clip(np.ceil(visible[-1]), 0, self.rows - 1))
        wanted = np.arange(horizon, self.rows, dtype=np.float64) + 0.5
        return horizon, np.interp(wanted, visible[keep][::-1], along[keep][::-1])

    def columns_to_lateral(self, along: np.ndarray) -> Float32[np.ndarray, "rows columns"]:
        """Returns the lateral street coordinate of each ground pixel in meters.

        Args:
            along: Depth of the ground in each row, in meters, as from ``ground``.
        """
        up = _curve(along, self.hill) - self.height
        depth = np.maximum(along * np.cos(self.pitch) - up * np.sin(self.pitch), 0.3)
        column = (np.arange(self.columns) + 0.5 - self.columns / 2) / self.focal
        base = self.lateral - self.offset(along)
        return (column[None, :] * depth[:, None] + base[:, None]).astype(np.float32)
