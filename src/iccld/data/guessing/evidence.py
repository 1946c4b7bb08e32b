"""What a sample of the label maps holds: ids or colors, how often and where in the image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from iccld.data.image_files import Color, is_gray, is_red, label_pixels, open_label, read_label
from iccld.data.softness import REMEDY, Softness, judge
from iccld.errors import InputError

NUM_SAMPLES = 64
"""Label maps that are read: they are spread over the set, and reading takes a second or two."""
_MOST_PIXELS = 60_000_000
_MOST_COLORS = 254
_FAR = 40
"""Difference of two values from which they are black and a gray, not two ids."""


@dataclass
class Evidence:
    """What was found in the label maps that were read.

    Attributes:
        num_files: label maps there are.
        num_read: label maps that were read.
        num_gray: those among them that have one channel in the file.
        ids: id → pixels, for maps of one channel.
        rows: id → mean row of its pixels, 0 (top) to 1 (bottom).
        colors: RGB color → pixels, for maps of three channels.
        palette: id → color, where the files have a palette.
        red: id → pixels, for maps of three channels with red alone, until ``colors`` or ``ids`` take them.
        soft: the files that are soft, see ``iccld.data.softness``, and why.
        hard: the ids of the files that are not soft.
        levels: where soft maps were read as one of two gray values, the nearer one: these two.
        fault: why a file cannot be a label map; empty if all can.
    """

    num_files: int = 0
    num_read: int = 0
    num_gray: int = 0
    ids: Counter[int] = field(default_factory=Counter)
    rows: dict[int, float] = field(default_factory=dict)
    colors: Counter[Color] = field(default_factory=Counter)
    palette: dict[int, Color] = field(default_factory=dict)
    red: Counter[int] = field(default_factory=Counter)
    soft: list[tuple[Path, Softness]] = field(default_factory=list)
    hard: set[int] = field(default_factory=set)
    levels: tuple[int, int] | None = None
    fault: str = ""

    def judge(self, path: Path, pixels: np.ndarray) -> None:
        """Keeps a file that is soft."""
        softness = judge(pixels)
        if softness is not None:
            self.soft.append((path, softness))
        elif pixels.ndim == 2:
            self.hard.update(np.flatnonzero(np.bincount(pixels.ravel())).tolist())


def read_evidence(files: Sequence[Path], count: int = NUM_SAMPLES) -> Evidence:
    """Reads up to ``count`` label maps, spread over the files; fewer where they are huge."""
    evidence = Evidence(len(files))
    sums: defaultdict[int, float] = defaultdict(float)
    pixels = 0
    num = min(count, len(files))
    for step in _spread_order(num):
        path = files[step * len(files) // num]
        if pixels > _MOST_PIXELS:
            break
        try:
            pixels += _read(path, evidence, sums)
        except InputError as error:
            evidence.fault = evidence.fault or str(error)
            continue
        evidence.num_read += 1
        if len(evidence.colors) > _MOST_COLORS or len(evidence.ids) > _MOST_COLORS + 2:
            kinds, most = ("colors", len(evidence.colors)) if evidence.colors else ("ids", len(evidence.ids))
            if not any(softness.levels for _, softness in evidence.soft):
                evidence.fault = (
                    f"{path}: there are {most} {kinds}, as in photographs, smoothed or instance masks"
                )
            break
    evidence.rows = {i: sums[i] / evidence.ids[i] for i in evidence.ids}
    if evidence.colors:  # some of the color-coded maps show red classes alone
        evidence.colors.update({(i, 0, 0): count for i, count in evidence.red.items()})
    else:
        evidence.ids.update(evidence.red)
    if evidence.colors and not evidence.num_gray:
        # Color-coded maps that show black or gray classes alone.
        evidence.colors.update({(i, i, i): count for i, count in evidence.ids.items()})
        evidence.ids.clear()
    if evidence.soft and not evidence.fault:
        _heal(evidence)
    return evidence


def _heal(evidence: Evidence) -> None:
    """Reads soft maps of two gray values, one of them black, by the nearer value; others are at fault.

    Where there are two values alone, whatever lies between can only be one of them.
    """
    levels = {level for _, softness in evidence.soft for level in softness.levels if isinstance(level, int)}
    levels |= evidence.hard
    low, high = min(levels, default=0), max(levels, default=0)
    reach = (high - low) // 8
    alike = all(level - low <= reach or high - level <= reach for level in levels)
    if not evidence.colors and alike and low < _FAR / 2 < _FAR <= high - low and high < 256:
        evidence.levels = 0, high
        bright = sum(count for i, count in evidence.ids.items() if 2 * i > high)
        evidence.ids = Counter({0: sum(evidence.ids.values()) - bright, high: bright})
        return
    path, softness = evidence.soft[0]
    more = f" (so do {len(evidence.soft) - 1} others)" if len(evidence.soft) > 1 else ""
    evidence.fault = f"{path}: {softness.text}{more}; {REMEDY}"


def _spread_order(count: int) -> list[int]:
    """0 … count − 1, coarsely spread ones first, so that any beginning covers the whole."""
    order: list[int] = []
    stride = 1 << max(0, count - 1).bit_length()
    while stride >= 1:
        order += [i for i in range(0, count, stride) if i not in order]
        stride //= 2
    return order


def _read(path: Path, evidence: Evidence, sums: defaultdict[int, float]) -> int:
    """Adds one file to the evidence; returns its pixels."""
    with open_label(path) as (image, header):
        palette = _palette(image)
        if image.mode not in ("RGB", "RGBA", "RGBX"):
            evidence.num_gray += 1
        elif header.bits != 16:  # SYNTHIA's files of 16 bits hold ids
            rgb = label_pixels(path, image)
            if not is_gray(rgb):
                evidence.judge(path, rgb)
                if is_red(rgb):
                    evidence.red.update(_counts(rgb[..., 0]))
                else:
                    _count_colors(rgb, evidence)
                return rgb.shape[0] * rgb.shape[1]
    raw = read_label(path)
    shown = np.array(palette, np.uint8)[raw] if palette and raw.max(initial=0) < len(palette) else raw
    evidence.judge(path, shown)
    counts = _counts(raw)
    evidence.ids.update(counts)
    evidence.palette.update({raw_id: palette[raw_id] for raw_id in counts if raw_id < len(palette)})
    rows = np.broadcast_to((np.arange(raw.shape[0]) + 0.5)[:, None] / raw.shape[0], raw.shape)
    weighted = np.bincount(raw.ravel(), rows.ravel())
    for raw_id in counts:
        sums[raw_id] += float(weighted[raw_id])
    return int(raw.size)


def _counts(raw: np.ndarray) -> dict[int, int]:
    counts = np.bincount(raw.ravel())
    return {i: int(counts[i]) for i in np.flatnonzero(counts).tolist()}


def _palette(image: Image.Image) -> list[Color]:
    """The colors of a palette file; none of others."""
    flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3)]


def _count_colors(rgb: np.ndarray, evidence: Evidence) -> None:
    packed = (rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)).ravel()
    # Label maps are flat: runs of one color are counted at their ends, which leaves little to sort.
    ends = np.flatnonzero(np.append(packed[1:] != packed[:-1], True))
    lengths = np.diff(ends, prepend=-1)
    values, places = np.unique(packed[ends], return_inverse=True)
    counts = np.bincount(places, lengths)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        evidence.colors[(value >> 16, value >> 8 & 255, value & 255)] += int(count)
