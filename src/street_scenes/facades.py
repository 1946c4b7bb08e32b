"""Facade textures: brick or plastered walls, windows, doors and shop fronts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from street_scenes import noise, paint
from street_scenes.looks import chance, pick


@dataclass(frozen=True)
class Style:
    """The style of a house's facade. Albedos are linear RGB, (3,).

    Attributes:
        wall: Albedo of the wall.
        brick: Whether the wall is made of bricks.
        trim: Albedo of frames, sills and cornices.
        glass: Albedo of window panes.
        floor: Height of a floor in meters.
        bay: Horizontal distance between the centers of windows in meters.
        window: Width of a window as a fraction of ``bay``, and height of a window as a fraction of ``floor``.
        ground: Kind of ground floor: ``shop``, ``house``, ``office`` or ``blank``.
        ribbon: Whether the windows of a floor form one horizontal band.
        lit: Fraction of windows that are lit from inside.
    """

    wall: np.ndarray
    brick: bool
    trim: np.ndarray
    glass: np.ndarray
    floor: float
    bay: float
    window: tuple[float, float]
    ground: str
    ribbon: bool
    lit: float = 0.0


def draw_style(rng: np.random.Generator, town: bool, saturation: float, lit: float = 0.0) -> Style:
    """Samples the style of a house's facade.

    Args:
        rng: Random generator.
        town: Whether the house stands in a town, where most ground floors are shops.
        saturation: Factor on the color saturation of the wall.
        lit: Fraction of windows that are lit from inside.
    """
    wall, brick = paint.wall(rng)
    trim = (
        paint.hsv(45, 0.05, rng.uniform(0.7, 0.95))
        if chance(rng, 0.65)
        else paint.hsv(rng.uniform(0, 360), 0.3, 0.25)
    )
    glass = paint.hsv(rng.uniform(190, 240), rng.uniform(0.0, 0.3), rng.uniform(0.05, 0.36))
    ground = ("shop", "house", "office", "blank")[
        pick(rng, (0.6, 0.2, 0.13, 0.07) if town else (0.06, 0.8, 0.06, 0.08))
    ]
    ribbon = chance(rng, 0.16 if town else 0.05)
    window = (1.0 if ribbon else rng.uniform(0.36, 0.72), rng.uniform(0.42, 0.72))
    floor = rng.uniform(2.6, 3.8)
    return Style(
        paint.saturate(wall, saturation), brick, trim, glass, float(floor), float(rng.uniform(1.5, 3.4)),
        (float(window[0]), float(window[1])), ground, ribbon, lit,
    )  # fmt: skip


def texture(rng: np.random.Generator, style: Style, width: float, height: float, scale: float) -> np.ndarray:
    """Generates the texture of a facade.

    Args:
        rng: Random generator for the details of the facade.
        style: Style of the house.
        width: Width of the facade in meters.
        height: Height of the facade in meters.
        scale: Resolution in pixels per meter.

    Returns:
        Albedos, (rows, columns, 3), float32. The last row is at street level.
    """
    rows, columns = max(4, round(height * scale)), max(4, round(width * scale))
    picture = _wall(rng, style, rows, columns, scale)
    base = min(rows, round((style.floor * (1.12 if style.ground == "shop" else 1.0)) * scale))
    upper = rows - base
    floors = max(1, round(upper / scale / style.floor)) if upper > 1.5 * scale else 0
    if floors and scale >= 2 and style.ground != "blank":
        bays = max(1, round(width / style.bay))
        _windows(rng, style, picture[: rows - base], floors, bays)
    if style.ground == "shop":
        _shop(rng, style, picture[rows - base :], scale)
    elif style.ground in ("house", "office"):
        bays = max(1, round(width / style.bay))
        _windows(rng, style, picture[rows - base :], 1, bays)
        if style.ground == "house":
            _doors(rng, style, picture[rows - base :], bays, scale)
    if chance(rng, 0.6):
        thick = max(1, round(rng.uniform(0.12, 0.4) * scale))
        picture[:thick] = style.trim * np.float32(rng.uniform(0.5, 1.0))
    if chance(rng, 0.5) and upper > 0:
        row, thick = rows - base - max(1, round(0.15 * scale)), max(1, round(0.15 * scale))
        picture[max(0, row) : row + thick] *= np.float32(rng.uniform(0.6, 1.4))
    if scale > 3:
        _details(rng, style, picture, scale)
    if chance(rng, 0.4):  # downspout
        at = int(rng.integers(columns))
        picture[: rows - 1, at : at + max(1, round(0.1 * scale))] *= np.float32(0.45)
    return picture


def _details(rng: np.random.Generator, style: Style, picture: np.ndarray, scale: float) -> None:
    """Paints small details on a facade in place: pilasters at both ends, boxes, plates, vents and stains."""
    rows, columns = picture.shape[:2]
    if chance(rng, 0.35):
        wide = max(1, round(rng.uniform(0.15, 0.5) * scale))
        tone = style.trim * np.float32(rng.uniform(0.4, 0.9))
        picture[:, :wide] = tone
        picture[:, max(0, columns - wide) :] = tone
    for _ in range(int(rng.poisson(columns / scale / 4))):
        high, wide = (max(1, round(float(v) * scale)) for v in rng.uniform(0.12, 0.9, 2))
        top, left = int(rng.integers(max(1, rows - high))), int(rng.integers(max(1, columns - wide)))
        part = picture[top : top + high, left : left + wide]
        if chance(rng, 0.88):
            part *= np.float32(rng.uniform(0.45, 1.5))
        else:
            part[:] = paint.sign(rng)


def _wall(rng: np.random.Generator, style: Style, rows: int, columns: int, scale: float) -> np.ndarray:
    stains = noise.crop(rng, "cloud", rows, columns, scale / 12)
    fine = noise.crop(rng, "grain", rows, columns, 1.0)
    tone = 1 + 0.1 * stains + 0.05 * fine
    if scale > 4:  # vertical streaks, as from rain
        tone += 0.05 * noise.crop(rng, "mottle", rows, columns, (scale / 3, scale / 16))
    if style.brick and scale > 9:
        course = max(2, round(0.09 * scale))
        joint = np.ones(rows, np.float32)
        joint[::course] = rng.uniform(0.75, 1.3)
        tone = tone * joint[:, None]
    depth = np.linspace(1.04, 0.86, rows, dtype=np.float32)[:, None]
    return (np.clip(tone * depth, 0.3, 2)[:, :, None] * style.wall).astype(np.float32)


def _windows(rng: np.random.Generator, style: Style, part: np.ndarray, floors: int, bays: int) -> None:
    """Paints a grid of windows on a part of a facade, in place.

    All windows have the same shape. The brightness of the panes differs at random.
    """
    rows, columns = part.shape[:2]
    high, wide = rows // floors, columns // bays
    if high < 4 or wide < 3:
        part *= np.float32(0.8)
        return
    left, right = round(wide * (0.5 - style.window[0] / 2)), round(wide * (0.5 + style.window[0] / 2))
    if style.ribbon:
        left, right = 0, wide
    top = round(high * (0.55 - style.window[1] / 2))
    bottom = round(high * (0.55 + style.window[1] / 2))
    if right - left < 2 or bottom - top < 2:
        return
    cell = np.full((high, wide), 0, np.uint8)  # 0 wall, 1 frame, 2 pane, 3 sill
    frame = max(1, round(0.045 * high)) if high >= 9 else 0
    if chance(rng, 0.6):
        cell[bottom : bottom + frame, max(0, left - frame) : right + frame] = 3
    if chance(rng, 0.4):
        cell[max(0, top - frame) : top, max(0, left - frame) : right + frame] = 3
    cell[top:bottom, left:right] = 1
    cell[top + frame : bottom - frame, left + (not style.ribbon) * frame : right - frame] = 2
    if high > 16:
        if chance(rng, 0.7):
            cell[(top + bottom) // 2, left:right] = 1
        if chance(rng, 0.6):
            cell[top:bottom, (left + right) // 2] = 1
    grid = np.tile(cell, (floors, bays))
    above = part[: grid.shape[0], : grid.shape[1]]
    panes = np.exp(0.45 * rng.standard_normal((floors, bays))).astype(np.float32)
    curtains = rng.random((floors, bays)) < 0.15
    panes[curtains] = rng.uniform(2.5, 5.0)
    glow: np.ndarray = cv2.resize(panes, (wide * bays, high * floors), interpolation=cv2.INTER_NEAREST)
    glow *= np.tile(np.linspace(1.5, 0.6, high, dtype=np.float32), floors)[:, None]
    if high > 10:
        glow *= 1 + 0.25 * noise.crop(rng, "mottle", grid.shape[0], grid.shape[1], high / 10)
    glass = np.minimum(np.maximum(glow, 0.15), 6)[:, :, None] * style.glass
    if style.lit > 0:
        lamps = rng.random((floors, bays)) < style.lit
        light = (lamps * rng.uniform(2, 9, (floors, bays))).astype(np.float32)
        behind = cv2.resize(light, (wide * bays, high * floors), interpolation=cv2.INTER_NEAREST)
        glass += behind[:, :, None] * paint.hsv(rng.uniform(25, 50), rng.uniform(0.2, 0.6), 1.0)
    cv2.copyTo(glass, np.asarray(grid == 2, np.uint8), above)
    frames = np.tile(
        (np.take((0.0, 1.0, 0.0, 0.8), cell)[:, :, None] * style.trim).astype(np.float32), (floors, bays, 1)
    )
    cv2.copyTo(frames, np.asarray((grid == 1) | (grid == 3), np.uint8), above)


def _doors(rng: np.random.Generator, style: Style, part: np.ndarray, bays: int, scale: float) -> None:
    rows, columns = part.shape[:2]
    if rows < 6:
        return
    wide, high = max(2, round(0.95 * scale)), min(rows, round(2.15 * scale))
    for _ in range(max(1, bays // 4)):
        at = int(rng.integers(0, max(1, columns - wide)))
        part[rows - high :, at : at + wide] = style.trim
        inset = max(1, round(0.08 * scale))
        part[rows - high + inset :, at + inset : at + wide - inset] = paint.sign(rng)


def _shop(rng: np.random.Generator, style: Style, part: np.ndarray, scale: float) -> None:
    """Paints a row of shop fronts on the ground floor of a facade, in place.

    A shop front consists of a sign and of window panes between posts. Some shop fronts have a doorway or an awning.
    """
    rows, columns = part.shape[:2]
    at = 0
    while at < columns:
        wide = min(columns - at, max(3, round(rng.uniform(3.5, 8.5) * scale)))
        shop = part[:, at : at + wide]
        color = paint.sign(rng)
        board = max(1, round(rng.uniform(0.16, 0.26) * rows))
        sill = max(0, round(rng.uniform(0.0, 0.2) * rows))
        shop[:] = (
            color * np.float32(rng.uniform(0.5, 1.0)) if chance(rng, 0.6) else style.trim * np.float32(0.7)
        )
        shop[:board] = color
        if board * 0.5 > 2:
            _lettering(rng, shop[:board])
        pane = shop[board + 1 : rows - sill]
        if pane.shape[0] > 2 and wide > 4:
            dark = paint.hsv(rng.uniform(20, 240), rng.uniform(0, 0.3), rng.uniform(0.06, 0.35))
            goods = noise.crop(rng, "mottle", pane.shape[0], pane.shape[1], (scale / 7, scale / 14))
            view = dark * np.clip(1 + 0.8 * goods, 0.2, 4)[:, :, None]
            if chance(rng, 0.35):
                view[pane.shape[0] // 3 :] += (
                    np.clip(goods[pane.shape[0] // 3 :, :, None], 0, 1) * paint.cloth(rng) * 0.6
                )
            step = max(3, round(rng.uniform(0.9, 2.4) * scale))
            posts = (np.arange(wide) % step) < max(1, round(0.07 * scale))
            cv2.copyTo(view.astype(np.float32), np.repeat(~posts[None], len(pane), 0).astype(np.uint8), pane)
            if chance(rng, 0.5) and step * 2 < wide:  # recessed, darker doorway
                start = step * int(rng.integers(0, max(1, wide // step - 1)))
                shop[board + 1 :, start : start + step] *= np.float32(rng.uniform(0.25, 0.7))
        if chance(rng, 0.2):  # awning
            shop[board : board + max(1, rows // 7)] = paint.sign(rng)
        at += wide + max(0, round(0.15 * scale))


def _lettering(rng: np.random.Generator, board: np.ndarray) -> None:
    rows, columns = board.shape[:2]
    tone = paint.hsv(50, 0.1, 0.92) if float(board.mean()) < 0.35 else paint.hsv(220, 0.4, 0.15)
    high = rows * rng.uniform(0.35, 0.6)
    x, end = columns * rng.uniform(0.08, 0.35), columns * rng.uniform(0.65, 0.92)
    top = (rows - high) / 2
    canvas = np.ascontiguousarray(board)
    while x < end:
        wide = high * rng.uniform(0.35, 0.75)
        for _ in range(2):
            a = (int((x + rng.random() * wide) * 8), int((top + rng.random() * high * 0.3) * 8))
            b = (int((x + rng.random() * wide) * 8), int((top + high * rng.uniform(0.6, 1)) * 8))
            cv2.line(canvas, a, b, [float(c) for c in tone], max(1, round(high * 0.14)), cv2.LINE_8, 3)
        x += wide * rng.uniform(1.1, 1.35)
    board[:] = canvas
