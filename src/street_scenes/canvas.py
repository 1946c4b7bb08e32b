"""The canvas: an image in linear light with its label map, and the operations that draw on both."""

from __future__ import annotations

import math

import cv2
import numpy as np

from street_scenes import noise

_SHIFT = 4
_FAR = 6000.0

Color = np.ndarray
"""Linear RGB values, (3,). A white sky has a brightness of about 1."""


def _fixed(points: np.ndarray) -> np.ndarray:
    """Converts pixel coordinates to fixed-point integers for OpenCV. Points far outside the canvas are clipped."""
    return (_bounded(points) * (1 << _SHIFT)).astype(np.int32)


def _bounded(points: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(points, -_FAR), _FAR).astype(np.float32, copy=False)


class Canvas:
    """A picture in linear light and a label map of trainIds of the same size, painted from back to front."""

    def __init__(
        self, rows: int, columns: int, haze: Color, density: float, rng: np.random.Generator
    ) -> None:
        """Creates a black canvas on which all pixels are unlabeled (255).

        Args:
            rows: Height in pixels.
            columns: Width in pixels.
            haze: Color of the haze, into which distant objects fade.
            density: Extinction coefficient of the haze in 1/m.
            rng: Random generator for the noise texture of filled polygons.
        """
        self.color = np.zeros((rows, columns, 3), np.float32)
        self.label = np.full((rows, columns), 255, np.uint8)
        self.haze = np.asarray(haze, np.float32)
        self._haze = self.haze.tolist()
        self.density = density
        self.rng = rng

    def clear(self, depth: float) -> float:
        """Returns the fraction of an object's light that passes the haze, given the object's depth in meters."""
        return math.exp(-self.density * max(depth, 0.0))

    def tint(self, color: Color, depth: float) -> Color:
        """Blends the color of an object with the haze, given the object's depth in meters.

        ``color`` can also be a picture, (h, w, 3).
        """
        share = self.clear(depth)
        return np.asarray(color, np.float32) * np.float32(share) + self.haze * np.float32(1.0 - share)

    def tone(self, color: Color, depth: float, gain: float = 1.0) -> tuple[float, float, float]:
        """Blends a color with the haze, as ``tint`` does, and multiplies the result by ``gain``.

        Returns:
            RGB as Python floats, which OpenCV needs as a drawing color.
        """
        share = self.clear(depth)
        red, green, blue = color.tolist()
        haze, share, rest = self._haze, share * gain, (1.0 - share) * gain
        return red * share + haze[0] * rest, green * share + haze[1] * rest, blue * share + haze[2] * rest

    def window(self, points: np.ndarray) -> tuple[int, int, int, int] | None:
        """Returns the bounding box of the given points, widened by about one pixel and cropped to the canvas.

        Args:
            points: Points (column, row) in pixels, (n, 2).

        Returns:
            (left, top, right, bottom), or ``None`` if the bounding box lies outside the canvas.
        """
        # Points far outside the canvas are moved closer, because they would overflow OpenCV's integers.
        x0, y0, wide, high = cv2.boundingRect(_bounded(points))
        x1, y1 = x0 + wide, y0 + high
        rows, columns = self.label.shape
        if x1 < -1 or y1 < -1 or x0 > columns or y0 > rows:
            return None
        left, top, right, bottom = max(x0 - 1, 0), max(y0 - 1, 0), x1 + 2, y1 + 2
        right, bottom = min(right, columns), min(bottom, rows)
        return (left, top, right, bottom) if right > left and bottom > top else None

    def seen(self, points: np.ndarray) -> bool:
        """Checks whether the bounding box of the given points (pixels) overlaps the canvas."""
        return self.window(points) is not None

    def fill(
        self,
        points: np.ndarray,
        color: Color,
        label: int | None,
        depth: float,
        *,
        gradient: tuple[float, float] = (1.0, 1.0),
        grain: float = 0.0,
        kind: str = "mottle",
    ) -> None:
        """Fills a polygon with a color and a label.

        Args:
            points: Corners in pixels, (n, 2).
            color: Linear RGB before haze.
            label: TrainId of the polygon, or ``None`` to leave the label map unchanged.
            depth: Depth of the polygon in meters, for the haze.
            gradient: Brightness factors at the top and at the bottom of the polygon. Rows in between are interpolated.
            grain: Relative amplitude of a noise texture on the polygon.
            kind: Kind of noise, as in ``street_scenes.noise.tile``.
        """
        window = self.window(points)
        if window is None:
            return
        left, top, right, bottom = window
        fixed = _fixed(points)
        if label is not None:
            cv2.fillPoly(self.label, [fixed], label, shift=_SHIFT)
        start, end = gradient
        if (start == end and grain == 0.0) or (bottom - top) * (right - left) < 300:
            cv2.fillPoly(self.color, [fixed], self.tone(color, depth, 0.5 * (start + end)), shift=_SHIFT)
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [fixed], 1, shift=_SHIFT, offset=(-left << _SHIFT, -top << _SHIFT))
        low, high = float(points[:, 1].min()), float(points[:, 1].max())
        position = (np.arange(top, bottom, dtype=np.float32) - low) * (1 / max(high - low, 1e-3))
        factor = (start + (end - start) * np.minimum(np.maximum(position, 0), 1))[:, None].astype(np.float32)
        if grain:
            texture = noise.crop(self.rng, kind, bottom - top, right - left, 1.0)
            factor = np.maximum(factor * (1 + np.float32(grain) * texture), np.float32(0.05))
        else:
            factor = np.broadcast_to(factor, mask.shape)
        patch = factor[:, :, None] * np.array(self.tone(color, depth), np.float32)
        cv2.copyTo(patch, mask, self.color[top:bottom, left:right])

    def mark(self, points: np.ndarray, label: int) -> None:
        """Labels a polygon, given by its corners in pixels, and leaves the colors unchanged."""
        cv2.fillPoly(self.label, [_fixed(points)], label, shift=_SHIFT)

    def stroke(
        self,
        points: np.ndarray,
        thickness: float,
        color: Color,
        label: int | None,
        depth: float,
        closed: bool = False,
    ) -> None:
        """Draws a polyline.

        A line thinner than 0.9 pixels is blended with the background. A line thinner than half a pixel is not labeled,
        and a line thinner than 0.08 pixels is not drawn.

        Args:
            points: Points of the polyline in pixels, (n, 2).
            thickness: Thickness in pixels.
            color: Linear RGB before haze.
            label: TrainId of the line, or ``None`` to leave the label map unchanged.
            depth: Depth of the line in meters, for the haze.
            closed: Whether the last point is connected to the first point.
        """
        window = self.window(points)
        if window is None or thickness < 0.08:
            return
        fixed, width, tone = _fixed(points), max(1, round(thickness)), self.tone(color, depth)
        if label is not None and thickness >= 0.5:
            cv2.polylines(self.label, [fixed], closed, label, width, shift=_SHIFT)
        if thickness >= 0.9:
            cv2.polylines(self.color, [fixed], closed, tone, width, shift=_SHIFT)
            return
        left, top, right, bottom = window
        mask = np.zeros((bottom - top, right - left), np.float32)
        moved = fixed - np.array([left, top], np.int32) * (1 << _SHIFT)
        cv2.polylines(mask, [moved], closed, thickness, 1, shift=_SHIFT)
        self.blend(left, top, mask, np.array(tone, np.float32))

    def blend(self, left: int, top: int, alpha: np.ndarray, color: np.ndarray) -> None:
        """Blends a color or a picture into a rectangular window of the canvas. Labels do not change.

        Args:
            left: First column of the window.
            top: First row of the window.
            alpha: Opacity in [0, 1], (h, w). The window has the same size and must lie inside the canvas.
            color: Linear RGB, (3,) or (h, w, 3).
        """
        part = self.color[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        part += alpha[:, :, None] * (color - part)

    @staticmethod
    def mask(points: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
        """Returns a binary mask of a polygon, cropped to a window of the canvas.

        Args:
            points: Corners of the polygon in pixels, (n, 2).
            window: Window (left, top, right, bottom) in pixels.

        Returns:
            1 inside the polygon and 0 outside, (h, w), uint8.
        """
        left, top, right, bottom = window
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [_fixed(points)], 1, shift=_SHIFT, offset=(-left << _SHIFT, -top << _SHIFT))
        return mask

    @staticmethod
    def soften(mask: np.ndarray, reach: float) -> np.ndarray:
        """Blurs a mask with a box filter and returns the result as float32.

        ``reach`` is the radius of the box filter in pixels. Radii above 40 pixels are reduced to 40.
        """
        size = 2 * min(round(reach), 40) + 1
        return np.asarray(cv2.blur(mask.astype(np.float32), (size, size)), np.float32)

    def warp(self, texture: np.ndarray, quad: np.ndarray, label: int, depth: float) -> None:
        """Projects a texture onto a quadrilateral and labels the quadrilateral.

        Args:
            texture: Linear RGB before haze, (h, w, 3).
            quad: Corners in pixels, (4, 2): top left, top right, bottom right, bottom left.
            label: TrainId of the quadrilateral.
            depth: Depth of the quadrilateral in meters, for the haze.
        """
        quad = np.clip(np.asarray(quad, np.float32), -_FAR * 4, _FAR * 4)
        window = self.window(quad)
        if window is None:
            return
        left, top, right, bottom = window
        high, wide = texture.shape[:2]
        corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
        shifted = quad - np.array([left, top], np.float32)
        if abs(cv2.contourArea(shifted)) < 0.5:
            return
        matrix = cv2.getPerspectiveTransform(corners, shifted)
        size = (right - left, bottom - top)
        patch = cv2.warpPerspective(
            self.tint(texture, depth), matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [np.round(shifted * (1 << _SHIFT)).astype(np.int32)], 1, shift=_SHIFT)
        cv2.copyTo(patch, mask, self.color[top:bottom, left:right])
        self.label[top:bottom, left:right][mask > 0] = label

    def sprite(
        self,
        alpha: np.ndarray,
        shade: np.ndarray,
        box: tuple[float, float, float, float],
        color: Color,
        label: int,
        depth: float,
        threshold: float = 0.3,
    ) -> None:
        """Pastes a sprite (a small picture with opacity) on the canvas, scaled to the size of a box.

        Args:
            alpha: Opacity of the sprite from 0 to 255, (h, w), uint8.
            shade: Brightness of the sprite, (h, w), uint8. 128 stands for a factor of 1 on ``color``.
            box: Box (left, top, right, bottom) in pixels. Parts outside the canvas are cropped.
            color: Linear RGB before haze.
            label: TrainId of the sprite.
            depth: Depth of the sprite in meters, for the haze.
            threshold: Opacity in [0, 1] above which a pixel is labeled. The opacity is smoothed before the comparison.
        """
        rows, columns = self.label.shape
        left, top, right, bottom = (round(v) for v in box)
        if right - left < 2 or bottom - top < 2:
            return
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, columns), min(bottom, rows)
        if x1 <= x0 or y1 <= y0:
            return
        high, wide = alpha.shape
        step_x, step_y = wide / (right - left), high / (bottom - top)
        sx0, sx1 = int((x0 - left) * step_x), min(wide, int(np.ceil((x1 - left) * step_x)) + 1)
        sy0, sy1 = int((y0 - top) * step_y), min(high, int(np.ceil((y1 - top) * step_y)) + 1)
        way = cv2.INTER_AREA if step_x > 1.2 else cv2.INTER_LINEAR
        size = (x1 - x0, y1 - y0)
        opacity = cv2.resize(alpha[sy0:sy1, sx0:sx1], size, interpolation=way).astype(np.float32) * (1 / 255)
        tone = cv2.resize(shade[sy0:sy1, sx0:sx1], size, interpolation=way).astype(np.float32) * (1 / 128)
        share = self.clear(depth)
        picture = tone[:, :, None] * (np.asarray(color, np.float32) * share) + self.haze * (1 - share)
        self.blend(x0, y0, opacity, picture)
        reach = max(1, round((right - left) / 40)) * 2 + 1
        wide_alpha = cv2.blur(opacity, (reach, reach))
        self.label[y0:y1, x0:x1][np.maximum(wide_alpha, opacity * 0.6) > threshold] = label
